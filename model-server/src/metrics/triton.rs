//! Triton's names for what is counted anyway, so that its dashboards show this server. Read when they are scraped:
//! a request costs nothing more.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use plumbline_service::metrics::Metrics as Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{CounterVec, GaugeVec, Opts};

use super::{Outcome, Series};

const MODEL: [&str; 2] = ["model", "version"];
const FAILURE: [&str; 3] = ["model", "version", "reason"];

/// A counter's name, what it counts, and its value.
type Count = (&'static str, &'static str, fn(&Series) -> f64);

/// Counters with the labels `model` and `version`.
const COUNTS: [Count; 8] = [
    (
        "nv_inference_request_success",
        "Inference requests that succeeded.",
        |series| series.requests.outcomes()[Outcome::Success as usize].count as f64,
    ),
    (
        "nv_inference_count",
        "Rows of inferences, those of a batch each.",
        |series| series.rows_run() as f64,
    ),
    ("nv_inference_exec_count", "Executions of the model.", |series| {
        series.executions().count as f64
    }),
    (
        "nv_inference_request_duration_us",
        "Time of inference requests that succeeded, in microseconds.",
        |series| series.requests.outcomes()[Outcome::Success as usize].micros(),
    ),
    (
        "nv_inference_queue_duration_us",
        "Time that inference requests waited, in microseconds.",
        |series| series.queued().micros(),
    ),
    (
        "nv_inference_compute_input_duration_us",
        "Always 0: inputs are used where they lie.",
        |_| 0.0,
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "Time of executions, for each request that they carried, in microseconds.",
        |series| series.computed().micros(),
    ),
    (
        "nv_inference_compute_output_duration_us",
        "Always 0: reading outputs is part of the execution.",
        |_| 0.0,
    ),
];

const FAILURES: (&str, &str) = (
    "nv_inference_request_failure",
    "Inference requests that failed: REJECTED, CANCELED, BACKEND, OTHER.",
);

const PENDING: (&str, &str) = (
    "nv_inference_pending_request_count",
    "Inference requests that are not answered yet.",
);

/// The models whose series are shown; those that are gone drop out.
pub(super) type Models = Arc<Mutex<Vec<Weak<Series>>>>;

/// Exports every series under Triton's names, too.
pub(super) fn declare(registry: &Registry, models: Models) {
    let described = |name, help, labels: &[&str]| {
        let opts = Opts::new(name, help);
        Desc::new(
            opts.name,
            opts.help,
            labels.iter().map(ToString::to_string).collect(),
            opts.const_labels,
        )
        .expect("valid names")
    };
    let counters = COUNTS
        .iter()
        .map(|(name, help, _)| (*name, "counter", &MODEL[..], *help))
        .chain([(FAILURES.0, "counter", &FAILURE[..], FAILURES.1)]);
    let declarations: Vec<_> = counters
        .chain([(PENDING.0, "gauge", &MODEL[..], PENDING.1)])
        .collect();
    let descriptions = declarations
        .iter()
        .map(|(name, _, labels, help)| described(*name, *help, labels))
        .collect();
    registry.collector(Box::new(Aliases { models, descriptions }), &declarations);
}

struct Aliases {
    models: Models,
    descriptions: Vec<Desc>,
}

impl Collector for Aliases {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let models: Vec<Arc<Series>> = {
            let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
            models.iter().filter_map(Weak::upgrade).collect()
        };
        let mut families = Vec::new();
        for (name, help, value) in COUNTS {
            let counter = CounterVec::new(Opts::new(name, help), &MODEL).expect("valid names");
            for series in &models {
                counter.with_label_values(&series.labels()).inc_by(value(series));
            }
            families.extend(counter.collect());
        }
        let failures = CounterVec::new(Opts::new(FAILURES.0, FAILURES.1), &FAILURE).expect("valid names");
        let pending = GaugeVec::new(Opts::new(PENDING.0, PENDING.1), &MODEL).expect("valid names");
        for series in &models {
            let [model, version] = series.labels();
            let outcomes = series.requests.outcomes();
            let of = |outcome: Outcome| outcomes[outcome as usize].count as f64;
            for (reason, count) in [
                ("REJECTED", of(Outcome::Rejected)),
                ("CANCELED", of(Outcome::Cancelled) + series.abandoned() as f64),
                ("BACKEND", of(Outcome::Backend)),
                ("OTHER", of(Outcome::Other)),
            ] {
                failures
                    .with_label_values(&[model, version, reason])
                    .inc_by(count);
            }
            pending
                .with_label_values(&[model, version])
                .set(series.in_flight() as f64);
        }
        families.extend(failures.collect());
        families.extend(pending.collect());
        families
    }
}
