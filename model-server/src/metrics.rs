//! Every series that the model server exports. A name, label or bucket is written here or nowhere.

use std::sync::OnceLock;
use std::time::Duration;

use http::StatusCode;
use plumbline_inference_protocol::GrpcCode;
use plumbline_service::metrics::DURATION_SECONDS;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

/// Rows of one run: a power of two each, up to what one body reasonably carries.
const ROWS: [f64; 13] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 4_096.0, 16_384.0,
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
    rejected: IntCounterVec,
    batch_rows: HistogramVec,
    model_ready: IntGaugeVec,
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
    const ALL: [Rejected; 3] = [Rejected::QueueFull, Rejected::Deadline, Rejected::BodyTooLarge];

    const fn label(self) -> &'static str {
        match self {
            Rejected::QueueFull => "queue_full",
            Rejected::Deadline => "deadline",
            Rejected::BodyTooLarge => "body_too_large",
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
            rejected: metrics.counter_vec(
                "plumbline_server_requests_rejected_total",
                "Requests that were not run: queue_full, deadline, body_too_large.",
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

    /// The series of one version of a model.
    pub(crate) fn model(&self, model: &str, version: &str) -> ModelMetrics {
        let labels = &[model, version];
        let metrics = ModelMetrics {
            requests: Requests::new(&self.request_duration, model, version),
            queue: self.queue_duration.with_label_values(labels),
            compute: self.compute_duration.with_label_values(labels),
            rejected: Rejected::ALL.map(|reason| self.rejected.with_label_values(&[model, reason.label()])),
            rows: self.batch_rows.with_label_values(labels),
            ready: self.model_ready.with_label_values(labels),
        };
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
        for histogram in [&self.queue_duration, &self.compute_duration, &self.batch_rows] {
            let _never_met = histogram.remove_label_values(labels);
        }
        let _never_met = self.model_ready.remove_label_values(labels);
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

/// The series of one version of a model, resolved when it is loaded.
#[derive(Debug)]
pub(crate) struct ModelMetrics {
    pub(crate) requests: Requests,
    queue: Histogram,
    compute: Histogram,
    rejected: [IntCounter; Rejected::ALL.len()],
    rows: Histogram,
    ready: IntGauge,
}

impl ModelMetrics {
    /// A request was run. Executions are counted by the request that leads each.
    pub(crate) fn ran(&self, ran: &Ran) {
        self.queue.observe(ran.queued.as_secs_f64());
        if ran.leads {
            self.compute.observe(ran.computed.as_secs_f64());
            self.rows.observe(ran.batch_rows as f64);
        }
    }

    /// A request that was not run.
    pub(crate) fn rejected(&self, reason: Rejected) {
        self.rejected[reason as usize].inc();
    }

    /// Whether the model is served.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_documented() {
        let registry = plumbline_service::metrics::Metrics::default();
        Metrics::declare(&registry);
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
        ] {
            let line = format!("plumbline_server_{series} {count}\n");
            assert!(text.contains(&line), "missing {line} in:\n{text}");
        }
    }
}
