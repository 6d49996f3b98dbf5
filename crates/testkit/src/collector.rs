//! A collector of spans: takes OTLP over HTTP, decodes it with the messages of `opentelemetry-proto`, and lets a test
//! refuse.
//!
//! ```no_run
//! # async fn example() {
//! use plumbline_testkit::collector::Collector;
//! let collector = Collector::accepting().await;
//! // … have spans exported to `collector.url()` …
//! let spans = collector.spans(2).await; // an event, not a delay
//! assert_eq!(spans[1].parent, spans[0].id);
//! # }
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use http::StatusCode;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1;
use prost::Message as _;
use tokio::sync::watch;

use crate::predictor::{FakePredictor, Received, Reply};

/// One span as it arrived.
#[derive(Clone, Debug)]
pub struct CollectedSpan {
    /// 32 hexadecimal digits.
    pub trace: String,
    /// 16 hexadecimal digits.
    pub id: String,
    /// The same; empty for the first of a trace.
    pub parent: String,
    /// Name.
    pub name: String,
    /// 2 is a server's, 3 a client's.
    pub kind: i32,
    /// What vendors keep.
    pub trace_state: String,
    /// Numbers as text.
    pub attributes: BTreeMap<String, String>,
    /// Whether its status is ERROR.
    pub is_error: bool,
    /// Nanoseconds since 1970.
    pub started: u64,
    /// Nanoseconds since 1970.
    pub ended: u64,
    /// Of its process.
    pub resource: BTreeMap<String, String>,
}

impl CollectedSpan {
    /// An attribute; empty when it is missing.
    pub fn get(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

/// A collector on loopback, port 0. It ends when dropped.
#[derive(Debug)]
pub struct Collector {
    server: FakePredictor,
    spans: watch::Sender<Vec<CollectedSpan>>,
}

impl Collector {
    /// Takes everything.
    pub async fn accepting() -> Self {
        let spans = watch::Sender::default();
        let server = FakePredictor::answering(accept(spans.clone())).await;
        Self { server, spans }
    }

    /// Takes connections and answers none.
    pub async fn hanging() -> Self {
        let spans = watch::Sender::default();
        let server = FakePredictor::holding(accept(spans.clone())).await;
        Self { server, spans }
    }

    /// Answers with this status from now on.
    pub fn refuse(&self, status: StatusCode) {
        self.server.script(move |_| Reply::status(status));
    }

    /// Takes everything from now on.
    pub fn accept(&self) {
        self.server.script(accept(self.spans.clone()));
    }

    /// `http://127.0.0.1:PORT`; spans are taken on any path.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Waits until `count` spans have come, and returns all that have, in the order of their beginning.
    pub async fn spans(&self, count: usize) -> Vec<CollectedSpan> {
        let mut spans = self.spans.subscribe();
        let reached = spans.wait_for(|spans| spans.len() >= count).await;
        let mut spans = reached.expect("the sender lives as long as self").clone();
        spans.sort_by_key(|span| (span.started, span.kind));
        spans
    }

    /// How many spans have come so far.
    pub fn spans_so_far(&self) -> usize {
        self.spans.borrow().len()
    }

    /// Waits until `count` exports have been asked for, taken or not.
    pub async fn exports(&self, count: usize) -> Vec<Received> {
        self.server.received(count).await
    }
}

fn accept(spans: watch::Sender<Vec<CollectedSpan>>) -> impl Fn(&Received) -> Reply + Send + Sync + 'static {
    move |request| {
        let decoded = decode(&request.body);
        match decoded {
            Ok(came) => spans.send_modify(|spans| spans.extend(came)),
            // The test waits for spans then, and finds this in the output.
            Err(error) => panic!("not an ExportTraceServiceRequest: {error}"),
        }
        // An empty ExportTraceServiceResponse.
        Reply::status(StatusCode::OK)
    }
}

fn decode(body: &Bytes) -> Result<Vec<CollectedSpan>, prost::DecodeError> {
    let request = ExportTraceServiceRequest::decode(body.clone())?;
    let mut spans = Vec::new();
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.unwrap_or_default();
        let resource = texts(&resource.attributes);
        let all = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.extend(all.map(|span| collected(span, resource.clone())));
    }
    Ok(spans)
}

fn collected(span: v1::Span, resource: BTreeMap<String, String>) -> CollectedSpan {
    CollectedSpan {
        trace: hexadecimal(&span.trace_id),
        id: hexadecimal(&span.span_id),
        parent: hexadecimal(&span.parent_span_id),
        attributes: texts(&span.attributes),
        is_error: span
            .status
            .is_some_and(|status| status.code == v1::status::StatusCode::Error as i32),
        name: span.name,
        kind: span.kind,
        trace_state: span.trace_state,
        started: span.start_time_unix_nano,
        ended: span.end_time_unix_nano,
        resource,
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to memory does not fail");
    }
    text
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| {
        let text = match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(text)) => text.clone(),
            Some(Value::IntValue(number)) => number.to_string(),
            other => format!("{other:?}"),
        };
        (attribute.key.clone(), text)
    };
    attributes.iter().map(text).collect()
}
