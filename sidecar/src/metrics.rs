//! Every series that the sidecar exports: a name, label or bucket is written here or nowhere.

mod feedback;
mod logger;
mod performance;
mod reference;
mod segments;
mod state;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::StatusCode;
use plumbline_drift::Profile;
use plumbline_drift::monitor::SubjectInfo;
use plumbline_drift::profile::{Kind, Role};
use plumbline_inference_protocol::GrpcCode;
use plumbline_service::metrics::{DURATION_SECONDS, Metrics as Registry};
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};

pub(crate) use feedback::FeedbackMetrics;
pub(crate) use logger::LoggerMetrics;
use performance::PerformanceFamilies;
pub(crate) use performance::PerformanceMetrics;
use reference::ReferenceSourceMetrics;
use segments::SegmentFamily;
pub(crate) use state::StateMetrics;

use crate::skip::SkipReason;

/// Upper bounds in seconds for the time that the sidecar itself takes: 2 µs to 50 ms.
const OVERHEAD_SECONDS: [f64; 14] = [
    0.000_002, 0.000_005, 0.000_01, 0.000_02, 0.000_03, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002,
    0.005, 0.01, 0.05,
];

/// Upper bounds for the highest probability of a row. Two classes start at 0.5, many classes lower.
const CONFIDENCE: [f64; 14] = [
    0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95,
];

/// Every series of the sidecar.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    request_duration: HistogramVec,
    overhead: HistogramVec,
    rows_observed: IntCounterVec,
    rows_skipped: IntCounterVec,
    prediction_bin: IntCounterVec,
    feature_bin: IntCounterVec,
    prediction_class: IntCounterVec,
    prediction_confidence: HistogramVec,
    feature_missing: IntCounterVec,
    feature_out_of_range: IntCounterVec,
    feature_unseen_category: IntCounterVec,
    drift_score: GaugeVec,
    drift_log_evidence: GaugeVec,
    drift_state: IntGaugeVec,
    segments: SegmentFamily,
    drift_windows: IntCounterVec,
    features_without_series: IntGaugeVec,
    profile_loaded: IntGaugeVec,
    reference: ReferenceMetrics,
    pub(crate) exchanges: ExchangeMetrics,
    pub(crate) upstream: UpstreamMetrics,
    pub(crate) events: EventMetrics,
    pub(crate) logger: LoggerMetrics,
    pub(crate) feedback: FeedbackMetrics,
    performance: PerformanceFamilies,
    pub(crate) references: ReferenceSourceMetrics,
    pub(crate) state: StateMetrics,
}

/// Rows per bin of each model's reference, what rules compare the bin counters with.
#[derive(Clone, Debug)]
struct ReferenceMetrics {
    family: IntGaugeVec,
    /// The series of each model, to be taken back when it gets another profile: a bin of the old one would count as a bin
    /// without rows.
    shown: Arc<Mutex<BTreeMap<String, Vec<[String; 4]>>>>,
}

/// Exchanges that carried predictions: `inferences` = `observed` + `skipped` once the queue is empty.
#[derive(Clone, Debug)]
pub(crate) struct ExchangeMetrics {
    pub(crate) inferences: IntCounter,
    pub(crate) observed: IntCounter,
    pub(crate) skipped: IntCounter,
    pub(crate) queued: IntGauge,
    pub(crate) queued_bytes: IntGauge,
    pub(crate) panics: IntCounter,
}

/// What happens between the sidecar and the model server.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamMetrics {
    pub(crate) connections: IntCounter,
    pub(crate) retries: IntCounter,
    pub(crate) cannot_connect: IntCounter,
    pub(crate) timeout: IntCounter,
    pub(crate) broken: IntCounter,
    pub(crate) client: IntCounter,
}

/// Events on their way to the analysis-worker: `raised + loaded = delivered + refused + coalesced + overflowed + pending`.
#[derive(Clone, Debug)]
pub(crate) struct EventMetrics {
    pub(crate) raised: IntCounter,
    pub(crate) loaded: IntCounter,
    pub(crate) delivered: IntCounter,
    pub(crate) retried: IntCounter,
    pub(crate) refused: IntCounter,
    pub(crate) coalesced: IntCounter,
    pub(crate) overflowed: IntCounter,
    pub(crate) pending: IntGauge,
    pub(crate) pending_bytes: IntGauge,
    pub(crate) spool: SpoolMetrics,
}

