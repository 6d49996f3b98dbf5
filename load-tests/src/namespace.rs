//! Network namespaces: machines of their own as far as the network knows, whose links can go down while nobody else's do.
//!
//! They have no names. Each ends with the process that holds it, and that one when its standard input does: nothing is left
//! behind, however a program ends.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A namespace with its loopback device up; needs root.
#[derive(Debug)]
pub struct Namespace {
    holder: Child,
}

impl Namespace {
    /// A new one.
    ///
    /// # Errors
    /// Without `unshare` and `nsenter` (util-linux), `ip` (iproute2) or the right to use them.
    pub fn new() -> anyhow::Result<Self> {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run unshare")?;
        // Its one line says that the namespace is there.
        let mut line = [0];
        let told = holder.stdout.as_mut().map(|stdout| stdout.read_exact(&mut line));
        let namespace = Self { holder };
        ensure!(
            matches!(told, Some(Ok(()))),
            "`unshare --net` makes no network namespace: it needs root"
        );
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    fn file(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// Runs `ip` with these arguments there.
    ///
    /// # Errors
    /// When it fails.
    pub fn ip(&self, arguments: &str) -> anyhow::Result<()> {
        let output = Command::new("nsenter")
            .arg(format!("--net={}", self.file()))
            .arg("ip")
            .args(arguments.split(' '))
            .output()
            .context("cannot run nsenter")?;
        ensure!(
            output.status.success(),
            "ip {arguments}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// Joins it to `other` by a link, whose devices are `near` here and `far` there; both are down.
    ///
    /// # Errors
    /// When there is such a device already.
    pub fn link(&self, near: &str, other: &Self, far: &str) -> anyhow::Result<()> {
        let there = other.holder.id();
        self.ip(&format!(
            "link add {near} type veth peer name {far} netns {there}"
        ))
    }

    /// Moves the calling thread there, with the threads and processes that it starts from now on. A socket stays where it was
    /// made.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub fn enter(&self) -> anyhow::Result<()> {
        let file = File::open(self.file())?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .context("cannot enter a network namespace")
    }

    /// What `make` gives when it is called there.
    ///
    /// # Errors
    /// Its own.
    pub fn within<T: Send>(&self, make: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        let there = || {
            self.enter()?;
            make()
        };
        std::thread::scope(|scope| scope.spawn(there).join())
            .map_err(|_| anyhow::anyhow!("a thread panicked in a network namespace"))?
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _already_gone = self.holder.kill();
        let _already_gone = self.holder.wait();
    }
}
