//! Listening sockets: bound here, or passed by systemd.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::linux::fs::MetadataExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::ServerError;
use crate::config::{ListenAddress, Listener};

/// Connections that may wait to be accepted, as for TCP; the kernel's `somaxconn` bounds it.
const BACKLOG: i32 = 65_535;

/// A socket that listens and is not yet served.
pub(super) enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A public socket with what the configuration says of it.
pub(super) struct PublicSocket {
    pub(super) bound: Bound,
    /// Where it listens in fact.
    pub(super) address: ListenAddress,
    pub(super) settings: Listener,
    /// Its file, if it is ours to remove.
    pub(super) file: Option<SocketFile>,
    /// Whether it is another's, who keeps it open for the next process.
    pub(super) is_passed: bool,
}

/// Listening sockets that the parent, systemd as a rule, has opened (`LISTEN_FDS`).
///
/// Source: sd_listen_fds(3).
#[derive(Default)]
pub struct Passed(Vec<Bound>);

impl Passed {
    /// Takes them over. To be called before there are threads: it clears the variables, so that no
    /// child takes the sockets for its own.
    ///
    /// # Errors
    /// One of them is not a stream socket.
    pub fn from_env() -> Result<Passed, ServerError> {
        let mut fds = ListenFd::from_env();
        let sockets = (0..fds.len()).map(|index| take(&mut fds, index)).collect::<Result<_, _>>()?;
        Ok(Passed(sockets))
    }
}

fn take(fds: &mut ListenFd, index: usize) -> Result<Bound, ServerError> {
    let tcp = fds.take_tcp_listener(index).ok().flatten().map(Bound::Tcp);
    let bound = tcp.or_else(|| fds.take_unix_listener(index).ok().flatten().map(Bound::Unix));
    let is_listening = |bound: &Bound| {
        let listening = match bound {
            Bound::Tcp(listener) => rustix::net::sockopt::socket_acceptconn(listener),
            Bound::Unix(listener) => rustix::net::sockopt::socket_acceptconn(listener),
        };
        listening == Ok(true)
    };
    bound.filter(is_listening).ok_or(ServerError::Passed { number: index + 1 })
}

/// The public sockets in the order of the configuration. Passed ones replace its first entries,
/// whose other settings apply to them; passed ones beyond it get the default settings.
pub(super) fn open(listeners: &[Listener], passed: Passed) -> Result<Vec<PublicSocket>, ServerError> {
    let mut passed = passed.0.into_iter();
    let mut sockets = Vec::with_capacity(listeners.len());
    for listener in listeners {
        sockets.push(match passed.next() {
            Some(bound) => adopt(bound, Some(listener))?,
            None => bind(listener)?,
        });
    }
    for bound in passed {
        sockets.push(adopt(bound, None)?);
    }
    Ok(sockets)
}

fn adopt(bound: Bound, settings: Option<&Listener>) -> Result<PublicSocket, ServerError> {
    let nameless = |error| ServerError::Internal(format!("a passed socket cannot be used: {error}"));
    let address = match &bound {
        Bound::Tcp(listener) => {
            listener.set_nonblocking(true).map_err(nameless)?;
            ListenAddress::Tcp(listener.local_addr().map_err(nameless)?)
        }
        Bound::Unix(listener) => {
            listener.set_nonblocking(true).map_err(nameless)?;
            let address = listener.local_addr().map_err(nameless)?;
            // An abstract one has a name and no path.
            ListenAddress::Unix(address.as_pathname().map_or_else(|| PathBuf::from("@"), PathBuf::from))
        }
    };
    let settings = settings.cloned().unwrap_or_else(|| Listener::plain(address.clone()));
    Ok(PublicSocket { bound, address, settings, file: None, is_passed: true })
}

fn bind(settings: &Listener) -> Result<PublicSocket, ServerError> {
    let settings = settings.clone();
    match &settings.address {
        ListenAddress::Tcp(address) => {
            let listener = bind_tcp(*address)?;
            let address = ListenAddress::Tcp(local_addr(&listener)?);
            Ok(PublicSocket { bound: Bound::Tcp(listener), address, settings, file: None, is_passed: false })
        }
        ListenAddress::Unix(path) => {
            let (listener, file) = bind_unix(path, settings.socket_mode)?;
            let address = settings.address.clone();
            Ok(PublicSocket { bound: Bound::Unix(listener), address, settings, file: Some(file), is_passed: false })
        }
    }
}

