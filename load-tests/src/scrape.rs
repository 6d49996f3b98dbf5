//! Counts and histograms of a server's own `/metrics`, for what no client can see.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, ensure};

use crate::client::{self, Http, Transport};
use crate::request::Request;

/// All series of a name, summed over their labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Observations up to each bound, in the order of the bounds; the last is infinite.
    buckets: Vec<(f64, f64)>,
    /// Sum of what was observed.
    pub sum: f64,
    /// Observations.
    pub count: f64,
}

/// The text of `/metrics` at an admin port.
///
/// # Errors
/// When it does not answer 200.
pub fn metrics(admin: SocketAddr) -> anyhow::Result<String> {
    let request = Request::get("/metrics")?;
    let (status, body) = client::once_blocking(admin, &Transport::plain(Http::One), &request)?;
    ensure!(status == 200, "/metrics: {status}");
    String::from_utf8(body).context("/metrics is text")
}

/// The sum of the series `name` whose labels contain all of `labels`.
pub fn total(text: &str, name: &str, labels: &[&str]) -> f64 {
    text.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|line| line.starts_with(['{', ' ']))
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

impl Histogram {
    /// The histogram `name` whose labels contain all of `labels` (`model="gb"`).
    pub fn of(text: &str, name: &str, labels: &[&str]) -> Self {
        let mut buckets: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
        let mut histogram = Self::default();
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .filter(|line| labels.iter().all(|label| line.contains(label)));
        for line in lines {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let value: f64 = value.parse().unwrap_or(0.0);
            if series.starts_with("_sum") {
                histogram.sum += value;
            } else if series.starts_with("_count") {
                histogram.count += value;
            } else if let Some((_, rest)) = series.split_once("le=\"")
                && let Some((bound, _)) = rest.split_once('"')
                && let Ok(bound) = bound.replace("+Inf", "inf").parse::<f64>()
            {
                // Positive floats are ordered as their bits.
                buckets.entry(bound.to_bits()).or_insert((bound, 0.0)).1 += value;
            }
        }
        histogram.buckets = buckets.into_values().collect();
        histogram
    }

    /// What was observed since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let old = |bound: f64| {
            before
                .buckets
                .iter()
                .find(|(other, _)| *other == bound)
                .map_or(0.0, |(_, count)| *count)
        };
        Self {
            buckets: self
                .buckets
                .iter()
                .map(|(bound, count)| (*bound, count - old(*bound)))
                .collect(),
            sum: self.sum - before.sum,
            count: self.count - before.count,
        }
    }

    /// Mean of what was observed.
    pub fn mean(&self) -> f64 {
        self.sum / self.count
    }

    /// A quantile, interpolated within its bucket as Prometheus does.
    pub fn quantile(&self, quantile: f64) -> f64 {
        let rank = quantile * self.count;
        let (mut lower, mut below) = (0.0, 0.0);
        for (bound, count) in &self.buckets {
            if *count >= rank && *count > below {
                if bound.is_infinite() {
                    return lower;
                }
                return lower + (bound - lower) * (rank - below) / (count - below);
            }
            (lower, below) = (*bound, *count);
        }
        f64::NAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# TYPE t_seconds histogram
t_seconds_bucket{model=\"a\",code=\"200\",le=\"0.1\"} 10
t_seconds_bucket{model=\"a\",code=\"200\",le=\"0.2\"} 30
t_seconds_bucket{model=\"a\",code=\"200\",le=\"+Inf\"} 30
t_seconds_sum{model=\"a\",code=\"200\"} 4
t_seconds_count{model=\"a\",code=\"200\"} 30
t_seconds_bucket{model=\"a\",code=\"429\",le=\"0.1\"} 0
t_seconds_bucket{model=\"a\",code=\"429\",le=\"+Inf\"} 10
t_seconds_count{model=\"a\",code=\"429\"} 10
t_seconds_count{model=\"b\"} 7
";

    #[test]
    fn a_total_is_of_one_name() {
        let text = "t_total{a=\"1\",b=\"1\"} 2\nt_total{a=\"1\",b=\"2\"} 3\nt_total{a=\"2\"} 4\nt_total_seconds 5\nt 6\n";
        assert_eq!(total(text, "t_total", &[]), 9.0);
        assert_eq!(total(text, "t_total", &["a=\"1\""]), 5.0);
        assert_eq!(total(text, "t", &[]), 6.0);
        assert_eq!(total(text, "other", &[]), 0.0);
    }

    #[test]
    fn series_are_summed_over_labels_that_are_not_named() {
        let all = Histogram::of(TEXT, "t_seconds", &["model=\"a\""]);
        assert_eq!((all.count, all.sum), (40.0, 4.0));
        assert_eq!(all.buckets, [(0.1, 10.0), (0.2, 30.0), (f64::INFINITY, 40.0)]);
        let good = Histogram::of(TEXT, "t_seconds", &["model=\"a\"", "code=\"200\""]);
        assert_eq!(good.count, 30.0);
        assert!(
            (good.quantile(0.5) - 0.125).abs() < 1e-12,
            "{}",
            good.quantile(0.5)
        );
        assert_eq!(all.since(&good).count, 10.0);
        assert_eq!(all.quantile(0.99), 0.2);
    }
}
