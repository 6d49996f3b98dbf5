//! Spans of requests, exported over OTLP.
//!
//! A [`Tracer`] decides with the head of a request whether it is recorded; a recorded one has a [`Span`], which goes to a
//! bounded queue when it ends. A thread of its own encodes and sends them (`export`), so that a request never waits for a
//! collector. Without `OTEL_EXPORTER_OTLP_ENDPOINT` there is no thread and no queue, and a request costs one branch.
//!
//! Not built on the `opentelemetry` crates: their processor drops without telling how much, and takes a setting that it
//! does not understand for its default. The messages are held against `opentelemetry-proto` in the tests.

mod export;
mod message;
mod settings;
mod span;
mod trace_requests;

use std::sync::Arc;

use http::HeaderMap;

use crate::trace::{TRACEPARENT, TRACESTATE, TraceContext};
use export::Exporter;

pub use settings::{Sampler, TraceExport};
pub use span::{Answered, Span, Value};
pub use trace_requests::{RequestSpan, TraceRequests, TracedBody};

pub(crate) use settings::SETTINGS;

/// Begins spans; off by default. Cloned freely.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<Recording>>);

#[derive(Debug)]
struct Recording {
    sampler: Sampler,
    exporter: Exporter,
}

impl Tracer {
    /// Starts the thread that exports for `part`, and declares what is counted.
    ///
    /// # Errors
    /// The thread cannot be started, or the collector's authorities cannot be read.
    pub(crate) fn start(
        settings: &TraceExport,
        part: crate::Part,
        metrics: &crate::metrics::Metrics,
    ) -> Result<Self, TraceError> {
        Ok(Self(Some(Arc::new(Recording {
            sampler: settings.sampler,
            exporter: Exporter::start(settings, part, metrics)?,
        }))))
    }

    /// Whether anything may be recorded.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Takes a request into its trace: `traceparent` is from now on what goes upstream. The caller's own stays where
    /// nothing is recorded, so that what is called next finds the caller's span; a new trace begins where there is none.
    ///
    /// A span if the request is recorded.
    pub fn begin(&self, headers: &mut HeaderMap) -> Option<Span> {
        let caller = TraceContext::of(headers);
        let Some(recording) = &self.0 else {
            if caller.is_none() {
                begin_trace(headers, TraceContext::random(false));
            }
            return None;
        };
        let context = caller.map_or_else(|| TraceContext::random(false), TraceContext::child);
        if recording.sampler.records(caller, context.trace_id) {
            let context = TraceContext {
                sampled: true,
                ..context
            };
            let span = Span::of_server(context, caller, headers, &recording.exporter);
            match caller {
                Some(_) => drop(headers.insert(TRACEPARENT, context.header_value())),
                None => begin_trace(headers, context),
            }
            return Some(span);
        }
        match caller {
            None => begin_trace(headers, context),
            Some(caller) if caller.sampled => {
                let unsampled = TraceContext {
                    sampled: false,
                    ..caller
                };
                headers.insert(TRACEPARENT, unsampled.header_value());
            }
            Some(_) => {}
        }
        None
    }

    /// Sends what has been recorded so far, for a bounded time; what comes later is dropped.
    pub(crate) async fn finish(&self) {
        if let Some(recording) = &self.0 {
            recording.exporter.finish().await;
        }
    }
}

/// Vendors' notes belong to the trace that they came with.
fn begin_trace(headers: &mut HeaderMap, context: TraceContext) {
    headers.remove(TRACESTATE);
    headers.insert(TRACEPARENT, context.header_value());
}

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// No thread.
    #[error("cannot start the thread that exports spans")]
    Thread(#[from] std::io::Error),
    /// The collector's authorities.
    #[error(transparent)]
    Tls(#[from] crate::TlsError),
}

#[cfg(test)]
mod tests;
