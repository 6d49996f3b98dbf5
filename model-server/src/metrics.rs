//! Every series that the model server exports. A name, label or bucket is written here or nowhere.

mod triton;

use std::collections::BTreeMap;
use std::iter::Sum;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use plumbline_inference_protocol::GrpcCode;
use plumbline_service::metrics::DURATION_SECONDS;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

/// Rows of one run: a power of two each, up to what one body reasonably carries.
const ROWS: [f64; 13] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 4_096.0, 16_384.0,
];

/// A request's time less that of its run: microseconds, unless the machine is short of CPU.
const OVERHEAD_SECONDS: [f64; 16] = [
    0.000_005, 0.000_01, 0.000_015, 0.000_02, 0.000_025, 0.000_03, 0.000_04, 0.000_06, 0.000_1, 0.000_2,
    0.000_5, 0.001, 0.002_5, 0.01, 0.1, 1.0,
];

/// Time to load a model: a few milliseconds for a small one, minutes for the largest.
const LOAD_SECONDS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0,
];

/// The label `model` of requests for a model that is not served: a name from a request is never a label.
const UNKNOWN: &str = "unknown";

/// Every series.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    request_duration: HistogramVec,
    queue_duration: HistogramVec,
    compute_duration: HistogramVec,
    overhead_duration: HistogramVec,
    rejected: IntCounterVec,
    batch_rows: HistogramVec,
    model_ready: IntGaugeVec,
    in_flight: IntGaugeVec,
    models: triton::Models,
    load_duration: HistogramVec,
    load_failures: IntCounterVec,
    update_failed: IntGaugeVec,
}

/// The encodings that a request can come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    V1,
    V2,
    Grpc,
}

/// A request that was run, alone or together with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    /// Rows of the request.
    pub(crate) rows: usize,
    /// Time that it waited for a session and a thread.
    pub(crate) queued: Duration,
    /// Time of the execution that carried it; of the longest one, if it was split.
    pub(crate) computed: Duration,
    /// Rows of that execution, those of other requests included.
    pub(crate) batch_rows: usize,
    /// True for exactly one of the requests that an execution carries.
    pub(crate) leads: bool,
}

/// Why a request for a model was not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    QueueFull,
    Deadline,
    BodyTooLarge,
    Abandoned,
}

/// HTTP statuses that an inference request can get; any other is counted as the last.
const STATUSES: [u16; 10] = [200, 400, 404, 413, 415, 429, 501, 503, 504, 500];

impl Protocol {
    const ALL: [Protocol; 3] = [Protocol::V1, Protocol::V2, Protocol::Grpc];

    const fn label(self) -> &'static str {
        match self {
            Protocol::V1 => "v1",
            Protocol::V2 => "v2",
            Protocol::Grpc => "grpc",
        }
    }
}

impl Rejected {
    const ALL: [Rejected; 4] = [
        Rejected::QueueFull,
        Rejected::Deadline,
        Rejected::BodyTooLarge,
        Rejected::Abandoned,
    ];

    const fn label(self) -> &'static str {
        match self {
            Rejected::QueueFull => "queue_full",
            Rejected::Deadline => "deadline",
            Rejected::BodyTooLarge => "body_too_large",
            Rejected::Abandoned => "abandoned",
        }
    }
}

