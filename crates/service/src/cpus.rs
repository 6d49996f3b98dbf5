//! How many threads have something to run on.

use std::num::NonZeroUsize;

/// The CPUs that a process may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cpus {
    /// CPUs that it may run on, by its affinity.
    pub allowed: NonZeroUsize,
    /// CPUs that the quota of its cgroup is worth; `None` without one, or when it is not known.
    pub quota: Option<f64>,
    /// Threads to start for work that never waits.
    pub threads: NonZeroUsize,
}

impl Cpus {
    /// Reads affinity and quota now; cgroup v1 and v2.
    pub fn of_process() -> Cpus {
        // Looks at the cgroups above as well, and rounds down.
        let rounded_down = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let allowed = allowed().unwrap_or(rounded_down);
        Cpus::new(allowed, quota(), rounded_down)
    }

    /// A part of a CPU in the quota is worth a thread: rounded down, a quota of 1.5 would leave a third of it unused
    /// however much there is to do. Rounded up, it is throttled only while every thread is busy.
    ///
    /// `rounded_down` is what the standard library says; it is less than the own quota where a cgroup above is tighter.
    fn new(allowed: NonZeroUsize, quota: Option<f64>, rounded_down: NonZeroUsize) -> Cpus {
        let threads = match quota {
            Some(quota) if rounded_down.get() as f64 >= quota.floor() => {
                let up = NonZeroUsize::new(quota.ceil() as usize).unwrap_or(NonZeroUsize::MIN);
                up.min(allowed)
            }
            Some(_) | None => rounded_down,
        };
        Cpus {
            allowed,
            quota,
            threads,
        }
    }
}

#[cfg(target_os = "linux")]
fn quota() -> Option<f64> {
    crate::cgroup::quota_cores()
}

#[cfg(not(target_os = "linux"))]
fn quota() -> Option<f64> {
    None
}

/// Bits of the line `Cpus_allowed:`, hexadecimal in groups of 32.
fn allowed() -> Option<NonZeroUsize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed:"))?;
    let bits = mask.chars().filter_map(|digit| digit.to_digit(16));
    NonZeroUsize::new(bits.map(|digit| digit.count_ones() as usize).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_cpu_is_worth_a_thread() {
        let count = |count| NonZeroUsize::new(count).expect("not 0");
        for (allowed, quota, rounded_down, threads) in [
            (12, None, 12, 12),
            (12, Some(1.0), 1, 1),
            (12, Some(1.5), 1, 2),
            (12, Some(0.25), 1, 1),
            (12, Some(4.0), 4, 4),
            (2, Some(7.5), 2, 2),
            // A cgroup above has a tighter quota.
            (12, Some(8.0), 3, 3),
        ] {
            let cpus = Cpus::new(count(allowed), quota, count(rounded_down));
            assert_eq!(cpus.threads, count(threads), "{allowed} {quota:?} {rounded_down}");
        }
    }

    #[test]
    fn this_process_has_a_cpu() {
        let cpus = Cpus::of_process();
        assert!(cpus.threads <= cpus.allowed);
    }
}
