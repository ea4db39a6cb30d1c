//! Texts to values, and values back to the text that a person would write.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;

use super::problem::Fault;

/// Longest value that an error text repeats, characters.
const SHOWN_MAX_CHARS: usize = 80;
/// Longest path of a unix socket: `sun_path` without its final NUL (unix(7)).
const UNIX_PATH_MAX_BYTES: usize = 107;

/// A value as error texts repeat it: in backquotes and never long. Not for secrets.
pub fn shown(text: &str) -> String {
    if text.chars().count() <= SHOWN_MAX_CHARS {
        return format!("`{text}`");
    }
    let start: String = text.chars().take(SHOWN_MAX_CHARS).collect();
    format!("`{start}…`")
}

/// `300s`, `5m`, `1h 30m`, `500ms`.
///
/// # Errors
/// Not a duration, or out of range.
pub fn parse_duration(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, Fault> {
    let mend = || {
        format!(
            "write a duration from {} to {}, such as 300s, 5m or 72h",
            duration_text(*range.start()),
            duration_text(*range.end())
        )
    };
    // A bare zero is a duration for humantime; any other number needs its unit.
    let duration = humantime::parse_duration(text)
        .map_err(|_| Fault::new(format!("{} is not a duration", shown(text)), mend()))?;
    if range.contains(&duration) {
        Ok(duration)
    } else {
        Err(Fault::new(format!("{} is out of range", shown(text)), mend()))
    }
}

/// `64KiB`, `1GiB`, `1048576`.
///
/// # Errors
/// Not a size, or out of range.
pub fn parse_bytes(text: &str, range: &RangeInclusive<u64>) -> Result<u64, Fault> {
    let mend = || {
        format!(
            "write a size from {} to {}, such as 64KiB or 1GiB",
            bytes_text(*range.start()),
            bytes_text(*range.end())
        )
    };
    let size = ByteSize::from_str(text).map_err(|_| Fault::new(format!("{} is not a size", shown(text)), mend()))?;
    if range.contains(&size.0) {
        Ok(size.0)
    } else {
        Err(Fault::new(format!("{} is out of range", shown(text)), mend()))
    }
}

/// So much of a hundred parts: `10%`; `None` if it is not written so.
///
/// # Errors
/// Not a whole number, or more than `most`.
pub fn parse_percent(text: &str, most: u8) -> Option<Result<u8, Fault>> {
    let number = text.strip_suffix('%')?.trim();
    let percent = number.parse().ok().filter(|percent| *percent <= most);
    let fault = || Fault::new(format!("{} is not a share", shown(text)), format!("write 0% to {most}%, or a size"));
    Some(percent.ok_or_else(fault))
}

/// A whole number.
///
/// # Errors
/// Not a number, or out of range.
pub fn parse_count(text: &str, range: &RangeInclusive<usize>) -> Result<usize, Fault> {
    let mend = || format!("write a whole number from {} to {}", range.start(), range.end());
    let count = text.parse().map_err(|_| Fault::new(format!("{} is not a whole number", shown(text)), mend()))?;
    if range.contains(&count) { Ok(count) } else { Err(Fault::new(format!("{} is out of range", shown(text)), mend())) }
}

/// What leaves a bound to hookward.
pub const AUTO: &str = "auto";

/// `auto`, which is `None`, or a value that `parse` understands.
///
/// # Errors
/// Those of `parse`.
pub fn parse_or_auto<T>(text: &str, parse: impl FnOnce(&str) -> Result<T, Fault>) -> Result<Option<T>, Fault> {
    if text == AUTO {
        return Ok(None);
    }
    parse(text).map(Some).map_err(|fault| Fault::new(fault.what, format!("{}, or {AUTO}", fault.mend)))
}

/// `off`, or what YAML 1.1 makes of it: Helm, Kustomize and the like read `off` as a boolean and
/// write `false`.
pub fn is_off(text: &str) -> bool {
    matches!(text, "off" | "false")
}

/// `50/s`, or `off`, which is `None`.
///
/// # Errors
/// Not a rate, or out of range.
pub fn parse_rate_per_s(text: &str, range: &RangeInclusive<u32>) -> Result<Option<NonZeroU32>, Fault> {
    if is_off(text) {
        return Ok(None);
    }
    let mend = || format!("write a rate from {}/s to {}/s, or off", range.start(), range.end());
    let number = text.strip_suffix("/s").and_then(|number| number.trim().parse().ok());
    let number = number.ok_or_else(|| Fault::new(format!("{} is not a rate", shown(text)), mend()))?;
    match NonZeroU32::new(number).filter(|rate| range.contains(&rate.get())) {
        Some(rate) => Ok(Some(rate)),
        None => Err(Fault::new(format!("{} is out of range", shown(text)), mend())),
    }
}

/// One of several names.
///
/// # Errors
/// None of them.
pub fn parse_choice<T: Copy>(text: &str, choices: &[(&'static str, T)]) -> Result<T, Fault> {
    let is_meant = |name: &str| name == text || (name == "off" && is_off(text));
    let found = choices.iter().find(|(name, _)| is_meant(name)).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        Fault::new(format!("{} is not known here", shown(text)), format!("write {}", or(&names)))
    })
}

/// `a`, `a or b`, `a, b or c`.
pub fn or(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
    }
}