/// What the disk did not do for the spool.
#[derive(Clone, Debug)]
pub(crate) struct SpoolMetrics {
    pub(crate) read: IntCounter,
    pub(crate) write: IntCounter,
    pub(crate) remove: IntCounter,
}

const MODEL: [&str; 2] = ["model", "version"];

/// The `subject` of a model's own state.
const WHOLE: &str = "model";

/// Features of a model that get series of their own. At 9 series and the bins for each, a model of thousands would
/// overwhelm who scrapes.
const MAX_FEATURES: usize = 200;

/// The `feature` and `bin` of what the other features count.
const OTHER: &str = "other";

/// The `feature` label of a feature; one that is itself called `other` gets quotation marks.
fn feature_label(name: &str) -> &str {
    if name == OTHER { "\"other\"" } else { name }
}

/// The `subject` label of a subject; one that is itself called `model` gets quotation marks, as such bins do.
fn subject_label(name: &str) -> &str {
    if name == WHOLE { "\"model\"" } else { name }
}

impl Metrics {
    /// Declares every series.
    #[expect(clippy::too_many_lines, reason = "a list, and the only one")]
    pub(crate) fn declare(registry: &Registry) -> Self {
        let exchanges = registry.counter_vec(
            "plumbline_sidecar_exchanges_total",
            "Exchanges that carried predictions: forwarded, then observed or skipped.",
            &["outcome"],
        );
        let failures = registry.counter_vec(
            "plumbline_sidecar_upstream_failures_total",
            "Exchanges that the model server did not answer, by reason.",
            &["reason"],
        );
        let events = registry.counter_vec(
            "plumbline_sidecar_events_total",
            "Drift events: raised here or loaded from the spool, then delivered, refused, coalesced or overflowed, once each; retried counts attempts.",
            &["outcome"],
        );
        let spool = registry.counter_vec(
            "plumbline_sidecar_spool_failures_total",
            "Operations of the spool directory that failed; events wait in memory, and what fails is tried again.",
            &["operation"],
        );
        Self {
            request_duration: registry.histogram_vec(
                "plumbline_request_duration_seconds",
                "Time from a request's head to the end of its answer.",
                &["model", "version", "protocol", "code"],
                &DURATION_SECONDS,
            ),
            overhead: registry.histogram_vec(
                "plumbline_sidecar_overhead_seconds",
                "Part of the request duration that was not spent on the model server and the connection to it.",
                &["model"],
                &OVERHEAD_SECONDS,
            ),
            rows_observed: registry.counter_vec(
                "plumbline_rows_observed_total",
                "Rows compared with the reference profile.",
                &MODEL,
            ),
            rows_skipped: registry.counter_vec(
                "plumbline_rows_skipped_total",
                "Rows not observed, by reason; one for an exchange whose rows cannot be counted.",
                &["model", "version", "reason"],
            ),
            prediction_bin: registry.counter_vec(
                "plumbline_prediction_bin_total",
                "Predictions per bin of the reference profile.",
                &["model", "version", "output", "bin"],
            ),
            feature_bin: registry.counter_vec(
                "plumbline_feature_bin_total",
                "Feature values per bin of the reference profile.",
                &["model", "version", "feature", "bin"],
            ),
            prediction_class: registry.counter_vec(
                "plumbline_prediction_class_total",
                "Predicted classes; `other` is any class that the profile does not list.",
                &["model", "version", "output", "class"],
            ),
            prediction_confidence: registry.histogram_vec(
                "plumbline_prediction_confidence",
                "Highest class probability of a row.",
                &["model", "version", "output"],
                &CONFIDENCE,
            ),
            feature_missing: registry.counter_vec(
                "plumbline_feature_missing_total",
                "Feature values that are missing: null, NaN, an infinity, the empty text.",
                &["model", "version", "feature"],
            ),
            feature_out_of_range: registry.counter_vec(
                "plumbline_feature_out_of_range_total",
                "Feature values below or above everything in the reference.",
                &["model", "version", "feature"],
            ),
            feature_unseen_category: registry.counter_vec(
                "plumbline_feature_unseen_category_total",
                "Feature values of a category that the profile does not list.",
                &["model", "version", "feature"],
            ),
            drift_score: registry.gauge_vec(
                "plumbline_drift_score",
                "Distance of the last closed window from the reference, by statistic.",
                &["model", "version", "subject", "statistic"],
            ),
            drift_log_evidence: registry.gauge_vec(
                "plumbline_drift_log_evidence",
                "Decimal logarithm of the sequential test's e-value.",
                &["model", "version", "subject"],
            ),
            drift_state: registry.int_gauge_vec(
                "plumbline_drift_state",
                "0 stable, 1 warning, 2 drift; the subject `model` stands for all of them.",
                &["model", "version", "subject"],
            ),
            segments: SegmentFamily::declare(registry),
            drift_windows: registry.counter_vec(
                "plumbline_drift_windows_total",
                "Detection windows closed.",
                &MODEL,
            ),
            features_without_series: registry.int_gauge_vec(
                "plumbline_features_without_series",
                "Features beyond the cap; they are compared, and counted together as the feature `other`.",
                &MODEL,
            ),
            profile_loaded: registry.int_gauge_vec(
                "plumbline_profile_loaded",
                "1 when the model has a usable reference profile, 0 when it has none or a bad one.",
                &["model"],
            ),
            reference: ReferenceMetrics {
                family: registry.int_gauge_vec(
                    "plumbline_reference_bin_rows",
                    "Rows of the reference profile per bin of a feature or output, as the bin counters have them.",
                    &["model", "version", "subject", "bin"],
                ),
                shown: Arc::default(),
            },
            exchanges: ExchangeMetrics {
                inferences: exchanges.with_label_values(&["forwarded"]),
                observed: exchanges.with_label_values(&["observed"]),
                skipped: exchanges.with_label_values(&["skipped"]),
                queued: registry.int_gauge(
                    "plumbline_sidecar_queue_exchanges",
                    "Exchanges that wait for the observer.",
                ),
                queued_bytes: registry.int_gauge(
                    "plumbline_sidecar_queue_bytes",
                    "Bytes of bodies that are kept for the observer, of exchanges in flight and of those that wait.",
                ),
                panics: registry.counter(
                    "plumbline_sidecar_observer_panics_total",
                    "Panics of what observes, each caught; the answer went its way.",
                ),
            },
            upstream: UpstreamMetrics {
                connections: registry.counter(
                    "plumbline_sidecar_upstream_connections_total",
                    "Connections opened to the model server.",
                ),
                retries: registry.counter(
                    "plumbline_sidecar_upstream_retries_total",
                    "Requests sent again because the kept connection had been closed before they were processed.",
                ),
                cannot_connect: failures.with_label_values(&["connect"]),
                timeout: failures.with_label_values(&["timeout"]),
                broken: failures.with_label_values(&["broken"]),
                client: failures.with_label_values(&["client"]),
            },
            events: EventMetrics {
                raised: events.with_label_values(&["raised"]),
                loaded: events.with_label_values(&["loaded"]),
                delivered: events.with_label_values(&["delivered"]),
                retried: events.with_label_values(&["retried"]),
                refused: events.with_label_values(&["refused"]),
                coalesced: events.with_label_values(&["coalesced"]),
                overflowed: events.with_label_values(&["overflowed"]),
                pending: registry.int_gauge(
                    "plumbline_sidecar_events_pending",
                    "Drift events that wait for delivery.",
                ),
                pending_bytes: registry.int_gauge(
                    "plumbline_sidecar_events_pending_bytes",
                    "Bytes of the drift events that wait for delivery.",
                ),
                spool: SpoolMetrics {
                    read: spool.with_label_values(&["read"]),
                    write: spool.with_label_values(&["write"]),
                    remove: spool.with_label_values(&["remove"]),
                },
            },
            logger: LoggerMetrics::declare(registry),
            feedback: FeedbackMetrics::declare(registry),
            performance: PerformanceFamilies::declare(registry),
            references: ReferenceSourceMetrics::declare(registry),
            state: StateMetrics::declare(registry),
        }
    }

