//! Server programs as children: started with their log read, measured, stopped.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, bail};

/// Kernel clock ticks a second; fixed for user space on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running server; stopped when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts `program` and waits, bounded, for the log line that tells the data port.
    ///
    /// # Errors
    /// When the program cannot be started or ends, or is silent for 30 s.
    pub fn start(program: &Path, arguments: &[String]) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .args([
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
                "--log-format",
                "json",
            ])
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}; build it first", program.display()))?;
        let log = child.stderr.take().context("standard error is piped")?;
        let (found, address) = mpsc::channel();
        std::thread::spawn(move || {
            let mut log_lines = Vec::new();
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                if let Some(address) = data_address(&line) {
                    // Nobody waits any more once the first one is known.
                    let _not_first = found.send(Ok(address));
                }
                if log_lines.len() < 20 {
                    log_lines.push(line);
                }
            }
            let _not_first = found.send(Err(log_lines.join("\n")));
        });
        match address.recv_timeout(Duration::from_secs(30)) {
            Ok(Ok(address)) => Ok(Self { child, address }),
            Ok(Err(log)) => bail!("{} ended:\n{log}", program.display()),
            Err(_) => {
                let _already_gone = child.kill();
                bail!("{} did not tell its port in 30 s", program.display())
            }
        }
    }

    /// The data port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// User and system CPU seconds since its start, from `/proc`.
    ///
    /// # Errors
    /// When the process is gone or the system has no `/proc`.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The second field is the name in parentheses and may hold spaces; user and system time are fields 14 and 15.
        let (_, fields) = stat.rsplit_once(')').context("a stat line")?;
        let ticks = |index: usize| -> anyhow::Result<f64> {
            Ok(fields
                .split_whitespace()
                .nth(index)
                .context("a stat field")?
                .parse()?)
        };
        Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
    }

    /// Resident memory in bytes, from `/proc`.
    ///
    /// # Errors
    /// When the process is gone or the system has no `/proc`.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .context("a resident size")?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kibibytes * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its state is of no further interest; a drain would only take time.
        let _already_gone = self.child.kill();
        let _already_gone = self.child.wait();
    }
}

fn data_address(line: &str) -> Option<SocketAddr> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let is_data = line["message"] == "listening" && line["port"] == "data";
    is_data.then(|| line["address"].as_str()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listening_line_tells_the_data_port() {
        let line = r#"{"level":"INFO","message":"listening","port":"data","address":"127.0.0.1:4711"}"#;
        assert_eq!(data_address(line), Some(SocketAddr::from(([127, 0, 0, 1], 4711))));
        assert_eq!(data_address(&line.replace("data", "admin")), None);
        assert_eq!(data_address("not JSON"), None);
    }

    #[test]
    fn a_program_that_ends_is_told_with_its_log() {
        let error = Server::start(Path::new("/bin/false"), &[]).expect_err("it ends");
        assert!(error.to_string().contains("/bin/false ended"), "{error}");
    }
}
