//! Where the running hookward is. Flags beat the environment, the environment beats the
//! configuration file, as for `run`.

use std::cell::LazyCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::admin::Trouble;
use super::output::warn;
use super::variable;
use crate::client::Destination;
use crate::config::Secret;
use crate::config::files::FilesRead;
use crate::config::reader::problem::Problems;
use crate::config::reader::value::parse_listen;
use crate::config::resolve::{DATA_DIR, SourceFile, Whereabouts};
use crate::server::ADMIN_SOCKET;

/// The token itself.
pub(super) const TOKEN_ENV: &str = "HOOKWARD_ADMIN_TOKEN";

/// What says where the running hookward is.
#[derive(Debug, clap::Args)]
pub(super) struct InstanceArgs {
    /// Its configuration file, of which only data_dir and admin are read
    #[arg(long, env = "HOOKWARD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its data directory, where the admin socket is [env: HOOKWARD_DATA_DIR] [default: that of the file, else /var/lib/hookward]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Ask over TCP instead: the URL of the admin side, http://host:port
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// File with the bearer token for TCP [env: HOOKWARD_ADMIN_TOKEN, the token itself] [default: that of the file]
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
}

/// Where it is asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) destination: Destination,
    /// As errors name it.
    pub(super) shown: String,
    /// For TCP; the socket needs none.
    pub(super) token: Option<Secret>,
}

impl InstanceArgs {
    /// Looks at flags, environment and file, and connects to nothing.
    pub(super) fn locate(&self) -> Result<Instance, Trouble> {
        self.locate_in(&variable)
    }