impl Metrics {
    /// Declares the series.
    pub(crate) fn declare(metrics: &plumbline_service::metrics::Metrics) -> Metrics {
        let model = &["model", "version"];
        Metrics {
            request_duration: metrics.histogram_vec(
                "plumbline_server_request_duration_seconds",
                "Time from a request's head to its reply, by protocol (v1, v2, grpc) and code (HTTP status or gRPC \
                 status name).",
                &["model", "version", "protocol", "code"],
                &DURATION_SECONDS,
            ),
            queue_duration: metrics.histogram_vec(
                "plumbline_server_queue_duration_seconds",
                "Time that a request waited for a session and a thread.",
                model,
                &DURATION_SECONDS,
            ),
            compute_duration: metrics.histogram_vec(
                "plumbline_server_compute_duration_seconds",
                "Time of an execution of the model, of one request or of several that were batched.",
                model,
                &DURATION_SECONDS,
            ),
            overhead_duration: metrics.histogram_vec(
                "plumbline_server_overhead_duration_seconds",
                "Time of a successful request in which it neither waited nor ran: reading, decoding, encoding and the way \
                 between threads.",
                model,
                &OVERHEAD_SECONDS,
            ),
            rejected: metrics.counter_vec(
                "plumbline_server_requests_rejected_total",
                "Requests that were not answered by a run: queue_full, deadline, body_too_large, abandoned (the client left).",
                &["model", "reason"],
            ),
            batch_rows: metrics.histogram_vec(
                "plumbline_server_batch_rows",
                "Rows of an execution: the first dimension of its first input, of all requests in it together.",
                model,
                &ROWS,
            ),
            model_ready: metrics.int_gauge_vec(
                "plumbline_server_model_ready",
                "1 when the model is loaded, warm and served.",
                model,
            ),
            in_flight: metrics.int_gauge_vec(
                "plumbline_server_requests_in_flight",
                "Requests that wait for a run or are in one.",
                model,
            ),
            models: triton::Models::default(),
            load_duration: metrics.histogram_vec(
                "plumbline_server_model_load_duration_seconds",
                "Time from a file's bytes to a model that is warm, or to the reason why not.",
                &["model"],
                &LOAD_SECONDS,
            ),
            load_failures: metrics.counter_vec(
                "plumbline_server_model_load_failures_total",
                "Content that could not be loaded, each counted once however often it is looked at.",
                &["model"],
            ),
            update_failed: metrics.int_gauge_vec(
                "plumbline_server_model_update_failed",
                "1 while the model's newest files are not served because they cannot be loaded.",
                &["model"],
            ),
        }
    }

    /// Exports what is counted under Triton's names as well.
    pub(crate) fn declare_triton_names(&self, metrics: &plumbline_service::metrics::Metrics) {
        triton::declare(metrics, Arc::clone(&self.models));
    }

    /// The series of one version of a model. One that is loaded again while it is still there goes on counting.
    pub(crate) fn model(&self, model: &str, version: &str) -> ModelMetrics {
        let labels = &[model, version];
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.retain(|series| series.strong_count() > 0);
        let known = models
            .iter()
            .filter_map(Weak::upgrade)
            .find(|series| series.labels() == *labels);
        if let Some(series) = known {
            return ModelMetrics(series);
        }
        let series = Series {
            model: model.to_owned(),
            version: version.to_owned(),
            requests: Requests::new(&self.request_duration, model, version),
            queue: self.queue_duration.with_label_values(labels),
            compute: self.compute_duration.with_label_values(labels),
            overhead: self.overhead_duration.with_label_values(labels),
            rejected: Rejected::ALL.map(|reason| self.rejected.with_label_values(&[model, reason.label()])),
            rows: self.batch_rows.with_label_values(labels),
            ready: self.model_ready.with_label_values(labels),
            in_flight: self.in_flight.with_label_values(labels),
            compute_ns: AtomicU64::new(0),
            last_ran_ms: AtomicU64::new(0),
            by_rows: Mutex::default(),
        };
        let metrics = ModelMetrics(Arc::new(series));
        models.push(Arc::downgrade(&metrics.0));
        drop(models);
        // Zero has to be visible before the first request.
        for protocol in Protocol::ALL {
            metrics.requests.series(protocol, StatusCode::OK, GrpcCode::Ok);
        }
        metrics
    }

    /// A model was loaded, or could not be, in this time.
    pub(crate) fn loaded(&self, model: &str, time: Duration) {
        self.load_duration
            .with_label_values(&[model])
            .observe(time.as_secs_f64());
    }

    /// Content of a model that could not be loaded was met for the first time.
    pub(crate) fn load_failed(&self, model: &str) {
        self.load_failures.with_label_values(&[model]).inc();
    }

    /// Whether the newest files of a model are not what is served.
    pub(crate) fn set_behind(&self, model: &str, is_behind: bool) {
        self.update_failed
            .with_label_values(&[model])
            .set(i64::from(is_behind));
    }