/// A duration in its largest whole unit: `5m`, `72h`, `75s`.
pub fn duration_text(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0 => "0s".to_owned(),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
        _ => format!("{ms}ms"),
    }
}

/// A size in its largest whole unit: `64KiB`, `1GiB`.
pub fn bytes_text(bytes: u64) -> String {
    let (amount, unit) = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift))
        .map_or((bytes, "B"), |(shift, unit)| (bytes >> shift, unit));
    format!("{amount}{unit}")
}

/// The closest of the known words, if close enough to be a slip.
pub fn did_you_mean<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // The distance costs length times length; no key is as long as this.
    if word.len() > 64 {
        return None;
    }
    let close = |candidate: &&str| distance(word, candidate) <= candidate.len().div_ceil(3);
    known.filter(close).min_by_key(|candidate| distance(word, candidate))
}

/// How many letters to add, drop or change (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// An IP address and a port to listen on.
///
/// # Errors
/// Not an IP address with a port.
pub fn parse_listen(text: &str) -> Result<std::net::SocketAddr, Fault> {
    text.parse().map_err(|_| {
        let mend = match text.strip_prefix(':').or(text.strip_prefix("*:")).map(u16::from_str) {
            Some(Ok(port)) => format!("write 0.0.0.0:{port}, or [::]:{port} for IPv6 too"),
            _ => "write an IP address with a port, such as 0.0.0.0:8080 or [::1]:8080; port 0 takes any".to_owned(),
        };
        Fault::new(format!("{} is not an address to listen on", shown(text)), mend)
    })
}

/// The path of `unix:/path`; `None` if it is something else.
///
/// # Errors
/// A path that no socket can have.
pub fn parse_unix(text: &str) -> Option<Result<std::path::PathBuf, Fault>> {
    let path = text.strip_prefix("unix:")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    let names_a_file = path.starts_with('/') && !path.ends_with('/') && !path.contains([',', '\0']);
    Some(if !names_a_file {
        Err(Fault::new(
            format!("{} is not the path of a socket", shown(text)),
            "write an absolute path without commas, such as unix:/run/hookward/in.sock",
        ))
    } else if path.len() > UNIX_PATH_MAX_BYTES {
        Err(Fault::new(
            format!("{} is longer than the {UNIX_PATH_MAX_BYTES} bytes that a socket's path may have", shown(text)),
            "choose a shorter one",
        ))
    } else {
        Ok(path.into())
    })
}

/// An octal file mode of a socket, `0660`.
///
/// # Errors
/// Not three octal digits, with or without a zero in front.
pub fn parse_socket_mode(text: &str) -> Result<u32, Fault> {
    let digits = text.strip_prefix("0o").or(text.strip_prefix('0').filter(|rest| rest.len() == 3)).unwrap_or(text);
    let mode = u32::from_str_radix(digits, 8).ok().filter(|_| digits.len() == 3 && !digits.starts_with('+'));
    mode.ok_or_else(|| {
        Fault::new(
            format!("{} is not a file mode", shown(text)),
            "write octal digits in quotes, such as \"0660\" for the user and the group",
        )
    })
}

/// Something that must not be empty, up to 1,024 characters, without control characters.
///
/// # Errors
/// Otherwise.
pub fn parse_text(text: &str) -> Result<String, Fault> {
    if text.is_empty() || text.len() > 1024 || text.chars().any(char::is_control) {
        return Err(Fault::new("is empty, too long or has control characters", "write 1 to 1024 printable characters"));
    }
    Ok(text.to_owned())
}