    /// Says whether `model` has a usable profile.
    pub(crate) fn profile_loaded(&self, model: &str, loaded: bool) {
        self.profile_loaded
            .with_label_values(&[model])
            .set(i64::from(loaded));
    }

    /// Shows the reference of a model, instead of the one before; of the features that have counters of their own.
    pub(crate) fn reference(&self, [model, version]: [&str; 2], profile: &Profile) {
        let ReferenceMetrics { family, shown } = &self.reference;
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        let series = shown.entry(model.to_owned()).or_default();
        for labels in series.drain(..) {
            family
                .remove_label_values(&labels.each_ref().map(String::as_str))
                .expect("it was made with these labels");
        }
        let features = profile.features.iter().take(MAX_FEATURES);
        let features = features.map(|feature| (feature, feature_label(&feature.name)));
        let outputs = profile
            .outputs
            .iter()
            .map(|output| (output, output.name.as_str()));
        for (subject, name) in features.chain(outputs) {
            for (bin, rows) in subject.bin_names().into_iter().zip(subject.reference_counts()) {
                let labels = [model.to_owned(), version.to_owned(), name.to_owned(), bin];
                let gauge = family.with_label_values(&labels.each_ref().map(String::as_str));
                gauge.set(i64::try_from(rows).unwrap_or(i64::MAX));
                series.push(labels);
            }
        }
    }

