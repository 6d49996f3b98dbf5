//! Metric registration: every series is declared once, by name, with its labels, and can be listed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// One declared series, as `docs/metrics.md` lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Declaration {
    /// Full name, e.g. `plumbline_rows_observed_total`.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Label names in order.
    pub labels: Vec<String>,
    /// What `# HELP` says.
    pub help: String,
}

/// The series of one part. Cloned freely; every clone is the same registry.
///
/// The `prometheus` crate's global registry is not used, so that several parts can live in one process.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    registry: Registry,
    declared: Arc<Mutex<BTreeMap<String, Declaration>>>,
}

macro_rules! declare {
    ($(#[$doc:meta])* $plain:ident -> $Plain:ty, $vec:ident -> $Vec:ty, $kind:literal) => {
        $(#[$doc])*
        ///
        /// # Panics
        /// When the name is declared twice or malformed: both are mistakes in the program.
        pub fn $plain(&self, name: &str, help: &str) -> $Plain {
            let metric = <$Plain>::with_opts(Opts::new(name, help)).expect("a valid metric name");
            self.register(metric, name, help, $kind, &[])
        }

        /// The same with labels, whose values are resolved to handles when configuration is built.
        ///
        /// # Panics
        /// When the name is declared twice or malformed: both are mistakes in the program.
        pub fn $vec(&self, name: &str, help: &str, labels: &[&str]) -> $Vec {
            let metric = <$Vec>::new(Opts::new(name, help), labels).expect("a valid metric name");
            self.register(metric, name, help, $kind, labels)
        }
    };
}

impl Metrics {
    declare!(
        /// Declares a counter; the name ends in `_total`.
        counter -> IntCounter, counter_vec -> IntCounterVec, "counter"
    );
    declare!(
        /// Declares a gauge of whole numbers.
        int_gauge -> IntGauge, int_gauge_vec -> IntGaugeVec, "gauge"
    );
    declare!(
        /// Declares a gauge.
        gauge -> Gauge, gauge_vec -> GaugeVec, "gauge"
    );

    /// Declares a histogram with these upper bounds.
    ///
    /// # Panics
    /// When the name is declared twice or malformed, or the bounds do not ascend: mistakes in the program.
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let metric = Histogram::with_opts(options).expect("a valid histogram");
        self.register(metric, name, help, "histogram", &[])
    }

    /// The same with labels.
    ///
    /// # Panics
    /// When the name is declared twice or malformed, or the bounds do not ascend: mistakes in the program.
    pub fn histogram_vec(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let metric = HistogramVec::new(options, labels).expect("a valid histogram");
        self.register(metric, name, help, "histogram", labels)
    }

    /// Declares series whose values are read when they are scraped: `collector` has those of `declared`, each with name,
    /// kind, labels and what `# HELP` says.
    ///
    /// # Panics
    /// When a name is declared twice: a mistake in the program.
    pub fn collector(&self, collector: Box<dyn Collector>, declared: &[(&str, &'static str, &[&str], &str)]) {
        self.registry
            .register(collector)
            .expect("each metric is declared once");
        for (name, kind, labels, help) in declared {
            self.declare(name, help, kind, labels);
        }
    }

    /// Everything declared so far, by name; series without a value yet are in it.
    pub fn declared(&self) -> Vec<Declaration> {
        self.declared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// The declared series as rows of `docs/metrics.md`: name, kind, labels, meaning.
    pub fn documentation(&self) -> String {
        let mut rows = String::new();
        for Declaration {
            name,
            kind,
            labels,
            help,
        } in self.declared()
        {
            let labels = labels
                .iter()
                .map(|label| format!("`{label}`"))
                .collect::<Vec<_>>()
                .join(", ");
            let _ = writeln!(rows, "| `{name}` | {kind} | {labels} | {help} |");
        }
        rows
    }

    /// The Prometheus text exposition, format 0.0.4.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(16 * 1024);
        let families = self.registry.gather();
        TextEncoder::new()
            .encode(&families, &mut text)
            .expect("writing to memory does not fail");
        text
    }

    /// Adds the series that every process has: build information and, on Linux, CPU, memory and descriptors
    /// of the process and the CPU quota and throttling of its cgroup.
    pub(crate) fn register_process(&self, part: &str, version: &str) {
        let build = self.int_gauge_vec(
            "plumbline_build_info",
            "Always 1; the labels tell the build.",
            &["part", "version"],
        );
        build.with_label_values(&[part, version]).set(1);
        #[cfg(target_os = "linux")]
        self.registry
            .register(Box::new(
                prometheus::process_collector::ProcessCollector::for_self(),
            ))
            .expect("registered once, at start");
        #[cfg(target_os = "linux")]
        if let Some(cgroup) = crate::cgroup::CgroupCollector::for_self() {
            self.registry
                .register(Box::new(cgroup))
                .expect("registered once, at start");
        }
    }

    fn register<M>(&self, metric: M, name: &str, help: &str, kind: &'static str, labels: &[&str]) -> M
    where
        M: Collector + Clone + 'static,
    {
        self.registry
            .register(Box::new(metric.clone()))
            .expect("each metric is declared once");
        self.declare(name, help, kind, labels);
        metric
    }

    fn declare(&self, name: &str, help: &str, kind: &'static str, labels: &[&str]) {
        let labels = labels.iter().map(ToString::to_string).collect();
        let declaration = Declaration {
            name: name.to_owned(),
            kind,
            labels,
            help: help.to_owned(),
        };
        let mut declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        declared.insert(name.to_owned(), declaration);
    }
}

/// Upper bounds in seconds for request durations: 50 µs to 10 s in steps of about 2.
pub const DURATION_SECONDS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_4, 0.000_8, 0.001_5, 0.003, 0.006, 0.012, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 10.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_series_is_listed_before_it_has_a_value() {
        let metrics = Metrics::default();
        metrics.counter_vec("rows_skipped_total", "Rows not observed.", &["reason"]);
        let declared = metrics.declared();
        assert_eq!(declared.len(), 1);
        assert_eq!(
            (declared[0].kind, declared[0].labels.as_slice()),
            ("counter", &["reason".to_owned()][..])
        );
    }

    #[test]
    fn the_exposition_holds_what_was_counted() {
        let metrics = Metrics::default();
        metrics.counter("rows_total", "Rows.").inc_by(3);
        metrics
            .histogram("latency_seconds", "Latency.", &DURATION_SECONDS)
            .observe(0.0003);
        let text = String::from_utf8(metrics.render()).expect("text");
        assert!(text.contains("rows_total 3"), "{text}");
        assert!(text.contains("latency_seconds_bucket{le=\"0.0004\"} 1"), "{text}");
    }
}
