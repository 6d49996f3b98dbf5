//! Server programs as children.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::client::{self, Http, Transport};
use crate::request::Request;

/// The time that a server has to say where it listens, or to answer.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// The time that a server has to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Lines of a server's log that are kept for whoever wonders why it ended.
const LOG_LINES: usize = 40;

/// Between two looks at a server that is not ready.
const POLL: Duration = Duration::from_millis(1);

/// A running server; stopped when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    started: Instant,
    log: Arc<Mutex<Vec<String>>>,
}

/// A port that was free a moment ago, for servers that cannot pick one.
///
/// # Errors
/// When the system has none.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// So many of them, each told apart.
///
/// # Errors
/// When the system has none.
pub fn free_addresses<const N: usize>() -> anyhow::Result<[SocketAddr; N]> {
    // Held until all are known, so that none is given twice.
    let held: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); N];
    for (address, listener) in addresses.iter_mut().zip(&held) {
        *address = listener.local_addr()?;
    }
    Ok(addresses)
}

impl Server {
    /// Starts one of Plumbline's servers on free ports and waits, bounded, for the log lines that tell them.
    ///
    /// # Errors
    /// When the program cannot be started or ends, or is silent for a minute.
    pub fn start(
        program: &std::path::Path,
        arguments: &[String],
        cpus: Option<&str>,
    ) -> anyhow::Result<Self> {
        let mut command = on_cpus(program, cpus);
        command.args(arguments).args([
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--log-format",
            "json",
        ]);
        let (mut server, lines) = Self::spawn(command)?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => match listening(&line) {
                    Some(("admin", address)) => server.admin = Some(address),
                    Some(("data", address)) => {
                        server.address = address;
                        return Ok(server);
                    }
                    _ => {}
                },
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("{} ended:\n{}", program.display(), server.log())
                }
                Err(RecvTimeoutError::Timeout) => bail!(
                    "{} did not tell its port in {START_TIMEOUT:?}:\n{}",
                    program.display(),
                    server.log()
                ),
            }
        }
    }

    /// Starts `command`, which was told to listen at `address`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start_at(command: Command, address: SocketAddr) -> anyhow::Result<Self> {
        let (mut server, _lines) = Self::spawn(command)?;
        server.address = address;
        Ok(server)
    }

    fn spawn(mut command: Command) -> anyhow::Result<(Self, Receiver<String>)> {
        let started = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let stderr = child.stderr.take().context("standard error is piped")?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == LOG_LINES {
                    kept.remove(0);
                }
                kept.push(line.clone());
                drop(kept);
                // Nobody waits any more once it is up.
                let _up = sender.send(line);
            }
        });
        let server = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin: None,
            started,
            log,
        };
        Ok((server, lines))
    }

    /// Waits, bounded, until `path` answers 200; gives the time since the start.
    ///
    /// # Errors
    /// When the program ends first, or does not answer in a minute.
    pub fn wait_until_ready(&mut self, path: &str) -> anyhow::Result<Duration> {
        let request = Request::get(path)?;
        let transport = Transport::plain(Http::One);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            while self.started.elapsed() < START_TIMEOUT {
                if let Ok((200, _)) = client::once(self.address, &transport, &request).await {
                    return Ok(self.started.elapsed());
                }
                if let Some(status) = self.child.try_wait()? {
                    bail!("a server ended with {status}:\n{}", self.log());
                }
                tokio::time::sleep(POLL).await;
            }
            bail!(
                "no server that is ready at {}{path} in {START_TIMEOUT:?}:\n{}",
                self.address,
                self.log()
            )
        })
    }

    /// The data port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The admin port of a server of ours.
    ///
    /// # Errors
    /// When it did not tell one.
    pub fn admin(&self) -> anyhow::Result<SocketAddr> {
        self.admin.context("the server told no admin port")
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The last lines of its log.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// Asks it to end, as Kubernetes does.
    ///
    /// # Errors
    /// When there is no `sh`, or no process.
    pub fn terminate(&self) -> anyhow::Result<()> {
        self.signal("TERM")
    }

    /// Sends it a signal, by its name without `SIG`.
    ///
    /// # Errors
    /// When there is no `sh`, or no process.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let status = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.pid())])
            .status()
            .context("cannot run sh")?;
        anyhow::ensure!(status.success(), "no process {} for SIG{name}", self.pid());
        Ok(())
    }

    /// Asks it to end and gives it some seconds, for a server that has to end its children itself.
    pub fn end(&mut self) {
        if self.terminate().is_ok() {
            let _killed_when_dropped = self.wait(END_TIMEOUT);
        }
    }

    /// Waits, bounded, for its end.
    ///
    /// # Errors
    /// When it is still there after `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(POLL);
        }
        bail!(
            "process {} is still there after {timeout:?}:\n{}",
            self.pid(),
            self.log()
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its state is of no further interest; a drain would only take time. Its own children first.
        for pid in super::tree(self.pid()).into_iter().skip(1) {
            let _already_gone = Command::new("sh")
                .args(["-c", &format!("kill -KILL {pid} 2>/dev/null")])
                .status();
        }
        let _already_gone = self.child.kill();
        let _already_gone = self.child.wait();
    }
}

/// `program`, kept on these CPUs (`taskset`'s list) if there is one; `taskset` becomes the program, so the id is its own.
pub fn on_cpus(program: &std::path::Path, cpus: Option<&str>) -> Command {
    match cpus {
        None => Command::new(program),
        Some(cpus) => {
            let mut command = Command::new("taskset");
            command.args(["-c", cpus]).arg(program);
            command
        }
    }
}

/// The port and address of a `listening` line.
fn listening(line: &str) -> Option<(&'static str, SocketAddr)> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    if line["message"] != "listening" {
        return None;
    }
    let port = ["admin", "data"].into_iter().find(|port| line["port"] == *port)?;
    Some((port, line["address"].as_str()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_listening_lines_tell_the_ports() {
        let line = r#"{"level":"INFO","message":"listening","port":"data","address":"127.0.0.1:4711"}"#;
        let address = SocketAddr::from(([127, 0, 0, 1], 4711));
        assert_eq!(listening(line), Some(("data", address)));
        assert_eq!(
            listening(&line.replace("data", "admin")),
            Some(("admin", address))
        );
        assert_eq!(listening(&line.replace("data", "other")), None);
        assert_eq!(listening("not JSON"), None);
    }

    #[test]
    fn a_program_that_ends_is_told_with_its_log() {
        let error = Server::start(Path::new("/bin/false"), &[], None).expect_err("it ends");
        assert!(error.to_string().contains("/bin/false ended"), "{error}");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port().expect("one")));
        let mut server = Server::start_at(Command::new("/bin/false"), address).expect("it starts");
        let error = server.wait_until_ready("/").expect_err("it ends");
        assert!(error.to_string().contains("a server ended"), "{error}");
    }

    #[test]
    fn a_server_can_be_asked_to_end() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut server = Server::start_at(command, address).expect("it starts");
        server.terminate().expect("it is there");
        let status = server.wait(Duration::from_secs(10)).expect("it ends");
        assert_eq!(status.code(), None);
    }
}
