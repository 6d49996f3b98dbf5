//! The messages of OTLP's trace service, as far as they are used here, and how a span becomes one.
//!
//! Source: `opentelemetry/proto/{collector/trace,trace,resource,common}/v1` of opentelemetry-proto 1.x; names of attributes:
//! semantic conventions 1.37.

use std::borrow::Cow;
use std::time::UNIX_EPOCH;

use http::{Method, StatusCode, Version};
use prost::{Message, Oneof};

use super::span::{Answered, Kind, Operation, Record, Value};
use crate::Part;

const SCHEMA: &str = "https://opentelemetry.io/schemas/1.37.0";

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportTraceServiceRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

/// The process that the spans are of.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

impl Resource {
    pub(super) fn of(attributes: Vec<(String, String)>) -> Self {
        let attributes = attributes.into_iter();
        Self {
            attributes: attributes.map(|(key, value)| KeyValue::new(key, value)).collect(),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

/// What has made the spans.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

impl Scope {
    pub(super) fn of(part: Part) -> Self {
        Self {
            name: format!("plumbline-{}", part.name),
            version: part.version.to_owned(),
        }
    }
}

#[expect(clippy::struct_field_names, reason = "the names are the protocol's")]
#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "AnyValueOf", tags = "1, 3")]
    value: Option<AnyValueOf>,
}

#[derive(Clone, PartialEq, Oneof)]
enum AnyValueOf {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Int(i64),
}

impl KeyValue {
    fn new(key: impl Into<String>, value: impl Into<Value>) -> Self {
        let value = match value.into() {
            Value::Text(text) => AnyValueOf::Text(text.into_owned()),
            Value::Int(number) => AnyValueOf::Int(number),
        };
        Self {
            key: key.into(),
            value: Some(AnyValue { value: Some(value) }),
        }
    }
}

/// What a collector answers.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportTraceServiceResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) partial_success: Option<ExportTracePartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportTracePartialSuccess {
    #[prost(int64, tag = "1")]
    pub(super) rejected_spans: i64,
}

/// One export.
pub(super) fn request(
    resource: &Resource,
    scope: &Scope,
    records: &[Box<Record>],
) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource.clone()),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope.clone()),
                spans: records.iter().map(|record| span(record)).collect(),
                schema_url: SCHEMA.to_owned(),
            }],
            schema_url: SCHEMA.to_owned(),
        }],
    }
}

const KIND_SERVER: i32 = 2;
const KIND_CLIENT: i32 = 3;
const STATUS_ERROR: i32 = 2;
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

fn span(record: &Record) -> Span {
    let operation = record.operation.as_deref();
    let mut attributes = operation.map_or_else(Vec::new, |operation| describe(operation, record.kind));
    attributes.extend(
        record
            .attributes
            .iter()
            .map(|(key, value)| KeyValue::new(*key, value.clone())),
    );
    let is_error = conclude(record, &mut attributes);
    let started = record.started.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanoseconds = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let remote = if record.kind == Kind::Server && record.parent.is_some() {
        IS_REMOTE
    } else {
        0
    };
    Span {
        trace_id: record.context.trace_id.to_be_bytes().to_vec(),
        span_id: record.context.span_id.to_be_bytes().to_vec(),
        trace_state: record.trace_state.clone(),
        parent_span_id: record
            .parent
            .map_or_else(Vec::new, |parent| parent.to_be_bytes().to_vec()),
        name: operation.map_or(Cow::Borrowed("request"), name).into_owned(),
        kind: match record.kind {
            Kind::Server => KIND_SERVER,
            Kind::Client => KIND_CLIENT,
        },
        start_time_unix_nano: nanoseconds(started),
        end_time_unix_nano: nanoseconds(started + record.took),
        attributes,
        status: is_error.then_some(Status { code: STATUS_ERROR }),
        flags: u32::from(record.context.sampled) | HAS_IS_REMOTE | remote,
    }
}

/// Methods that HTTP knows; a name or attribute does not repeat what else a client makes up.
fn method(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::POST
        | Method::HEAD
        | Method::OPTIONS
        | Method::PUT
        | Method::DELETE
        | Method::PATCH
        | Method::CONNECT
        | Method::TRACE => method.as_str(),
        _ => "_OTHER",
    }
}