    /// The handles of one model.
    pub(crate) fn model(&self, model: &str, version: &str) -> ModelMetrics {
        let labels = [model, version];
        ModelMetrics {
            durations: Durations::new(self.request_duration.clone(), labels),
            overhead: self.overhead.with_label_values(&[model]),
            rows_observed: self.rows_observed.with_label_values(&labels),
            rows_skipped: SkipReason::ALL.map(|reason| {
                self.rows_skipped
                    .with_label_values(&[model, version, reason.as_str()])
            }),
        }
    }

    /// The handles of the subjects of a model's profile, and of the state of the whole.
    pub(crate) fn subjects(&self, labels: [&str; 2], subjects: &[SubjectInfo]) -> Vec<SubjectMetrics> {
        let mut features = 0;
        let metrics = subjects
            .iter()
            .map(|subject| {
                features += usize::from(!subject.is_output());
                if subject.is_output() || features <= MAX_FEATURES {
                    self.subject(labels, subject)
                } else {
                    self.other_feature(labels, subject)
                }
            })
            .collect();
        self.features_without_series
            .with_label_values(&labels)
            .set(features.saturating_sub(MAX_FEATURES) as i64);
        metrics
    }

    /// A feature beyond the cap: it is compared, and counted together with the others.
    fn other_feature(&self, [model, version]: [&str; 2], subject: &SubjectInfo) -> SubjectMetrics {
        let of_feature = [model, version, OTHER];
        let bin = self
            .feature_bin
            .with_label_values(&[model, version, OTHER, OTHER]);
        SubjectMetrics {
            bins: vec![bin; subject.bins.len()],
            classes: None,
            quality: Some(self.quality(&of_feature, subject)),
            scores: None,
        }
    }

    fn quality(&self, of_feature: &[&str; 3], subject: &SubjectInfo) -> QualityMetrics {
        let ordered = is_ordered(subject);
        let categorical = subject.kind == Kind::Categorical;
        QualityMetrics {
            missing: self.feature_missing.with_label_values(of_feature),
            out_of_range: ordered.then(|| self.feature_out_of_range.with_label_values(of_feature)),
            unseen: categorical.then(|| self.feature_unseen_category.with_label_values(of_feature)),
        }
    }

    /// The model-level state.
    pub(crate) fn model_state(&self, [model, version]: [&str; 2]) -> IntGauge {
        self.drift_state.with_label_values(&[model, version, WHOLE])
    }