    /// Removes the series of a version that is not served any more and has no requests. Every series with the labels
    /// `model` and `version` has to be here.
    pub(crate) fn forget(&self, model: &str, version: &str) {
        let labels = &[model, version];
        let codes = STATUSES.map(|status| status.to_string());
        let rest = codes
            .iter()
            .flat_map(|code| [(Protocol::V1, code.as_str()), (Protocol::V2, code.as_str())]);
        let grpc = GrpcCode::ALL
            .into_iter()
            .map(|code| (Protocol::Grpc, code.name()));
        for (protocol, code) in rest.chain(grpc) {
            let labels = &[model, version, protocol.label(), code];
            let _never_met = self.request_duration.remove_label_values(labels);
        }
        for histogram in [
            &self.queue_duration,
            &self.compute_duration,
            &self.overhead_duration,
            &self.batch_rows,
        ] {
            let _never_met = histogram.remove_label_values(labels);
        }
        for gauge in [&self.model_ready, &self.in_flight] {
            let _never_met = gauge.remove_label_values(labels);
        }
    }

    /// Removes the series of a model that has no version any more.
    pub(crate) fn forget_model(&self, model: &str) {
        for reason in Rejected::ALL {
            let _never_met = self.rejected.remove_label_values(&[model, reason.label()]);
        }
        let _never_met = self.load_duration.remove_label_values(&[model]);
        let _never_met = self.load_failures.remove_label_values(&[model]);
        let _never_met = self.update_failed.remove_label_values(&[model]);
    }

    /// Requests for models that are not served.
    pub(crate) fn unknown_model(&self) -> Requests {
        Requests::new(&self.request_duration, UNKNOWN, "")
    }
}

/// Request durations of one model. Each protocol and code is looked up by label once, when it is first met.
#[derive(Debug)]
pub(crate) struct Requests {
    all: HistogramVec,
    model: String,
    version: String,
    /// V1 and V2, by position in [`STATUSES`].
    rest: [[OnceLock<Histogram>; STATUSES.len()]; 2],
    /// By number of the code.
    grpc: [OnceLock<Histogram>; GrpcCode::ALL.len()],
}

impl Requests {
    fn new(all: &HistogramVec, model: &str, version: &str) -> Requests {
        let (model, version) = (model.to_owned(), version.to_owned());
        Requests {
            all: all.clone(),
            model,
            version,
            rest: Default::default(),
            grpc: Default::default(),
        }
    }

    /// Counts a request that was answered with `status`, on gRPC with the code that belongs to it.
    pub(crate) fn observe(&self, protocol: Protocol, status: StatusCode, code: GrpcCode, time: Duration) {
        self.series(protocol, status, code).observe(time.as_secs_f64());
    }

    fn series(&self, protocol: Protocol, status: StatusCode, code: GrpcCode) -> &Histogram {
        let resolve = |code: &str| {
            self.all
                .with_label_values(&[self.model.as_str(), &self.version, protocol.label(), code])
        };
        let by_status = match protocol {
            Protocol::V1 => &self.rest[0],
            Protocol::V2 => &self.rest[1],
            Protocol::Grpc => return self.grpc[code as usize].get_or_init(|| resolve(code.name())),
        };
        let known = STATUSES
            .iter()
            .position(|&known| known == status.as_u16())
            .unwrap_or(STATUSES.len() - 1);
        by_status[known].get_or_init(|| resolve(&STATUSES[known].to_string()))
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    /// Not run: too many, too late, too large.
    Rejected,
    /// The client left.
    Cancelled,
    /// A run that failed, or a mistake of the server.
    Backend,
    /// What the client can change.
    Other,
}

impl Outcome {
    pub(crate) const ALL: [Outcome; 5] = [
        Outcome::Success,
        Outcome::Rejected,
        Outcome::Cancelled,
        Outcome::Backend,
        Outcome::Other,
    ];

    const fn of_status(status: u16) -> Outcome {
        match status {
            200 => Outcome::Success,
            413 | 429 | 503 | 504 => Outcome::Rejected,
            500 => Outcome::Backend,
            _ => Outcome::Other,
        }
    }

