//! nginx and `HAProxy`, as they come, between the gateway and the recorder.

use std::net::SocketAddr;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::TcpStream;

/// Time for a server to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server process; stopped when dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    process: Child,
    address: SocketAddr,
    _files: TempDir,
}

impl Peer {
    pub(crate) fn nginx(upstream: SocketAddr) -> Self {
        Self::start(upstream, "nginx.conf", include_str!("nginx.conf"), |settings| {
            let mut command = Command::new("nginx");
            command.arg("-c").arg(settings);
            command
        })
    }

    pub(crate) fn haproxy(upstream: SocketAddr) -> Self {
        Self::start(upstream, "haproxy.cfg", include_str!("haproxy.cfg"), |settings| {
            let mut command = Command::new("haproxy");
            command.arg("-db").arg("-f").arg(settings);
            command
        })
    }

    fn start(
        upstream: SocketAddr,
        name: &str,
        template: &str,
        command: fn(&std::path::Path) -> Command,
    ) -> Self {
        let files = tempfile::tempdir().expect("a directory");
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("a bound listener");
        drop(free);
        let settings = files.path().join(name);
        let text = template
            .replace("UPSTREAM", &upstream.to_string())
            .replace("LISTEN", &address.to_string())
            .replace("DIRECTORY", &files.path().display().to_string());
        std::fs::write(&settings, text).expect("written");
        // Debian keeps them where only root looks.
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        let mut command = command(&settings);
        let process = command.env("PATH", path).spawn();
        Self {
            process: process.unwrap_or_else(|error| panic!("{command:?}: {error}")),
            address,
            _files: files,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until it listens.
    pub(crate) async fn ready(&self) {
        let began = Instant::now();
        while TcpStream::connect(self.address).await.is_err() {
            assert!(began.elapsed() < PATIENCE, "{self:?} does not listen");
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _status = self.process.wait();
    }
}