    fn subject(&self, [model, version]: [&str; 2], subject: &SubjectInfo) -> SubjectMetrics {
        let is_output = subject.is_output();
        let name = if is_output {
            subject.name.as_str()
        } else {
            feature_label(&subject.name)
        };
        let of_feature = [model, version, name];
        let of_subject = [model, version, subject_label(&subject.name)];
        let ordered = is_ordered(subject);
        let bins = if is_output {
            &self.prediction_bin
        } else {
            &self.feature_bin
        };
        let score = |statistic| {
            self.drift_score
                .with_label_values(&[model, version, subject_label(&subject.name), statistic])
        };
        SubjectMetrics {
            bins: subject
                .bins
                .iter()
                .map(|bin| bins.with_label_values(&[model, version, name, bin.as_str()]))
                .collect(),
            classes: (subject.role == Some(Role::Label)).then(|| {
                let class = |bin: &String| {
                    self.prediction_class
                        .with_label_values(&[model, version, name, bin.as_str()])
                };
                subject.bins.iter().map(class).collect()
            }),
            quality: (!is_output).then(|| self.quality(&of_feature, subject)),
            scores: Some(ScoreMetrics {
                psi: score("psi"),
                js: score("js"),
                ks: ordered.then(|| score("ks")),
                wasserstein: ordered.then(|| score("wasserstein")),
                chi2: score("chi2"),
                log_evidence: self.drift_log_evidence.with_label_values(&of_subject),
                state: self.drift_state.with_label_values(&of_subject),
            }),
        }
    }

    /// The handles of how well a model does.
    pub(crate) fn performance(&self, labels: [&str; 2]) -> PerformanceMetrics {
        PerformanceMetrics::new(&self.performance, labels)
    }

    /// The states of a model's segments, in the order of their names; they take the place of the ones before.
    pub(crate) fn segments<'a>(
        &self,
        labels: [&str; 2],
        names: impl Iterator<Item = &'a str>,
    ) -> Vec<IntGauge> {
        self.segments.show(labels, names)
    }

    /// Detection windows closed.
    pub(crate) fn windows(&self, labels: [&str; 2]) -> IntCounter {
        self.drift_windows.with_label_values(&labels)
    }

    /// The confidence of one probability tensor.
    pub(crate) fn confidence(&self, [model, version]: [&str; 2], output: &str) -> Histogram {
        self.prediction_confidence
            .with_label_values(&[model, version, output])
    }
}

/// Whether the subject's values are compared as numbers.
fn is_ordered(subject: &SubjectInfo) -> bool {
    matches!(subject.kind, Kind::Numeric | Kind::TextLength)
}

/// The handles of one model.
#[derive(Debug)]
pub(crate) struct ModelMetrics {
    pub(crate) durations: Durations,
    pub(crate) overhead: Histogram,
    pub(crate) rows_observed: IntCounter,
    rows_skipped: [IntCounter; SkipReason::ALL.len()],
}

impl ModelMetrics {
    /// Counts rows that were not observed.
    pub(crate) fn rows_skipped(&self, reason: SkipReason, rows: u64) {
        self.rows_skipped[reason as usize].inc_by(rows);
    }
}

/// The handles of one subject.
#[derive(Debug)]
pub(crate) struct SubjectMetrics {
    /// In the order of the profile's bins.
    pub(crate) bins: Vec<IntCounter>,
    /// The same counts under their public name for predicted classes; label outputs only.
    pub(crate) classes: Option<Vec<IntCounter>>,
    /// Features only.
    pub(crate) quality: Option<QualityMetrics>,
    /// None beyond the cap on features.
    pub(crate) scores: Option<ScoreMetrics>,
}

/// What the comparison of a subject says.
#[derive(Debug)]
pub(crate) struct ScoreMetrics {
    pub(crate) psi: Gauge,
    pub(crate) js: Gauge,
    /// Numbers only.
    pub(crate) ks: Option<Gauge>,
    /// Numbers only; in standard deviations of the reference.
    pub(crate) wasserstein: Option<Gauge>,
    pub(crate) chi2: Gauge,
    pub(crate) log_evidence: Gauge,
    pub(crate) state: IntGauge,
}

/// What is wrong with values whatever their distribution.
#[derive(Debug)]
pub(crate) struct QualityMetrics {
    pub(crate) missing: IntCounter,
    /// Numbers only.
    pub(crate) out_of_range: Option<IntCounter>,
    /// Categories only.
    pub(crate) unseen: Option<IntCounter>,
}

/// How an inference came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    V1,
    V2,
    Grpc,
}

impl Protocol {
    const COUNT: usize = 3;