    const fn of_code(code: GrpcCode) -> Outcome {
        match code {
            GrpcCode::Ok => Outcome::Success,
            GrpcCode::ResourceExhausted | GrpcCode::Unavailable | GrpcCode::DeadlineExceeded => {
                Outcome::Rejected
            }
            GrpcCode::Cancelled => Outcome::Cancelled,
            GrpcCode::Internal | GrpcCode::Unknown | GrpcCode::DataLoss => Outcome::Backend,
            _ => Outcome::Other,
        }
    }
}

/// How often something happened and the time that it took in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) count: u64,
    pub(crate) ns: u64,
}

impl Spent {
    fn of(histogram: &Histogram) -> Spent {
        Spent {
            count: histogram.get_sample_count(),
            ns: (histogram.get_sample_sum() * 1e9) as u64,
        }
    }

    pub(crate) fn micros(self) -> f64 {
        self.ns as f64 / 1e3
    }
}

impl Sum for Spent {
    fn sum<I: Iterator<Item = Spent>>(all: I) -> Spent {
        all.fold(Spent::default(), |sum, one| Spent {
            count: sum.count + one.count,
            ns: sum.ns + one.ns,
        })
    }
}

impl Requests {
    /// Requests so far by what became of them, in the order of [`Outcome::ALL`].
    pub(crate) fn outcomes(&self) -> [Spent; Outcome::ALL.len()] {
        let mut outcomes = [Spent::default(); Outcome::ALL.len()];
        let mut add = |outcome: Outcome, series: &OnceLock<Histogram>| {
            if let Some(histogram) = series.get() {
                let so_far = outcomes[outcome as usize];
                outcomes[outcome as usize] = [so_far, Spent::of(histogram)].into_iter().sum();
            }
        };
        for protocol in &self.rest {
            for (status, series) in STATUSES.into_iter().zip(protocol) {
                add(Outcome::of_status(status), series);
            }
        }
        for (code, series) in GrpcCode::ALL.into_iter().zip(&self.grpc) {
            add(Outcome::of_code(code), series);
        }
        outcomes
    }
}

/// Different numbers of rows that executions are told apart by; those of further ones are counted in the sums alone.
const MOST_SIZES: usize = 256;

/// The series of one version of a model, resolved when it is loaded. Whoever else wants to know what happened reads
/// them, so that an event is counted once.
#[derive(Debug)]
pub(crate) struct ModelMetrics(Arc<Series>);

impl Deref for ModelMetrics {
    type Target = Series;

    fn deref(&self) -> &Series {
        &self.0
    }
}

/// See [`ModelMetrics`].
#[derive(Debug)]
pub(crate) struct Series {
    model: String,
    version: String,
    pub(crate) requests: Requests,
    queue: Histogram,
    compute: Histogram,
    overhead: Histogram,
    rejected: [IntCounter; Rejected::ALL.len()],
    rows: Histogram,
    ready: IntGauge,
    in_flight: IntGauge,
    /// Time of executions, counted for each request that they carried.
    compute_ns: AtomicU64,
    /// Milliseconds since the epoch; 0 before the first run.
    last_ran_ms: AtomicU64,
    /// Executions by their rows.
    by_rows: Mutex<BTreeMap<usize, Spent>>,
}