/// A name that stands in metrics and logs.
///
/// # Errors
/// Not 1 to 64 of `a-z`, `0-9`, `_`, `-`, beginning with a letter or digit.
pub fn parse_name(text: &str) -> Result<String, Fault> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if text.starts_with(plain) && text.len() <= 64 && text.chars().all(|c| plain(c) || c == '_' || c == '-') {
        return Ok(text.to_owned());
    }
    Err(Fault::new(
        format!("{} is not a name", shown(text)),
        "write 1 to 64 of a-z, 0-9, _ and -, beginning with a letter or digit",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn durations_need_a_unit_and_keep_to_their_range() {
        let range = Duration::from_secs(1)..=HOUR * 72;
        for (text, seconds) in
            [("300s", 300), ("5m", 300), ("72h", 259_200), ("1h 30m", 5400), ("1s", 1), ("1000ms", 1)]
        {
            assert_eq!(parse_duration(text, &range).unwrap().as_secs(), seconds, "{text}");
        }
        for text in ["", "300", "0s", "0", "999ms", "73h", "-5m", "5 parsecs", "99999999999999999999h", "5M"] {
            let fault = parse_duration(text, &range).unwrap_err();
            assert!(fault.mend.contains("from 1s to 72h"), "{text}: {fault:?}");
        }
    }

    #[test]
    fn sizes_are_plain_or_with_a_unit() {
        let range = 1024..=1 << 40;
        for (text, bytes) in
            [("64KiB", 65536), ("1GiB", 1 << 30), ("1048576", 1 << 20), ("1.5 KiB", 1536), ("2kB", 2000)]
        {
            assert_eq!(parse_bytes(text, &range), Ok(bytes), "{text}");
        }
        for text in ["", "1023", "2TiB", "-1", "1 elephant", "NaN", "."] {
            assert!(parse_bytes(text, &range).unwrap_err().mend.contains("from 1KiB to 1TiB"), "{text}");
        }
    }

    #[test]
    fn what_is_formatted_reads_back() {
        for text in ["0s", "500ms", "75s", "5m", "72h", "336h"] {
            assert_eq!(duration_text(parse_duration(text, &(Duration::ZERO..=HOUR * 9999)).unwrap()), text);
        }
        for text in ["0B", "1B", "8KiB", "1MiB", "1GiB", "16TiB"] {
            assert_eq!(bytes_text(parse_bytes(text, &(0..=u64::MAX)).unwrap()), text);
        }
    }

    #[test]
    fn a_slip_is_suggested_and_a_stranger_is_not() {
        let known = ["header_timeout", "body_timeout", "idle_timeout", "url"];
        let suggested = |word| did_you_mean(word, known.into_iter());
        assert_eq!(suggested("header_timout"), Some("header_timeout"));
        assert_eq!(suggested("uri"), Some("url"));
        assert_eq!(suggested("bodytimeout"), Some("body_timeout"));
        assert_eq!(suggested("colour"), None);
        assert_eq!(suggested(&"x".repeat(5000)), None);
    }

    #[test]
    fn listen_addresses_are_ip_and_port() {
        assert!(parse_listen("[::]:0").is_ok());
        assert!(parse_listen(":8080").unwrap_err().mend.contains("0.0.0.0:8080"));
        assert!(parse_listen("localhost:8080").is_err());
    }

    #[test]
    fn unix_sockets_have_an_absolute_path_that_fits() {
        assert_eq!(parse_unix("unix:/run/in.sock").unwrap().unwrap().as_os_str(), "/run/in.sock");
        assert_eq!(parse_unix("unix:///run/in.sock").unwrap().unwrap().as_os_str(), "/run/in.sock");
        assert_eq!(parse_unix("127.0.0.1:80"), None);
        for bad in ["unix:", "unix:run/in.sock", "unix:/", "unix:/run/", "unix:/a,b", "unix:/a\0"] {
            assert!(parse_unix(bad).unwrap().is_err(), "{bad}");
        }
        let path = |bytes: usize| format!("unix:/{}", "a".repeat(bytes - 1));
        assert!(parse_unix(&path(107)).unwrap().is_ok());
        assert!(parse_unix(&path(108)).unwrap().unwrap_err().what.contains("longer than the 107 bytes"));
    }

    #[test]
    fn modes_are_three_octal_digits() {
        for (text, mode) in [("0660", 0o660), ("660", 0o660), ("0o600", 0o600), ("000", 0), ("0777", 0o777)] {
            assert_eq!(parse_socket_mode(text), Ok(mode), "{text}");
        }
        for text in ["", "0", "66", "0680", "4755", "1777", "00660", "u+rw", "+60", "-60", "0x1ff"] {
            assert!(parse_socket_mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_short_and_plain() {
        assert!(parse_name("a").is_ok() && parse_name("0_messaging-2").is_ok() && parse_name(&"a".repeat(64)).is_ok());
        for name in ["", "-a", "_a", "A", "a b", "ä", &"a".repeat(65)] {
            assert!(parse_name(name).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,40}|[0-9.]{0,30}[a-zA-Z ]{0,4}") {
            let _ = parse_duration(&text, &(Duration::ZERO..=HOUR));
            let _ = parse_bytes(&text, &(0..=u64::MAX));
            let _ = parse_count(&text, &(0..=9));
            let _ = parse_listen(&text);
            let _ = parse_unix(&format!("unix:/{text}"));
            let _ = parse_socket_mode(&text);
            let _ = did_you_mean(&text, ["timeout"].into_iter());
        }
    }
}
