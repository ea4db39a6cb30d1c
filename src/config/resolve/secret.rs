//! Secrets and keys, from `value`, `env` or `file`. No text about them repeats them.

use std::path::Path;

use super::Sources;
use crate::config::reader::problem::Fault;
use crate::config::reader::section::Section;

/// Largest file of a secret.
const FILE_MAX_BYTES: u64 = 64 * 1024;

const MEND: &str = "write one of `value:`, `env:` (a variable's name) or `file:`";

/// The text that a section names; `None` if it names none, which is a problem if `required`.
pub(super) fn read(section: &Section<'_>, sources: &Sources<'_>, required: bool) -> Option<String> {
    let value = section.optional_text("value", "The text itself; better one of the other two.");
    let env = section.optional_text("env", "Name of the environment variable that holds it.");
    let file = section.optional_text("file", "File that holds it, at most 64 KiB; a newline at its end is dropped.");
    let (key, text) = match (value, env, file) {
        (Some(value), None, None) => ("value", Ok(value)),
        (None, Some(name), None) => ("env", read_env(&name, sources)),
        (None, None, Some(path)) => ("file", read_file(Path::new(&path), sources)),
        (None, None, None) => {
            // A source that is written badly has been reported.
            if required && !section.is_broken() && !["value", "env", "file"].iter().any(|key| section.has(key)) {
                section.own_fault(Fault::new("has no source", MEND));
            }
            return None;
        }
        _ => {
            section.own_fault(Fault::new("has more than one source", MEND));
            return None;
        }
    };
    match text {
        Ok(text) if !text.trim().is_empty() => Some(text),
        Ok(_) => {
            section.fault(key, Fault::new("is empty", "put the text there, or name another source"));
            None
        }
        Err(fault) => {
            section.fault(key, fault);
            None
        }
    }
}

fn read_env(name: &str, sources: &Sources<'_>) -> Result<String, Fault> {
    // A key pasted behind `env:` must not be shown as a name that is not set.
    if name.is_empty() || name.len() > 128 || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(Fault::new("is not the name of a variable", "write a name such as TELNYX_PUBLIC_KEY"));
    }
    let mend = "set it in the environment of hookward, or use `file:`";
    (sources.env)(name).ok_or_else(|| {
        let shown = if name.len() <= 40 { format!("`{name}`") } else { "the variable".to_owned() };
        Fault::new(format!("{shown} is not set"), mend)
    })
}

/// The text of a file, without the newline at its end.
pub(super) fn read_file(path: &Path, sources: &Sources<'_>) -> Result<String, Fault> {
    let bytes = sources.read_file(path, FILE_MAX_BYTES)?;
    let shown = path.display();
    let mut text = String::from_utf8(bytes)
        .map_err(|_| Fault::new(format!("file {shown} is not text"), "write it as base64 or PEM"))?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

/// A bearer token: it must fit into a header as it is.
pub(super) fn check_token(token: &str) -> Result<(), Fault> {
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Fault::new(
            "is not a token",
            "use printable ASCII without spaces, such as the output of `openssl rand -hex 32`",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::files::FilesRead;
    use crate::config::reader::Reader;
    use crate::config::resolve::Overrides;

    #[test]
    fn a_file_loses_its_newline_and_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let (reader, overrides, files) = (Reader::empty(), Overrides::default(), FilesRead::default());
        let sources = Sources { reader: &reader, overrides: &overrides, env: &|_| None, files: &files };
        let read_file = |path: &Path| read_file(path, &sources);
        let path = dir.path().join("key");
        std::fs::write(&path, "abc\r\n").unwrap();
        assert_eq!(read_file(&path).unwrap(), "abc");
        std::fs::write(&path, vec![b'a'; 64 * 1024 + 1]).unwrap();
        assert!(read_file(&path).unwrap_err().what.contains("larger than 64KiB"));
        std::fs::write(&path, [0xff]).unwrap();
        assert!(read_file(&path).unwrap_err().what.contains("is not text"));
        let missing = read_file(&dir.path().join("missing")).unwrap_err();
        assert!(missing.what.contains("missing cannot be read"), "{missing:?}");
    }
}