pub(super) fn bind_tcp(address: SocketAddr) -> Result<TcpListener, ServerError> {
    let failed = |error| failed_at(&address, error);
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

pub(super) fn local_addr(listener: &TcpListener) -> Result<SocketAddr, ServerError> {
    listener.local_addr().map_err(|error| ServerError::Internal(format!("a listener has no address: {error}")))
}

/// Binds a unix socket with this file mode. What an earlier run has left there is replaced; what
/// somebody still serves, or what is no socket, is not.
///
/// # Errors
/// The path is taken, or cannot be written.
pub(super) fn bind_unix(path: &Path, mode: u32) -> Result<(UnixListener, SocketFile), ServerError> {
    let failed = |error| failed_at(&path.display(), error);
    remove_stale(path).map_err(failed)?;
    let listener = bind_closed(path).map_err(failed)?;
    let file = SocketFile::of(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok((listener, file))
}

/// Binds a unix socket for this user alone; its file must not exist.
///
/// # Errors
/// The path cannot be written.
pub(super) fn bind_private(path: &Path) -> Result<UnixListener, ServerError> {
    bind_closed(path).map_err(|error| failed_at(&path.display(), error))
}

/// Removes a socket that nobody serves.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is not a socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Somebody answers, or might.
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// Binds and listens with a file that only its user may open, from its first moment on: Linux
/// creates it with the mode that the socket itself has.
fn bind_closed(path: &Path) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

fn failed_at(address: &dyn fmt::Display, error: io::Error) -> ServerError {
    ServerError::Bind { address: address.to_string(), error }
}

/// The file of a socket that we have bound; removed with this handle, unless another has taken its
/// place.
pub(super) struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile { path: path.to_owned(), device_and_inode: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.device_and_inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.st_dev(), metadata.st_ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_socket_is_closed_to_others_from_its_first_moment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.sock");
        let _listener = bind_closed(&path).unwrap();
        assert_eq!(mode_of(&path) & 0o177, 0, "{:o}", mode_of(&path));
        let other = dir.path().join("other.sock");
        let (_listener, _file) = bind_unix(&other, 0o666).unwrap();
        assert_eq!(mode_of(&other), 0o666);
    }

    #[test]
    fn a_stale_socket_is_replaced_and_everything_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves it behind");
        let (listener, _file) = bind_unix(&path, 0o660).unwrap();
        let in_use = bind_unix(&path, 0o660).err().unwrap().to_string();
        assert!(in_use.contains("in.sock") && in_use.contains("stop what listens there"), "{in_use}");
        UnixStream::connect(&path).unwrap();
        drop(listener);

        let file = dir.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        let error = bind_unix(&file, 0o660).err().unwrap().to_string();
        assert!(error.contains("not a socket"), "{error}");
        assert_eq!(std::fs::read(&file).unwrap(), b"precious");
        // Nor is a link followed to a socket that would then be removed.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(bind_unix(&link, 0o660).is_err());
        assert!(path.exists());
    }

    #[test]
    fn the_file_goes_with_its_handle_unless_it_is_anothers_by_then() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.sock");
        let (listener, file) = bind_unix(&path, 0o660).unwrap();
        drop((listener, file));
        assert!(!path.exists());
        let (_first, file) = bind_unix(&path, 0o660).unwrap();
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        let _second = bind_unix(&path, 0o660).unwrap();
        drop(file);
        assert!(path.exists(), "the second one's");
    }

    #[test]
    fn passed_sockets_take_the_first_places_and_the_settings_that_stand_there() {
        let tcp = || Bound::Tcp(TcpListener::bind("127.0.0.1:0").unwrap());
        let port_of = |socket: &PublicSocket| match socket.address {
            ListenAddress::Tcp(address) => address.port(),
            ListenAddress::Unix(_) => 0,
        };
        let configured = |proxy_protocol| Listener {
            proxy_protocol,
            ..Listener::plain(ListenAddress::Tcp("127.0.0.1:0".parse().unwrap()))
        };
        use crate::config::ProxyProtocol::{Off, Required};
        let listeners = [configured(Required), configured(Off)];
        let passed = tcp();
        let Bound::Tcp(listener) = &passed else { unreachable!() };
        let port = listener.local_addr().unwrap().port();
        let fewer = open(&listeners, Passed(vec![passed])).unwrap();
        assert_eq!((fewer.len(), port_of(&fewer[0]), fewer[0].settings.proxy_protocol), (2, port, Required));
        assert_eq!(fewer[1].settings.proxy_protocol, Off);
        let more = open(&listeners, Passed(vec![tcp(), tcp(), tcp()])).unwrap();
        let settings: Vec<_> = more.iter().map(|socket| socket.settings.proxy_protocol).collect();
        assert_eq!(settings, [Required, Off, Off]);
    }
}