impl Series {
    /// A request waits for a run from here on, until the guard is told that it ended.
    pub(crate) fn enter(&self) -> InFlight<'_> {
        self.in_flight.inc();
        InFlight {
            series: self,
            is_answered: false,
        }
    }

    /// A request was run. Executions are counted by the request that leads each.
    pub(crate) fn ran(&self, ran: &Ran) {
        self.queue.observe(ran.queued.as_secs_f64());
        let ns = u64::try_from(ran.computed.as_nanos()).unwrap_or(u64::MAX);
        self.compute_ns.fetch_add(ns, Ordering::Relaxed);
        if ran.leads {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let now = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
            self.last_ran_ms.store(now, Ordering::Relaxed);
            self.compute.observe(ran.computed.as_secs_f64());
            self.rows.observe(ran.batch_rows as f64);
            let mut by_rows = self.by_rows.lock().unwrap_or_else(PoisonError::into_inner);
            if by_rows.len() < MOST_SIZES || by_rows.contains_key(&ran.batch_rows) {
                let spent = by_rows.entry(ran.batch_rows).or_default();
                *spent = [*spent, Spent { count: 1, ns }].into_iter().sum();
            }
        }
    }

    /// A request was answered in `time`, and waited and ran for `in_model` of it.
    pub(crate) fn answered(&self, time: Duration, in_model: Duration) {
        self.overhead.observe(time.saturating_sub(in_model).as_secs_f64());
    }

    /// A request that was not run.
    pub(crate) fn rejected(&self, reason: Rejected) {
        self.rejected[reason as usize].inc();
    }

    /// Whether the model is served.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }

    /// Requests that were run, and the time that they waited before.
    pub(crate) fn queued(&self) -> Spent {
        Spent::of(&self.queue)
    }

    /// Requests that were run, and the time of the executions that carried them.
    pub(crate) fn computed(&self) -> Spent {
        Spent {
            count: self.queue.get_sample_count(),
            ns: self.compute_ns.load(Ordering::Relaxed),
        }
    }

    /// Executions and their time.
    pub(crate) fn executions(&self) -> Spent {
        Spent::of(&self.compute)
    }

    /// Executions by their rows, of which the first 256 different numbers are told apart.
    pub(crate) fn by_rows(&self) -> BTreeMap<usize, Spent> {
        self.by_rows
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Rows of all executions.
    pub(crate) fn rows_run(&self) -> u64 {
        self.rows.get_sample_sum() as u64
    }

    /// When a request was last run, in milliseconds since the epoch; 0 before the first.
    pub(crate) fn last_ran_ms(&self) -> u64 {
        self.last_ran_ms.load(Ordering::Relaxed)
    }

    fn labels(&self) -> [&str; 2] {
        [&self.model, &self.version]
    }

    fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    fn abandoned(&self) -> u64 {
        self.rejected[Rejected::Abandoned as usize].get()
    }
}

/// A request that waits for a run or is in one. Dropped without an answer, its client has left.
#[derive(Debug)]
pub(crate) struct InFlight<'a> {
    series: &'a Series,
    is_answered: bool,
}