    const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Grpc => "grpc",
        }
    }
}

/// How an exchange ended, as the `code` label tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Http(StatusCode),
    Grpc(GrpcCode),
}

impl Code {
    /// Statuses with a label of their own; others share one per class, so that the set is closed.
    const HTTP: [u16; 16] = [
        200, 400, 401, 403, 404, 408, 413, 415, 422, 429, 499, 500, 501, 502, 503, 504,
    ];
    const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
    const COUNT: usize = Self::HTTP.len() + Self::CLASSES.len();

    fn index(self) -> usize {
        match self {
            Self::Grpc(code) => usize::try_from(code.as_i32()).unwrap_or(GrpcCode::Unknown as usize),
            Self::Http(status) => {
                let status = status.as_u16();
                let class = usize::from(status / 100).clamp(1, Self::CLASSES.len()) - 1;
                let own = Self::HTTP.iter().position(|&own| own == status);
                own.unwrap_or(Self::HTTP.len() + class)
            }
        }
    }

    fn label(self) -> String {
        match self {
            Self::Grpc(code) => code.name().to_owned(),
            Self::Http(status) => match Self::HTTP.get(self.index()) {
                Some(_) => status.as_str().to_owned(),
                None => Self::CLASSES[self.index() - Self::HTTP.len()].to_owned(),
            },
        }
    }
}

/// Durations of one model by protocol and code. A handle is resolved when its pair first occurs: all pairs from the start
/// would be a thousand series of zeros per model.
#[derive(Debug)]
pub(crate) struct Durations {
    family: HistogramVec,
    labels: [String; 2],
    handles: [[OnceLock<Histogram>; Code::COUNT]; Protocol::COUNT],
}

impl Durations {
    fn new(family: HistogramVec, labels: [&str; 2]) -> Self {
        let handles = std::array::from_fn(|_| std::array::from_fn(|_| OnceLock::new()));
        Self {
            family,
            labels: labels.map(str::to_owned),
            handles,
        }
    }