    fn locate_in(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Instance, Trouble> {
        // Not looked at where flags say everything.
        let file = LazyCell::new(|| self.read_file(env));
        if let Some(url) = &self.admin {
            let url = if url.contains("://") || url.starts_with("unix:") { url } else { &format!("http://{url}") };
            let destination =
                Destination::parse(url).map_err(|problem| Trouble::Usage(format!("--admin: {problem}")))?;
            let token = match destination {
                Destination::Unix(_) => None,
                Destination::Tcp { .. } => self.token(env, || file_token(&file))?,
            };
            return Ok(Instance { destination, shown: url.clone(), token });
        }
        if let Some(dir) = &self.data_dir {
            return Ok(Instance::on_socket(dir.join(ADMIN_SOCKET)));
        }
        let dir = env("HOOKWARD_DATA_DIR").map(PathBuf::from).or_else(|| {
            warn_of(file.problems.as_ref());
            file.data_dir.clone()
        });
        let socket = dir.unwrap_or_else(|| PathBuf::from(DATA_DIR)).join(ADMIN_SOCKET);
        if !socket.exists() {
            // The data directory may be out of reach: another container's, or none where nothing is stored.
            let address = env("HOOKWARD_ADMIN").and_then(|text| parse_listen(text.trim()).ok()).or_else(|| file.admin);
            if let Some(address) = address.and_then(reachable) {
                let token = self.token(env, || file_token(&file))?;
                let destination = Destination::Tcp { host: address.ip().to_string(), port: address.port(), tls: None };
                let shown = format!("http://{address} (there is no socket {})", socket.display());
                return Ok(Instance { destination, shown, token });
            }
        }
        Ok(Instance::on_socket(socket))
    }

    /// The file's part. A fault of it is a warning where it matters: the instance may run with what the file was before.
    fn read_file(&self, env: &dyn Fn(&str) -> Option<String>) -> Whereabouts {
        let Some(path) = &self.config else { return Whereabouts::default() };
        match SourceFile::read(path, &FilesRead::default()) {
            Ok(file) => Whereabouts::of(&file, env),
            Err(problems) => Whereabouts { problems: Some(problems), ..Whereabouts::default() },
        }
    }

    fn token(
        &self,
        env: &dyn Fn(&str) -> Option<String>,
        written: impl FnOnce() -> Option<Secret>,
    ) -> Result<Option<Secret>, Trouble> {
        let token = match &self.admin_token_file {
            Some(path) => std::fs::read_to_string(path)
                .map(Some)
                .map_err(|error| Trouble::Failed(format!("the token's file {}: {error}", path.display())))?,
            None => env(TOKEN_ENV).or_else(|| written().map(|token| token.0)),
        };
        let token = token.map(|token| token.trim_end_matches(['\r', '\n']).to_owned());
        Ok(token.filter(|token| !token.is_empty()).map(Secret))
    }
}

impl Instance {
    fn on_socket(path: PathBuf) -> Instance {
        Instance { shown: path.display().to_string(), destination: Destination::Unix(path), token: None }
    }
}

fn file_token(file: &Whereabouts) -> Option<Secret> {
    warn_of(file.admin_problems.as_ref());
    file.token.clone()
}

fn warn_of(problems: Option<&Problems>) {
    problems.into_iter().flat_map(Problems::lines).for_each(|line| warn(&line));
}

/// Where a listener on this address is reached from here; `None` if its port is not known.
fn reachable(address: SocketAddr) -> Option<SocketAddr> {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    (address.port() != 0).then_some(SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    struct Case {
        dir: tempfile::TempDir,
        args: InstanceArgs,
        env: Vec<(&'static str, String)>,
    }

    impl Case {
        fn new(yaml: &str) -> Case {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("h.yaml");
            std::fs::write(&file, yaml.replace("DIR", &dir.path().display().to_string())).unwrap();
            let args = InstanceArgs { config: Some(file), data_dir: None, admin: None, admin_token_file: None };
            Case { dir, args, env: Vec::new() }
        }

        fn located(&self) -> Instance {
            let env = |name: &str| self.env.iter().find(|(set, _)| *set == name).map(|(_, value)| value.clone());
            self.args.locate_in(&env).ok().unwrap()
        }

        fn assert_on_socket_in(&self, dir: &Path) {
            let located = self.located();
            assert_eq!(located, Instance::on_socket(dir.join("admin.sock")));
        }
    }

    #[test]
    fn flags_beat_the_environment_and_the_environment_beats_the_file() {
        let mut case = Case::new("data_dir: DIR/file\n");
        case.assert_on_socket_in(&case.dir.path().join("file"));
        case.env.push(("HOOKWARD_DATA_DIR", "/env".into()));
        case.assert_on_socket_in(Path::new("/env"));
        case.args.data_dir = Some("/flag".into());
        case.assert_on_socket_in(Path::new("/flag"));
        case.args.admin = Some("127.0.0.1:7".into());
        assert_eq!(case.located().shown, "http://127.0.0.1:7");
    }

    #[test]
    fn a_file_that_is_missing_or_no_yaml_leaves_the_defaults() {
        let mut case = Case::new("}{");
        case.assert_on_socket_in(Path::new("/var/lib/hookward"));
        case.args.config = Some("/does/not/exist".into());
        case.assert_on_socket_in(Path::new("/var/lib/hookward"));
    }

    #[test]
    fn without_a_socket_it_is_the_admin_address_with_its_token() {
        let yaml = "data_dir: DIR\nadmin: { address: '0.0.0.0:7', token: { value: of-the-file } }\n";
        let mut case = Case::new(yaml);
        let located = case.located();
        assert_eq!(located.destination, Destination::parse("http://127.0.0.1:7").unwrap());
        assert_eq!(located.token, Some(Secret("of-the-file".into())));
        assert!(located.shown.contains("there is no socket"), "{}", located.shown);
        case.env = vec![("HOOKWARD_ADMIN", "[::]:8".into()), (TOKEN_ENV, "of-the-env".into())];
        let located = case.located();
        assert_eq!(located.destination, Destination::parse("http://[::1]:8").unwrap());
        assert_eq!(located.token, Some(Secret("of-the-env".into())));
        std::fs::write(case.dir.path().join("admin.sock"), "").unwrap();
        case.assert_on_socket_in(case.dir.path());
    }

    #[test]
    fn a_directory_named_by_flag_and_a_port_that_is_not_known_mean_the_socket() {
        let mut case = Case::new("data_dir: DIR\nadmin: { address: '127.0.0.1:0' }\n");
        case.assert_on_socket_in(case.dir.path());
        case.env.push(("HOOKWARD_ADMIN", "127.0.0.1:7".into()));
        case.args.data_dir = Some("/flag".into());
        case.assert_on_socket_in(Path::new("/flag"));
    }
}
