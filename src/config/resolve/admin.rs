//! The admin side and the data directory, for `run` with all the rest, and alone for the commands
//! that talk to a running hookward.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Overrides, SourceFile, Sources, secret};
use crate::config::files::FilesRead;
use crate::config::reader::problem::{Problem, Problems};
use crate::config::reader::schema::Kind;
use crate::config::reader::section::Section;
use crate::config::reader::{Reader, value};
use crate::config::{Admin, Secret};

/// The data directory unless another is named.
pub const DATA_DIR: &str = "/var/lib/hookward";
/// Below this a token can be guessed.
const TOKEN_MIN_CHARS: usize = 16;

/// The admin side of `run`.
pub(super) fn read(root: &Section<'_>, sources: &Sources<'_>, warnings: &mut Vec<String>) -> Admin {
    let default = SocketAddr::from(([127, 0, 0, 1], 9090));
    let (address, written) = written_admin(root, sources, default);
    let from_flag = sources.optional_flag("--admin", sources.overrides.admin.as_ref(), value::parse_listen);
    let token = match (
        &sources.overrides.admin_token_file,
        (sources.env)("HOOKWARD_ADMIN_TOKEN").filter(|token| !token.is_empty()),
    ) {
        (Some(path), _) => {
            let checked =
                secret::read_file(path, sources).and_then(|token| secret::check_token(&token).map(|()| token));
            checked.map_err(|fault| sources.reader.report_flag("--admin-token-file", fault)).ok()
        }
        (None, Some(token)) => sources
            .flag("HOOKWARD_ADMIN_TOKEN", token.trim(), |token| secret::check_token(token).map(|()| token.to_owned())),
        (None, None) => written,
    };
    if token.as_ref().is_some_and(|token| token.len() < TOKEN_MIN_CHARS) {
        warnings.push(format!("admin.token: is shorter than {TOKEN_MIN_CHARS} characters and can be guessed"));
    }
    Admin { address: from_flag.or(address).unwrap_or(default), token: token.map(Secret) }
}

/// Address and token as the file has them.
fn written_admin(
    root: &Section<'_>,
    sources: &Sources<'_>,
    default: SocketAddr,
) -> (Option<SocketAddr>, Option<String>) {
    let section = root.section("admin", "Probes, metrics and the admin API.");
    let address = section.parsed(
        "address",
        Kind::Text,
        Some(default.to_string().into()),
        "IP address and port; port 0 takes any.",
        value::parse_listen,
    );
    let token = section
        .section(
            "token",
            "Bearer token that opens the API over TCP; without one it exists on `<data_dir>/admin.sock` only.",
        )
        .secret();
    (address, token_of(&token, &section, sources))
}

fn token_of(token: &Section<'_>, admin: &Section<'_>, sources: &Sources<'_>) -> Option<String> {
    let text = secret::read(token, sources, admin.has("token"))?;
    secret::check_token(&text).map_err(|fault| token.own_fault(fault)).ok()?;
    Some(text)
}

/// The data directory of `run`.
pub(super) fn data_dir(root: &Section<'_>, sources: &Sources<'_>) -> PathBuf {
    let written = written_data_dir(root);
    sources.overrides.data_dir.clone().or(written).unwrap_or_else(|| PathBuf::from(DATA_DIR))
}

fn written_data_dir(root: &Section<'_>) -> Option<PathBuf> {
    const DOC: &str = "Directory of the buffer and the admin socket.";
    root.parsed("data_dir", Kind::Text, Some(DATA_DIR.into()), DOC, value::parse_text).map(PathBuf::from)
}

/// The keys of a configuration file by which a running hookward is found. No other fault of the
/// file matters: the instance may run with what the file was before.
#[derive(Debug, Default)]
pub struct Whereabouts {
    /// `data_dir`.
    pub data_dir: Option<PathBuf>,
    /// `admin.address`.
    pub admin: Option<SocketAddr>,
    /// `admin.token`.
    pub token: Option<Secret>,
    /// Faults of `data_dir`, or of the text where it hides it.
    pub problems: Option<Problems>,
    /// Faults of `admin`.
    pub admin_problems: Option<Problems>,
}

