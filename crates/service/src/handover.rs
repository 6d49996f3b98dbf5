//! A new process takes over the ports of the one before it: nobody is refused, and nothing that waits in a port's queue is
//! lost, since the queue belongs to the socket and the socket to both of them.
//!
//! The process before offers its listening sockets on a Unix socket. The new one gets them there (`SCM_RIGHTS`) as it
//! starts, says so once it is ready, and offers them on in its turn; the one before leaves. A new process that ends before
//! it is ready has changed nothing.

use std::io::{IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fs, io};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::serve::{BindError, bind};
use crate::{Readiness, Shutdown};

/// The first line of an offer; the settings of the ports follow, a line for each.
const PROTOCOL: &str = "plumbline-handover 1";
/// What a new process says when it is ready.
const READY: u8 = b'r';
/// Ports of one process; a bound for what is received.
const MAX_PORTS: usize = 8;
/// Time for the process before to answer; it does so at once, unless another one takes over already.
const OFFER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why ports cannot be handed over.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// There is a process, and it does not give its ports.
    #[error("cannot take over the ports from the process at {} (handover); is another one about to?", path.display())]
    Receive {
        /// Where it offers them.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The next process could not find this one.
    #[error("cannot offer the ports at {} (handover)", path.display())]
    Offer {
        /// Where they were to be offered.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process before is gone.
    #[error("the process before cannot be told to leave (handover)")]
    Leave(#[source] io::Error),
}

/// The ports of this process: from the one before, and for the next. Cloned freely.
#[derive(Clone, Debug)]
pub(crate) struct Handover(Arc<State>);

#[derive(Debug)]
struct State {
    path: Option<PathBuf>,
    ports: Mutex<Ports>,
    /// This process answers on its ports.
    serving: CancellationToken,
}

#[derive(Debug, Default)]
struct Ports {
    /// Told when this process is ready.
    before: Option<UnixStream>,
    /// From the process before, not bound yet.
    inherited: Vec<Port>,
    /// Duplicates for the next process.
    offered: Vec<Port>,
    /// Where the next process finds them.
    place: Option<Place>,
}

/// A socket's file.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// Tells it from the next process's.
    inode: u64,
}

#[derive(Debug)]
struct Port {
    setting: String,
    listener: TcpListener,
}

impl Handover {
    /// Gets what the process at `path` offers, if there is one. Without a path, ports are bound and kept.
    pub(crate) fn begin(path: Option<&Path>) -> Result<Self, HandoverError> {
        let received = match path {
            None => None,
            Some(path) => receive(path).map_err(|source| HandoverError::Receive {
                path: path.to_owned(),
                source,
            })?,
        };
        let serving = CancellationToken::new();
        let ports = match received {
            None => {
                serving.cancel();
                Ports::default()
            }
            Some((before, inherited)) => {
                tracing::info!(ports = inherited.len(), "taking over from the process before");
                Ports {
                    before: Some(before),
                    inherited,
                    ..Ports::default()
                }
            }
        };
        Ok(Self(Arc::new(State {
            path: path.map(ToOwned::to_owned),
            ports: Mutex::new(ports),
            serving,
        })))
    }

    /// The port of a setting: as the process before had it, if that is where it is to be, or a new one.
    pub(crate) fn listener(
        &self,
        address: SocketAddr,
        setting: &'static str,
    ) -> Result<TcpListener, BindError> {
        let mut ports = self.ports();
        let wanted = |port: &Port| {
            let local = port.listener.local_addr().ok();
            let is_there = local.is_some_and(|local| {
                local.ip() == address.ip() && (address.port() == 0 || address.port() == local.port())
            });
            port.setting == setting && is_there
        };
        let listener = match ports.inherited.iter().position(wanted) {
            Some(index) => ports.inherited.swap_remove(index).listener,
            None => bind(address, setting)?,
        };
        if self.0.path.is_some() {
            let duplicate = listener.try_clone();
            ports.offered.push(Port {
                setting: setting.to_owned(),
                listener: duplicate.map_err(|source| BindError::new(address, setting, source))?,
            });
        }
        Ok(listener)
    }

    /// Resolves when this process may answer on its ports.
    pub(crate) async fn serving(&self) {
        self.0.serving.cancelled().await;
    }

    /// As [`crate::Process::take_over`].
    pub(crate) async fn take_over(
        &self,
        readiness: &Readiness,
        shutdown: &Shutdown,
    ) -> Result<bool, HandoverError> {
        let before = self.ports().before.take();
        if before.is_some() {
            let mut changes = readiness.watch();
            tokio::select! {
                biased;
                () = shutdown.begun() => return Ok(false),
                _ = changes.wait_for(|()| readiness.is_ready()) => {}
            }
        }
        if let Some(path) = &self.0.path {
            let (offer, place) = Offer::open(path).map_err(|source| HandoverError::Offer {
                path: path.clone(),
                source,
            })?;
            let mut ports = self.ports();
            ports.place = Some(place);
            // Of settings that are gone, or have another address.
            ports.inherited.clear();
            let offered = std::mem::take(&mut ports.offered);
            drop(ports);
            tokio::spawn(offer.run(offered, shutdown.clone()));
        }
        // Both of them answer for a moment; nothing waits in between.
        self.0.serving.cancel();
        if let Some(mut before) = before {
            before.write_all(&[READY]).map_err(HandoverError::Leave)?;
            tracing::info!("took over from the process before");
        }
        Ok(true)
    }

    /// At the end of the process: nobody offers anything there any more, unless it is the next process.
    pub(crate) fn end(&self) {
        let place = self.ports().place.take();
        if let Some(Place { path, inode }) = place
            && fs::metadata(&path).is_ok_and(|file| file.ino() == inode)
        {
            let _gone_already = fs::remove_file(path);
        }
    }

    fn ports(&self) -> MutexGuard<'_, Ports> {
        self.0.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the process at `path` offers; nothing when there is none.
fn receive(path: &Path) -> io::Result<Option<(UnixStream, Vec<Port>)>> {
    let stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        // No process has been there, or it is gone.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(OFFER_TIMEOUT))?;
    let mut text = [0; 512];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_PORTS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        &stream,
        &mut [IoSliceMut::new(&mut text)],
        &mut control,
        RecvFlags::empty(),
    )?;
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            sockets.extend(rights);
        }
    }
    let invalid = |problem: &str| io::Error::new(io::ErrorKind::InvalidData, problem);
    let text = std::str::from_utf8(&text[..received.bytes]).map_err(|_| invalid("the offer is not text"))?;
    let mut lines = text.lines();
    if lines.next() != Some(PROTOCOL) {
        return Err(invalid("the offer is not of this protocol"));
    }
    let settings: Vec<&str> = lines.collect();
    if settings.len() != sockets.len() {
        return Err(invalid("the offer does not name each of its ports"));
    }
    let mut ports = Vec::with_capacity(sockets.len());
    for (setting, socket) in settings.into_iter().zip(sockets) {
        // Programs that this one starts must not keep a port.
        fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
        ports.push(Port {
            setting: setting.to_owned(),
            listener: TcpListener::from(socket),
        });
    }
    Ok(Some((stream, ports)))
}