fn name(operation: &Operation) -> Cow<'_, str> {
    if operation.is_grpc {
        return match rpc(operation) {
            Some((service, rpc)) if is_known(service) => format!("{service}/{rpc}").into(),
            _ => "_OTHER".into(),
        };
    }
    let method = match method(&operation.method) {
        "_OTHER" => "HTTP",
        method => method,
    };
    match route(operation.uri.path()) {
        Some(route) => format!("{method} {route}").into(),
        None => method.into(),
    }
}

fn describe(operation: &Operation, kind: Kind) -> Vec<KeyValue> {
    let mut told = Vec::with_capacity(16);
    if operation.is_grpc {
        told.push(KeyValue::new("rpc.system", "grpc"));
        if let Some((service, method)) = rpc(operation) {
            told.push(KeyValue::new("rpc.service", service.to_owned()));
            told.push(KeyValue::new("rpc.method", method.to_owned()));
        }
        return told;
    }
    let asked = method(&operation.method);
    told.push(KeyValue::new("http.request.method", asked.to_owned()));
    if asked == "_OTHER" {
        let original = operation.method.to_string();
        told.push(KeyValue::new("http.request.method_original", original));
    }
    let path = operation.uri.path();
    told.push(KeyValue::new("url.path", path.to_owned()));
    if let (Kind::Server, Some(route)) = (kind, route(path)) {
        told.push(KeyValue::new("http.route", route.into_owned()));
    }
    let version = match operation.version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    };
    if kind == Kind::Server {
        told.push(KeyValue::new("network.protocol.version", version));
    }
    told
}

/// Adds how it ended; whether that is an error, as the conventions have it: for a server its own, for a client any.
fn conclude(record: &Record, attributes: &mut Vec<KeyValue>) -> bool {
    let is_server = record.kind == Kind::Server;
    let error = match record.answered {
        None => None,
        Some(Answered::Http(status)) => {
            let code = i64::from(status.as_u16());
            attributes.push(KeyValue::new("http.response.status_code", code));
            let least = if is_server {
                StatusCode::INTERNAL_SERVER_ERROR
            } else {
                StatusCode::BAD_REQUEST
            };
            (status >= least).then(|| status.as_u16().to_string())
        }
        Some(Answered::Grpc(code)) => {
            attributes.push(KeyValue::new("rpc.grpc.status_code", i64::from(code)));
            // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
            let is_error = if is_server {
                matches!(code, 2 | 4 | 12 | 13 | 14 | 15)
            } else {
                code != 0
            };
            is_error.then(|| code.to_string())
        }
    };
    let error = record.failure.map(ToOwned::to_owned).or(error);
    let is_error = error.is_some();
    if let Some(error) = error {
        attributes.push(KeyValue::new("error.type", error));
    }
    is_error
}

fn rpc(operation: &Operation) -> Option<(&str, &str)> {
    operation.uri.path().strip_prefix('/')?.split_once('/')
}

/// Services whose methods are few; of others, a client could make up any number.
fn is_known(service: &str) -> bool {
    service == "inference.GRPCInferenceService" || service.starts_with("grpc.")
}

/// The path with a placeholder for each name: `/v2/models/{model}/infer`. Nothing for paths that are not the protocols'.
pub(super) fn route(path: &str) -> Option<Cow<'static, str>> {
    let mut segments = path.split('/').skip(1);
    let (version, first) = (segments.next()?, segments.next());
    match (version, first) {
        ("v2", None) => Some("/v2".into()),
        ("v2", Some("health")) => match segments.next()? {
            "live" => Some("/v2/health/live".into()),
            "ready" => Some("/v2/health/ready".into()),
            _ => None,
        },
        ("v1", Some("models")) => match segments.next() {
            None => Some("/v1/models".into()),
            Some(model) => match model.rsplit_once(':') {
                Some((_, "predict")) => Some("/v1/models/{model}:predict".into()),
                Some((_, "explain")) => Some("/v1/models/{model}:explain".into()),
                Some(_) => None,
                None => Some("/v1/models/{model}".into()),
            },
        },
        ("v2", Some("models")) => {
            let mut route = "/v2/models/{model}".to_owned();
            segments.next()?;
            let mut next = segments.next();
            if next == Some("versions") {
                segments.next()?;
                route.push_str("/versions/{version}");
                next = segments.next();
            }
            match next {
                None => {}
                Some(verb @ ("infer" | "ready" | "config" | "stats" | "generate" | "generate_stream")) => {
                    route.push('/');
                    route.push_str(verb);
                }
                Some(_) => return None,
            }
            Some(route.into())
        }
        ("v2", Some("repository")) => Some("/v2/repository".into()),
        _ => None,
    }
}
