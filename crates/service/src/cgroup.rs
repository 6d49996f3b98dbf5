//! CPU quota and throttling of the process's cgroup, v1 and v2, read when `/metrics` is.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};

/// Where Linux mounts the hierarchy.
const MOUNT: &str = "/sys/fs/cgroup";

/// Which cgroup the process is in.
const MEMBERSHIP: &str = "/proc/self/cgroup";

/// A cgroup with a CPU controller.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cgroup {
    /// Directory of v1's `cpu` controller.
    V1(PathBuf),
    /// Directory of v2's one hierarchy.
    V2(PathBuf),
}

/// What a cgroup tells about its CPU time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct CpuStat {
    /// Periods in which the cgroup ran.
    periods: Option<u64>,
    /// Periods at whose end its quota was used up.
    throttled_periods: Option<u64>,
    /// Time that its threads then waited, together.
    throttled_seconds: Option<f64>,
    /// CPUs that the quota is worth; `None` without one.
    quota_cores: Option<f64>,
}

impl Cgroup {
    /// The cgroup of this process; `membership` is the text of `/proc/self/cgroup`.
    fn find(mount: &Path, membership: &str) -> Option<Cgroup> {
        // A container sees its own cgroup at the mount itself, though the path may be the host's.
        let below = |base: PathBuf, path: &str| {
            let own = base.join(path.trim_start_matches('/'));
            [own, base].into_iter().find(|dir| dir.join("cpu.stat").is_file())
        };
        // Lines are `hierarchy:controllers:path`; v2 is `0::path`.
        let line = |line: &str| {
            let mut parts = line.splitn(3, ':').skip(1);
            Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
        };
        let lines: Vec<(String, String)> = membership.lines().filter_map(line).collect();
        let v1 = lines
            .iter()
            .filter(|(controllers, _)| controllers.split(',').any(|controller| controller == "cpu"));
        for (controllers, path) in v1 {
            let mounts = [controllers.as_str(), "cpu", "cpu,cpuacct"];
            let dir = mounts.iter().find_map(|name| below(mount.join(name), path));
            if let Some(dir) = dir {
                return Some(Cgroup::V1(dir));
            }
        }
        let (_, path) = lines.iter().find(|(controllers, _)| controllers.is_empty())?;
        below(mount.to_owned(), path).map(Cgroup::V2)
    }

    /// Reads it now. What its files do not tell is `None`.
    fn read(&self) -> CpuStat {
        let (Cgroup::V1(dir) | Cgroup::V2(dir)) = self;
        let file = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
        let stat = file("cpu.stat");
        let field = |name: &str| {
            let mut lines = stat.lines().filter_map(|line| line.split_once(' '));
            lines.find_map(|(key, value)| (key == name).then(|| value.trim().parse::<u64>().ok())?)
        };
        let (throttled_seconds, quota) = match self {
            Cgroup::V1(_) => {
                let seconds = field("throttled_time").map(|nanoseconds| nanoseconds as f64 / 1e9);
                (seconds, (file("cpu.cfs_quota_us"), file("cpu.cfs_period_us")))
            }
            Cgroup::V2(_) => {
                let max = file("cpu.max");
                let (quota, period) = max.trim().split_once(' ').unwrap_or_default();
                let seconds = field("throttled_usec").map(|microseconds| microseconds as f64 / 1e6);
                (seconds, (quota.to_owned(), period.to_owned()))
            }
        };
        // `max` and -1 are no quota.
        let micros = |text: &str| text.trim().parse::<u64>().ok().filter(|&micros| micros > 0);
        let quota_cores = micros(&quota.0)
            .zip(micros(&quota.1))
            .map(|(quota, period)| quota as f64 / period as f64);
        CpuStat {
            periods: field("nr_periods"),
            throttled_periods: field("nr_throttled"),
            throttled_seconds,
            quota_cores,
        }
    }
}

/// CPUs that the quota of this process's cgroup is worth; `None` without one.
pub(crate) fn quota_cores() -> Option<f64> {
    let membership = std::fs::read_to_string(MEMBERSHIP).ok()?;
    Cgroup::find(Path::new(MOUNT), &membership)?.read().quota_cores
}

/// Exports [`CpuStat`]; a value that the cgroup does not have has no series.
#[derive(Debug)]
pub(crate) struct CgroupCollector {
    cgroup: Cgroup,
    series: Mutex<Series>,
}

#[derive(Debug)]
struct Series {
    periods: Counter,
    throttled_periods: Counter,
    throttled_seconds: Counter,
    quota_cores: Gauge,
}

impl CgroupCollector {
    /// A collector for this process; nothing where there is no cgroup with a CPU controller.
    pub(crate) fn for_self() -> Option<CgroupCollector> {
        let membership = std::fs::read_to_string(MEMBERSHIP).ok()?;
        Some(CgroupCollector::new(Cgroup::find(Path::new(MOUNT), &membership)?))
    }