/// Where the next process finds this one.
struct Offer {
    socket: UnixListener,
}

impl Offer {
    /// In the place of the process before, at once.
    fn open(path: &Path) -> io::Result<(Self, Place)> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixListener::bind(&temporary)?;
        // Whoever gets the ports gets the requests, with their credentials.
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))?;
        let inode = fs::metadata(&temporary)?.ino();
        fs::rename(&temporary, path)?;
        let path = path.to_owned();
        Ok((Self { socket }, Place { path, inode }))
    }

    /// Offers the ports to one process after another until one of them is ready, or this one leaves.
    async fn run(self, ports: Vec<Port>, shutdown: Shutdown) {
        let handed_over = async {
            loop {
                match self.next(&ports).await {
                    Ok(true) => return,
                    Ok(false) => tracing::warn!("a process that was to take over ended before it was ready"),
                    Err(error) => {
                        tracing::warn!(%error, "the ports were not handed over");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        };
        let left = tokio::select! {
            () = handed_over => false,
            () = shutdown.stop_accepting() => true,
        };
        // As long as one duplicate is open, clients are not refused.
        drop(ports);
        if left {
            return;
        }
        tracing::info!("the next process has taken over; leaving");
        shutdown.hand_over().await;
    }

    /// Whether the next process became ready.
    async fn next(&self, ports: &[Port]) -> io::Result<bool> {
        let (mut stream, _) = self.socket.accept().await?;
        let names = ports.iter().map(|port| port.setting.as_str());
        let text: Vec<&str> = std::iter::once(PROTOCOL).chain(names).collect();
        let text = text.join("\n");
        let sockets: Vec<_> = ports.iter().map(|port| port.listener.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_PORTS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err(io::Error::other("too many ports"));
        }
        // A new connection has room for it.
        sendmsg(
            &stream,
            &[IoSlice::new(text.as_bytes())],
            &mut control,
            SendFlags::empty(),
        )?;
        let mut answer = [0];
        Ok(stream.read(&mut answer).await? == 1 && answer == [READY])
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener as StdListener;

    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    fn process() -> (Readiness, Shutdown) {
        let readiness = Readiness::default();
        let shutdown = Shutdown::new(readiness.clone(), Duration::ZERO, Duration::ZERO);
        (readiness, shutdown)
    }

    #[tokio::test]
    async fn ports_go_to_the_next_process_once_it_is_ready() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        // Of a process that crashed.
        drop(StdListener::bind(&path).expect("a free path"));
        let first = Handover::begin(Some(&path)).expect("nobody is there");
        let port = first.listener(ANY, "listen").expect("a free port");
        let (readiness, leaving) = process();
        assert!(first.take_over(&readiness, &leaving).await.expect("an offer"));
        let mode = fs::metadata(&path).expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let (readiness, shutdown) = process();
        let waiting = readiness.wait_for("routes");
        let begun = path.clone();
        let second = tokio::task::spawn_blocking(move || Handover::begin(Some(&begun)));
        let second = second.await.expect("no panic").expect("an offer");
        let same = second.listener(ANY, "listen").expect("an inherited port");
        assert_eq!(
            same.local_addr().expect("bound"),
            port.local_addr().expect("bound")
        );
        let other = second.listener(ANY, "tls_listen").expect("a free port");
        assert_ne!(
            other.local_addr().expect("bound"),
            same.local_addr().expect("bound")
        );
        let taking = tokio::spawn({
            let second = second.clone();
            async move { second.take_over(&readiness, &shutdown).await }
        });
        tokio::task::yield_now().await;
        assert!(!leaving.has_begun(), "the next one is not ready");
        drop(waiting);
        assert!(taking.await.expect("no panic").expect("told"));
        leaving.handed_over().await;
        leaving.stop_accepting().await;
        second.serving().await;
        first.end();
        assert!(path.exists(), "the second offers its ports there");
        second.end();
        assert!(!path.exists(), "nobody does");
    }

    #[test]
    fn whoever_offers_something_else_is_not_believed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let listener = StdListener::bind(&path).expect("a free path");
        for (offer, problem) in [
            ("", "not of this protocol"),
            ("HTTP/1.1 200 OK", "not of this protocol"),
            ("plumbline-handover 1\nlisten", "does not name each of its ports"),
        ] {
            let receiving = std::thread::spawn({
                let path = path.clone();
                move || Handover::begin(Some(&path)).map(drop)
            });
            let (mut stream, _) = listener.accept().expect("a connection");
            stream.write_all(offer.as_bytes()).expect("written");
            drop(stream);
            let error = receiving.join().expect("no panic").expect_err(offer);
            let told = crate::error_chain(&error);
            assert!(told.contains(problem) && told.contains("handover"), "{told}");
        }
    }
}
