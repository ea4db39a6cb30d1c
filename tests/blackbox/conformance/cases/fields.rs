//! Header lines: `name: value CRLF`, each on a line of its own (RFC 9112 §5).

use super::super::case::{Case, Genuine, bad, good};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, lines) in [
        ("a folded line with a space", "X-A: 1\r\n 2\r\n"),
        ("a folded line with a tab", "X-A: 1\r\n\t2\r\n"),
        ("a folded line of white space only", "X-A: 1\r\n  \r\n"),
        ("a line without a colon", "X-A\r\n"),
        ("a line without a name", ": 1\r\n"),
        ("a space in a name", "X A: 1\r\n"),
        ("a space before the colon", "X-A : 1\r\n"),
        ("a tab before the colon", "X-A\t: 1\r\n"),
        ("a space before a name", " X-A: 1\r\n"),
        ("NUL in a value", "X-A: 1\0\r\n"),
        ("NUL in a name", "X\0A: 1\r\n"),
        ("a bare carriage return in a value", "X-A: 1\r2\r\n"),
        ("a bare carriage return before the line end", "X-A: 1\r\r\n"),
        ("a bare carriage return in a name", "X\rA: 1\r\n"),
        ("a bare line feed between fields", "X-A: 1\nX-B: 2\r\n"),
        ("a name beyond ASCII", "X-Ä: 1\r\n"),
        ("a quoted name", "\"X-A\": 1\r\n"),
        ("a name with a parenthesis", "X(A): 1\r\n"),
        ("a name with a slash", "X/A: 1\r\n"),
        ("a name with a semicolon", "X;A: 1\r\n"),
        ("a control character in a value", "X-A: \u{1}\r\n"),
        ("ESC in a value", "X-A: \u{1b}[2J\r\n"),
        ("DEL in a value", "X-A: \u{7f}\r\n"),
        ("a request line among the fields", "GET / HTTP/1.1\r\n"),
    ] {
        cases.push(bad(what, Genuine::new().with(lines)));
    }
    cases.push(bad("only bare line feeds", Genuine::new().with("").replace("\r\n", "\n")));
    cases.push(bad("an empty line of a bare line feed", Genuine::new().with("X-A: 1\r\n\n")));
    cases.push(bad("a white-space line behind the request line", {
        Genuine::new().with("").replacen("\r\n", "\r\n \r\n", 1)
    }));
    for (what, lines) in [
        ("an empty value", "X-A:\r\n"),
        ("a value of white space", "X-A: \t \r\n"),
        ("a value with a tab", "X-A: a\tb\r\n"),
        ("a value beyond ASCII", "X-A: \u{e9}\r\n"),
        ("every character that a name may have", "!#$%&'*+-.^_`|~09azAZ: 1\r\n"),
        ("a value with colons", "X-A: b: c\r\n"),
        ("the same field many times", "X-A: 1\r\nX-A: 2\r\nx-a: 3\r\n"),
    ] {
        let genuine = Genuine::new();
        cases.push(good(what, &genuine, genuine.with(lines)));
    }
    cases
}