    fn new(cgroup: Cgroup) -> CgroupCollector {
        let counter = |name, help| Counter::new(name, help).expect("a valid metric name");
        let series = Series {
            periods: counter(
                "plumbline_cgroup_cpu_periods_total",
                "Scheduling periods in which the cgroup ran.",
            ),
            throttled_periods: counter(
                "plumbline_cgroup_cpu_throttled_periods_total",
                "Periods in which the cgroup used up its CPU quota and had to wait.",
            ),
            throttled_seconds: counter(
                "plumbline_cgroup_cpu_throttled_seconds_total",
                "Time that threads of the cgroup waited for the next period.",
            ),
            quota_cores: Gauge::new(
                "plumbline_cgroup_cpu_quota_cores",
                "CPUs that the cgroup's quota is worth.",
            )
            .expect("a valid metric name"),
        };
        CgroupCollector {
            cgroup,
            series: Mutex::new(series),
        }
    }
}

impl Collector for CgroupCollector {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new() // the series come and go with the files
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let stat = self.cgroup.read();
        let series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let total = |counter: &Counter, value: Option<f64>| {
            counter.reset();
            value.map(|value| {
                counter.inc_by(value);
                counter.collect()
            })
        };
        let counts = [
            total(&series.periods, stat.periods.map(|count| count as f64)),
            total(
                &series.throttled_periods,
                stat.throttled_periods.map(|count| count as f64),
            ),
            total(&series.throttled_seconds, stat.throttled_seconds),
        ];
        let quota = stat.quota_cores.map(|cores| {
            series.quota_cores.set(cores);
            series.quota_cores.collect()
        });
        counts.into_iter().chain([quota]).flatten().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mount with these files.
    fn mount(files: &[(&str, &str)]) -> tempfile::TempDir {
        let mount = tempfile::tempdir().expect("a temporary directory");
        for (path, text) in files {
            let path = mount.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            std::fs::write(path, text).expect("written");
        }
        mount
    }

    #[test]
    fn v2_tells_quota_and_throttling() {
        let stat = "usage_usec 9\nuser_usec 5\nsystem_usec 4\nnr_periods 12\nnr_throttled 3\nthrottled_usec 1500000\n";
        let mount = mount(&[
            ("kubepods/pod7/cpu.stat", stat),
            ("kubepods/pod7/cpu.max", "150000 100000\n"),
        ]);
        let cgroup = Cgroup::find(mount.path(), "0::/kubepods/pod7\n").expect("found");
        assert_eq!(cgroup, Cgroup::V2(mount.path().join("kubepods/pod7")));
        let expected = CpuStat {
            periods: Some(12),
            throttled_periods: Some(3),
            throttled_seconds: Some(1.5),
            quota_cores: Some(1.5),
        };
        assert_eq!(cgroup.read(), expected);
        let registry = prometheus::Registry::new();
        registry
            .register(Box::new(CgroupCollector::new(cgroup)))
            .expect("registered");
        for _twice in 0..2 {
            let mut text = Vec::new();
            prometheus::Encoder::encode(&prometheus::TextEncoder::new(), &registry.gather(), &mut text)
                .expect("text");
            let text = String::from_utf8(text).expect("text");
            for line in [
                "# TYPE plumbline_cgroup_cpu_periods_total counter\n",
                "plumbline_cgroup_cpu_periods_total 12\n",
                "plumbline_cgroup_cpu_throttled_periods_total 3\n",
                "plumbline_cgroup_cpu_throttled_seconds_total 1.5\n",
                "plumbline_cgroup_cpu_quota_cores 1.5\n",
            ] {
                assert!(text.contains(line), "missing {line} in:\n{text}");
            }
        }
    }

    #[test]
    fn v1_is_found_by_its_controller_and_in_a_container_at_the_mount() {
        let files = [
            (
                "cpu,cpuacct/cpu.stat",
                "nr_periods 4\nnr_throttled 1\nthrottled_time 250000000\n",
            ),
            ("cpu,cpuacct/cpu.cfs_quota_us", "50000\n"),
            ("cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ];
        let mount = mount(&files);
        let membership = "11:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n1:name=systemd:/docker/ab\n0::/\n";
        let cgroup = Cgroup::find(mount.path(), membership).expect("found");
        assert_eq!(cgroup, Cgroup::V1(mount.path().join("cpu,cpuacct")));
        let expected = CpuStat {
            periods: Some(4),
            throttled_periods: Some(1),
            throttled_seconds: Some(0.25),
            quota_cores: Some(0.5),
        };
        assert_eq!(cgroup.read(), expected);
    }

    #[test]
    fn what_a_cgroup_does_not_tell_has_no_series() {
        // The root cgroup has neither periods nor a quota.
        let root = mount(&[("cpu.stat", "usage_usec 9\nuser_usec 5\nsystem_usec 4\n")]);
        let cgroup = Cgroup::find(root.path(), "0::/\n").expect("found");
        assert_eq!(cgroup.read(), CpuStat::default());
        assert!(CgroupCollector::new(cgroup).collect().is_empty());
        let unlimited = mount(&[("cpu.stat", "nr_periods 0\n"), ("cpu.max", "max 100000\n")]);
        let cgroup = Cgroup::find(unlimited.path(), "0::/\n").expect("found");
        assert_eq!(
            (cgroup.read().periods, cgroup.read().quota_cores),
            (Some(0), None)
        );
        assert_eq!(Cgroup::find(mount(&[]).path(), "0::/\n"), None);
        assert_eq!(Cgroup::find(root.path(), ""), None);
    }
}