impl Whereabouts {
    /// Reads them out of a file, as far as it is any good. `env` looks up the variable that
    /// `admin.token.env` names.
    pub fn of(file: &SourceFile, env: &dyn Fn(&str) -> Option<String>) -> Whereabouts {
        let (reader, syntax) = Reader::lenient(&file.text, &["data_dir", "admin"]);
        let (overrides, files) = (Overrides::default(), FilesRead::default());
        let sources = Sources { reader: &reader, overrides: &overrides, env, files: &files };
        let root = reader.root();
        let data_dir = written_data_dir(&root);
        let (admin, token) = written_admin(&root, &sources, SocketAddr::from(([127, 0, 0, 1], 9090)));
        drop(root);
        let (admin_problems, mut problems): (Vec<_>, Vec<_>) =
            reader.into_problems().into_iter().partition(|problem| problem.path.starts_with("admin"));
        problems.retain(|problem| problem.path == "data_dir");
        if data_dir.is_none() {
            problems.extend(syntax);
        }
        let report = |list: Vec<Problem>| (!list.is_empty()).then(|| Problems::new(Some(&file.name), list));
        Whereabouts {
            data_dir,
            admin,
            token: token.map(Secret),
            problems: report(problems),
            admin_problems: report(admin_problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Whereabouts {
        let file = SourceFile { name: "h.yaml".into(), text: text.into() };
        Whereabouts::of(&file, &|name| (name == "TOKEN").then(|| "0123456789abcdef".to_owned()))
    }

    fn dir(text: &str) -> Option<String> {
        of(text).data_dir.map(|dir| dir.display().to_string())
    }

    #[test]
    fn other_faults_of_the_file_do_not_matter() {
        let found =
            of("listn: []\ndata_dir: /data\nroutes: many\nadmin: { address: '127.0.0.1:7', token: { env: TOKEN } }\n");
        assert_eq!(found.data_dir, Some("/data".into()));
        assert_eq!(found.admin, Some("127.0.0.1:7".parse().unwrap()));
        assert_eq!(found.token, Some(Secret("0123456789abcdef".into())));
        assert_eq!((found.problems, found.admin_problems), (None, None));
    }

    #[test]
    fn a_text_that_is_no_yaml_is_read_key_by_key() {
        for broken in [
            "routes: [ { name: a\ndata_dir: /data\n",
            "data_dir: /data\nlimits:\n\tconnections: 5\n",
            "listen: 'unclosed\ndata_dir: \"/data\" # here\nupstream: *nowhere\n",
            "data_dir:\n  /data\nroutes: a: b: c\n",
            "\u{feff}data_dir: /data\n}{\n",
            "data_dir: /data\r\nroutes: ]\r\n",
        ] {
            assert_eq!(dir(broken).as_deref(), Some("/data"), "{broken:?}");
        }
        assert_eq!(dir("limits:\n  data_dir: /data\nroutes: ]\n"), None, "a key of something else");
        assert_eq!(dir("routes: ]\n# data_dir: /data\n"), None, "a comment");
    }

    #[test]
    fn a_fault_that_hides_the_instance_is_reported_without_its_value() {
        let nothing = |found: &Whereabouts| found.data_dir.is_none() && found.admin.is_none() && found.token.is_none();
        for (text, expected) in [
            ("data_dir: [hunter2]\n", "h.yaml:1: data_dir: is a list"),
            ("admin: { token: hunter2 }\n", "h.yaml:1: admin.token: is a text"),
            ("hunter2: [\n", "is not valid YAML"),
        ] {
            let found = of(text);
            let report = found.problems.as_ref().or(found.admin_problems.as_ref()).unwrap().to_string();
            assert!(nothing(&found) && report.contains(expected) && !report.contains("hunter2"), "{report}");
        }
        assert!(nothing(&of("")) && of("").problems.is_none());
    }
}
