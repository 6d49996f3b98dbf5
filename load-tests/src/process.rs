//! Processes: what they used, by `/proc`; server programs as children, started, awaited and stopped.

mod server;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

pub use self::server::{Server, free_addresses, free_port, on_cpus};

/// Kernel clock ticks a second; fixed for user space on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of a process and its descendants, to the nanosecond; threads that ended are not in it.
///
/// # Errors
/// When the process is gone or the system has no `/proc`.
pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let mut total = Duration::ZERO;
    for pid in tree(pid) {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for thread in threads.flatten() {
            let Ok(text) = std::fs::read_to_string(thread.path().join("schedstat")) else {
                return cpu_in_ticks(pid);
            };
            let nanos = text
                .split_whitespace()
                .next()
                .and_then(|nanos| nanos.parse().ok());
            total += Duration::from_nanos(nanos.unwrap_or(0));
        }
    }
    anyhow::ensure!(Path::new(&format!("/proc/{pid}")).exists(), "no process {pid}");
    Ok(total)
}

/// CPU time of one process, of threads that ended, too; in steps of 10 ms.
///
/// # Errors
/// When the process is gone or the system has no `/proc`.
pub fn cpu_in_ticks(pid: u32) -> anyhow::Result<Duration> {
    let fields = stat(pid)?;
    let ticks = |index: usize| -> anyhow::Result<f64> { Ok(fields.get(index).context("a field")?.parse()?) };
    Ok(Duration::from_secs_f64(
        (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
    ))
}

/// The fields of `/proc/PID/stat` behind the name, which is in parentheses and may hold spaces.
fn stat(pid: u32) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(')').context("a stat line")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}

/// A process and its descendants.
pub fn tree(root: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let parent = stat(pid)
            .ok()
            .and_then(|fields| fields.get(1)?.parse::<u32>().ok());
        if let Some(parent) = parent {
            parents.push((pid, parent));
        }
    }
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(pid) = tree.get(next).copied() {
        tree.extend(
            parents
                .iter()
                .filter(|(_, parent)| *parent == pid)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    tree
}

/// Memory of a process and its descendants in bytes, shared pages divided among those that share them (PSS).
///
/// # Errors
/// When the process is gone or the system has no `/proc`.
pub fn proportional_memory(pid: u32) -> anyhow::Result<u64> {
    of_tree(pid, |pid| kibibytes(&format!("/proc/{pid}/smaps_rollup"), "Pss:"))
}

/// The sum over a process, which has to be there, and its descendants, which may end meanwhile and have nothing then.
fn of_tree(root: u32, memory: impl Fn(u32) -> anyhow::Result<u64>) -> anyhow::Result<u64> {
    let own = memory(root)?;
    let descendants = tree(root).into_iter().skip(1);
    Ok(own + descendants.filter_map(|pid| memory(pid).ok()).sum::<u64>())
}

/// Memory of a process and its descendants, bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// RSS.
    pub resident: u64,
    /// PSS.
    pub proportional: u64,
}

impl Memory {
    /// Now.
    ///
    /// # Errors
    /// When the process is gone or the system has no `/proc`.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        Ok(Self {
            resident: of_tree(pid, resident_memory)?,
            proportional: proportional_memory(pid)?,
        })
    }
}

/// Resident memory of one process in bytes (RSS).
///
/// # Errors
/// When the process is gone or the system has no `/proc`.
pub fn resident_memory(pid: u32) -> anyhow::Result<u64> {
    kibibytes(&format!("/proc/{pid}/status"), "VmRSS:")
}

fn kibibytes(file: &str, key: &str) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    Ok(number.with_context(|| format!("{file} has no {key}"))? * 1_024)
}

/// The machine's CPU time by `/proc/stat`.
#[derive(Clone, Copy, Debug)]
pub struct MachineTime {
    all: u64,
    idle: u64,
    stolen: u64,
}

impl MachineTime {
    /// Since the machine started.
    ///
    /// # Errors
    /// When the system has no `/proc`.
    pub fn now() -> anyhow::Result<Self> {
        let text = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        Self::parse(&text).context("/proc/stat has no line of all CPUs")
    }

    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<u64> = text
            .lines()
            .next()?
            .strip_prefix("cpu ")?
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        // user nice system idle iowait irq softirq steal; what guests use is in user already.
        Some(Self {
            all: fields.iter().take(8).sum(),
            idle: fields.get(3)? + fields.get(4)?,
            stolen: *fields.get(7)?,
        })
    }

    /// Share of the CPU time since `before` that the hypervisor gave to others.
    pub fn steal_since(self, before: Self) -> f64 {
        (self.stolen - before.stolen) as f64 / (self.all - before.all).max(1) as f64
    }

    /// CPU time since `before` that was used by anybody on this machine.
    pub fn used_since(self, before: Self) -> Duration {
        let ticks =
            (self.all - self.idle - self.stolen).saturating_sub(before.all - before.idle - before.stolen);
        Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND)
    }
}

/// Keeps this process, and what it starts from now on, on these CPUs (`taskset`'s list).
///
/// # Errors
/// When `taskset` (util-linux) is missing or refuses.
pub fn pin(cpus: &str) -> anyhow::Result<()> {
    let output = std::process::Command::new("taskset")
        .args(["-a", "-p", "-c", cpus, &std::process::id().to_string()])
        .output()
        .context("cannot run taskset")?;
    anyhow::ensure!(
        output.status.success(),
        "taskset -c {cpus}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stolen_time_is_a_share_of_all() {
        let time = |text| MachineTime::parse(text).expect("a line");
        let before = time("cpu  100 0 100 700 0 0 0 100 50 0\ncpu0 1 2 3\n");
        let after = time("cpu  200 0 200 1400 0 0 0 200 50 0\n");
        assert!((after.steal_since(before) - 0.1).abs() < 1e-9);
        assert_eq!(after.used_since(before), Duration::from_secs(2));
        assert!(MachineTime::parse("intr 1 2").is_none());
    }

    #[test]
    fn the_own_process_can_be_looked_at() {
        let pid = std::process::id();
        assert!(cpu(pid).expect("here") > Duration::ZERO);
        assert!(cpu_in_ticks(pid).is_ok());
        assert!(resident_memory(pid).expect("here") > 1 << 20);
        assert!(proportional_memory(pid).expect("here") > 0);
        assert!(tree(pid).contains(&pid));
        // An ended child that nobody has waited for has no memory, and is no error.
        let mut child = std::process::Command::new("true").spawn().expect("a child");
        let file = format!("/proc/{}/smaps_rollup", child.id());
        let mut looks = 0..1000;
        while looks.next().is_some() && std::fs::read_to_string(&file).is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(Memory::of(pid).is_ok() && tree(pid).contains(&child.id()));
        child.wait().expect("ended");
        assert!(cpu(u32::MAX).is_err());
    }
}