impl InFlight<'_> {
    /// The request has an answer, if only a refusal.
    pub(crate) fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.series.in_flight.dec();
        if !self.is_answered {
            self.series.rejected(Rejected::Abandoned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_documented() {
        let registry = plumbline_service::metrics::Metrics::default();
        Metrics::declare(&registry).declare_triton_names(&registry);
        plumbline_testkit::documentation::assert_metrics_documented(
            "model-server",
            &registry.documentation(),
        );
    }

    #[test]
    fn codes_are_told_in_the_words_of_their_protocol() {
        let registry = plumbline_service::metrics::Metrics::default();
        let model = Metrics::declare(&registry).model("churn", "1");
        let time = Duration::from_micros(60);
        model
            .requests
            .observe(Protocol::V2, StatusCode::OK, GrpcCode::Ok, time);
        model.requests.observe(
            Protocol::Grpc,
            StatusCode::BAD_REQUEST,
            GrpcCode::InvalidArgument,
            time,
        );
        model
            .requests
            .observe(Protocol::V1, StatusCode::IM_A_TEAPOT, GrpcCode::Internal, time);
        model.rejected(Rejected::QueueFull);
        model.answered(time, Duration::from_micros(48));
        let text = String::from_utf8(registry.render()).unwrap();
        for (series, count) in [
            (
                "request_duration_seconds_count{code=\"200\",model=\"churn\",protocol=\"v2\",version=\"1\"}",
                1,
            ),
            (
                "request_duration_seconds_count{code=\"200\",model=\"churn\",protocol=\"v1\",version=\"1\"}",
                0,
            ),
            (
                "request_duration_seconds_count{code=\"500\",model=\"churn\",protocol=\"v1\",version=\"1\"}",
                1,
            ),
            (
                "request_duration_seconds_count{code=\"INVALID_ARGUMENT\",model=\"churn\",protocol=\"grpc\",version=\"1\"}",
                1,
            ),
            (
                "requests_rejected_total{model=\"churn\",reason=\"queue_full\"}",
                1,
            ),
            ("requests_rejected_total{model=\"churn\",reason=\"deadline\"}", 0),
            (
                "overhead_duration_seconds_bucket{model=\"churn\",version=\"1\",le=\"0.00001\"}",
                0,
            ),
            (
                "overhead_duration_seconds_bucket{model=\"churn\",version=\"1\",le=\"0.000015\"}",
                1,
            ),
        ] {
            let line = format!("plumbline_server_{series} {count}\n");
            assert!(text.contains(&line), "missing {line} in:\n{text}");
        }
    }

    #[test]
    fn what_ran_is_counted_once_and_read_under_every_name() {
        let registry = plumbline_service::metrics::Metrics::default();
        let metrics = Metrics::declare(&registry);
        metrics.declare_triton_names(&registry);
        let model = metrics.model("churn", "1");
        let (micros, time) = (Duration::from_micros, Duration::from_millis(2));
        // Two requests in one execution, one alone, one that failed, one whose client left.
        for (rows, batch_rows, leads) in [(1, 3, true), (2, 3, false), (4, 4, true)] {
            let waiting = model.enter();
            assert_eq!(model.in_flight(), 1);
            model.ran(&Ran {
                rows,
                queued: micros(10),
                computed: micros(100),
                batch_rows,
                leads,
            });
            waiting.answered();
            model
                .requests
                .observe(Protocol::V2, StatusCode::OK, GrpcCode::Ok, time);
        }
        let invalid = (StatusCode::BAD_REQUEST, GrpcCode::InvalidArgument);
        model.requests.observe(Protocol::Grpc, invalid.0, invalid.1, time);
        let late = (StatusCode::GATEWAY_TIMEOUT, GrpcCode::DeadlineExceeded);
        model.requests.observe(Protocol::V1, late.0, late.1, time);
        drop(model.enter());

        let told = crate::statistics::of("churn", "1", &model);
        assert_eq!((told.inference_count, told.execution_count), (7, 2));
        let stats = told.inference_stats.unwrap();
        let count = |of: &Option<plumbline_inference_protocol::grpc::proto::StatisticDuration>| {
            let of = of.unwrap();
            (of.count, of.ns)
        };
        assert_eq!(count(&stats.success), (3, 6_000_000));
        assert_eq!(count(&stats.fail), (2, 4_000_000));
        assert_eq!(count(&stats.compute_infer), (3, 300_000));
        assert!(count(&stats.queue).1.abs_diff(30_000) <= 1);
        let batches: Vec<_> = told
            .batch_stats
            .iter()
            .map(|batch| (batch.batch_size, count(&batch.compute_infer)))
            .collect();
        assert_eq!(batches, [(3, (1, 100_000)), (4, (1, 100_000))]);
        assert!(told.last_inference > 1_600_000_000_000);

        let text = String::from_utf8(registry.render()).unwrap();
        for line in [
            "nv_inference_request_success{model=\"churn\",version=\"1\"} 3",
            "nv_inference_request_failure{model=\"churn\",reason=\"REJECTED\",version=\"1\"} 1",
            "nv_inference_request_failure{model=\"churn\",reason=\"CANCELED\",version=\"1\"} 1",
            "nv_inference_request_failure{model=\"churn\",reason=\"BACKEND\",version=\"1\"} 0",
            "nv_inference_request_failure{model=\"churn\",reason=\"OTHER\",version=\"1\"} 1",
            "nv_inference_count{model=\"churn\",version=\"1\"} 7",
            "nv_inference_exec_count{model=\"churn\",version=\"1\"} 2",
            "nv_inference_request_duration_us{model=\"churn\",version=\"1\"} 6000",
            "nv_inference_compute_infer_duration_us{model=\"churn\",version=\"1\"} 300",
            "nv_inference_compute_input_duration_us{model=\"churn\",version=\"1\"} 0",
            "nv_inference_pending_request_count{model=\"churn\",version=\"1\"} 0",
            "plumbline_server_requests_rejected_total{model=\"churn\",reason=\"abandoned\"} 1",
        ] {
            assert!(text.contains(&format!("{line}\n")), "missing {line} in:\n{text}");
        }
        drop(model);
        let text = String::from_utf8(registry.render()).unwrap();
        assert!(!text.contains("nv_inference_count{"), "{text}");
    }
}