    pub(crate) fn record(&self, protocol: Protocol, code: Code, duration: Duration) {
        let handle = self.handles[protocol as usize][code.index()].get_or_init(|| {
            let [model, version] = &self.labels;
            let labels = [model.as_str(), version.as_str(), protocol.as_str(), &code.label()];
            self.family.with_label_values(&labels)
        });
        handle.observe(duration.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_documented() {
        let registry = Registry::default();
        Metrics::declare(&registry);
        plumbline_testkit::documentation::assert_metrics_documented("sidecar", &registry.documentation());
    }

    #[test]
    fn codes_are_a_closed_set_without_collisions() {
        assert!(GrpcCode::ALL.len() <= Code::COUNT);
        let labels: Vec<String> = (100..600)
            .filter_map(|status| StatusCode::from_u16(status).ok())
            .map(|status| Code::Http(status).label())
            .collect();
        let distinct: std::collections::BTreeSet<&String> = labels.iter().collect();
        assert_eq!(distinct.len(), Code::COUNT);
        assert_eq!(Code::Http(StatusCode::CREATED).label(), "2xx");
        assert_eq!(Code::Http(StatusCode::IM_A_TEAPOT).label(), "4xx");
        assert_eq!(
            Code::Grpc(GrpcCode::Unavailable).label(),
            GrpcCode::Unavailable.name()
        );
    }

    fn feature(name: String, kind: Kind) -> SubjectInfo {
        SubjectInfo {
            name,
            tensor: "x".to_owned(),
            column: 0,
            datatype: plumbline_drift::profile::Datatype::Fp32,
            kind,
            role: None,
            class: None,
            bins: ["low", "high"].map(str::to_owned).to_vec(),
        }
    }

    #[test]
    fn a_feature_has_few_series_and_features_beyond_the_cap_share_theirs() {
        let registry = Registry::default();
        let metrics = Metrics::declare(&registry);
        let series = || {
            let text = String::from_utf8(registry.render()).expect("text");
            text.lines().filter(|line| line.contains("version=\"3\"")).count()
        };
        let feature = |number: usize| feature(format!("f{number}"), Kind::Numeric);
        let subjects: Vec<SubjectInfo> = (0..1).map(feature).collect();
        metrics.subjects(["churn", "3"], &subjects);
        let (whole, bins) = (1, 2);
        let of_one = series() - whole;
        assert!(of_one <= 12 + bins, "{of_one}");
        let subjects: Vec<SubjectInfo> = (0..MAX_FEATURES).map(feature).collect();
        metrics.subjects(["churn", "3"], &subjects);
        let capped = series();
        assert_eq!(capped, MAX_FEATURES * of_one + whole);
        let subjects: Vec<SubjectInfo> = (0..MAX_FEATURES + 50).map(feature).collect();
        let handles = metrics.subjects(["churn", "3"], &subjects);
        assert_eq!(series(), capped + 3, "one bin, missing, out of range");
        handles[MAX_FEATURES].bins[0].inc_by(2);
        handles[MAX_FEATURES + 49].bins[1].inc_by(3);
        let text = String::from_utf8(registry.render()).expect("text");
        for line in [
            r#"plumbline_feature_bin_total{bin="other",feature="other",model="churn",version="3"} 5"#,
            r#"plumbline_features_without_series{model="churn",version="3"} 50"#,
        ] {
            assert!(text.contains(line), "{line}");
        }
    }

    #[test]
    fn durations_appear_with_their_first_exchange() {
        let registry = Registry::default();
        let model = Metrics::declare(&registry).model("churn", "3");
        let text = || String::from_utf8(registry.render()).expect("text");
        assert!(!text().contains("plumbline_request_duration_seconds_count"));
        model
            .durations
            .record(Protocol::V2, Code::Http(StatusCode::OK), Duration::from_millis(3));
        let line = r#"plumbline_request_duration_seconds_count{code="200",model="churn",protocol="v2",version="3"} 1"#;
        assert!(text().contains(line), "{}", text());
    }

    #[test]
    fn another_profile_takes_the_place_of_the_reference() {
        const EXAMPLE: &str = include_str!("../../crates/drift/schema/example.profile.json");

        let registry = Registry::default();
        let metrics = Metrics::declare(&registry);
        let profile = |subject: &str| {
            let mut profile = Profile::from_json(EXAMPLE.as_bytes()).expect("the example is valid");
            profile.features.truncate(1);
            subject.clone_into(&mut profile.features[0].name);
            profile
        };
        metrics.reference(["churn", "3"], &profile("senior"));
        metrics.reference(["fraud", "1"], &profile("senior"));
        metrics.reference(["churn", "4"], &profile("partner"));
        let text = String::from_utf8(registry.render()).expect("text");
        let shows = |part: &str| text.lines().any(|line| line.contains(part));
        assert!(!shows(r#"model="churn",subject="senior""#), "{text}");
        assert!(shows(r#"model="churn",subject="partner",version="4""#), "{text}");
        assert!(shows(r#"model="fraud",subject="senior",version="1""#), "{text}");
        let mut wide = profile("other");
        wide.features = (0..MAX_FEATURES + 50)
            .map(|number| {
                let mut feature = wide.features[0].clone();
                if number > 0 {
                    feature.name = format!("f{number}");
                }
                feature
            })
            .collect();
        metrics.reference(["wide", "1"], &wide);
        let text = String::from_utf8(registry.render()).expect("text");
        let shows =
            |subject: &str| text.contains(&format!(r#"model="wide",subject="{subject}",version="1""#));
        let last = MAX_FEATURES - 1;
        let shown = [r#"\"other\""#, &format!("f{last}"), &format!("f{MAX_FEATURES}")].map(shows);
        assert_eq!(shown, [true, true, false]);
    }

    #[test]
    fn every_reason_is_visible_from_the_start() {
        let registry = Registry::default();
        Metrics::declare(&registry)
            .model("churn", "3")
            .rows_skipped(SkipReason::QueueFull, 2);
        let text = String::from_utf8(registry.render()).expect("text");
        for reason in SkipReason::ALL {
            let value = if reason == SkipReason::QueueFull { 2 } else { 0 };
            let name = reason.as_str();
            let line = format!(
                "plumbline_rows_skipped_total{{model=\"churn\",reason=\"{name}\",version=\"3\"}} {value}"
            );
            assert!(text.contains(&line), "{line}");
        }
    }
}
