//! What a line tells, and how it is found out.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::header::HeaderMap;
use http::{HeaderValue, Method, Uri};
use plumbline_inference_protocol::GrpcCode;
use plumbline_service::{REQUEST_ID, TRACEPARENT};
use serde::Serialize;

use super::AccessLog;
use crate::access::Principal;
use crate::call::{Call, Ledger};
use crate::endpoint::Endpoint;
use crate::error::{GatewayError, status};
use crate::metrics::Ending;
use crate::route::Revision;

/// Bytes of a text that clients make up: a path, the words of a refusal.
const MAX_TEXT_BYTES: usize = 256;

/// What the layers below tell about a request for its line. Only with an access log.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    told: Mutex<Told>,
    /// Bytes of the request's body that have come.
    received: AtomicU64,
}

#[derive(Debug, Default)]
struct Told {
    principal: Option<Arc<Principal>>,
    revision: Option<Arc<Revision>>,
    endpoint: Option<Arc<Endpoint>>,
    attempts: u32,
    refusal: Option<(&'static str, String)>,
}

impl Trail {
    /// Of one request: nobody else waits for it.
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn asked_by(&self, principal: &Arc<Principal>) {
        self.told().principal = Some(Arc::clone(principal));
    }

    pub(crate) fn tried(&self, revision: &Arc<Revision>, endpoint: &Arc<Endpoint>) {
        let mut told = self.told();
        told.revision = Some(Arc::clone(revision));
        told.endpoint = Some(Arc::clone(endpoint));
        told.attempts += 1;
    }

    /// Of two attempts at a time, it may be the first that answers.
    pub(crate) fn answered_by(&self, endpoint: &Arc<Endpoint>) {
        self.told().endpoint = Some(Arc::clone(endpoint));
    }

    pub(crate) fn refused(&self, error: &GatewayError) {
        self.told().refusal = Some((status(error).code, shortened(&error.to_string()).to_owned()));
    }
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]
}

/// A request that may come to be in the log: what its head says, by reference.
#[derive(Debug)]
pub(crate) struct Logged {
    log: Arc<AccessLog>,
    id: Option<HeaderValue>,
    trace: Option<HeaderValue>,
    client: IpAddr,
    protocol: &'static str,
    method: Method,
    uri: Uri,
    /// Bytes of the answer's body that were given on.
    sent: u64,
    /// When the answer's head came: the gateway's share of the time, and what was waited for.
    to_head: Option<(Duration, Duration)>,
}

impl Logged {
    /// Begins to keep what `call` leaves behind.
    pub(crate) fn begin(log: &Arc<AccessLog>, call: &Call) -> Box<Self> {
        let trail = Box::<Trail>::default();
        if let Some(principal) = &call.principal {
            trail.asked_by(principal);
        }
        let _set_once = call.ledger.trail.set(trail);
        let header = |headers: &HeaderMap, name| headers.get(name).cloned();
        Box::new(Self {
            log: Arc::clone(log),
            id: header(call.request.headers(), REQUEST_ID),
            trace: header(call.request.headers(), TRACEPARENT),
            client: call.address,
            protocol: match call.grpc_web {
                Some(_) => "grpc-web",
                None => call.family.label(),
            },
            method: call.request.method().clone(),
            uri: call.request.uri().clone(),
            sent: 0,
            to_head: None,
        })
    }

    pub(crate) fn head(&mut self, overhead: Duration, waited: Duration) {
        self.to_head = Some((overhead, waited));
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Leaves the line of a request that has ended, if it is to have one.
    pub(crate) fn end(&self, ledger: &Ledger, model: &str, ending: Ending, took: Duration) {
        let success = match ending {
            Ending::Http(status) => !(status.is_client_error() || status.is_server_error()),
            Ending::Grpc(code) => code == GrpcCode::Ok,
            Ending::Aborted => false,
        };
        if success && !self.log.samples() {
            return;
        }
        let trail = ledger.trail.get().expect("set when the line was begun");
        let told = trail.told();
        let text = |value: &HeaderValue| value.to_str().ok().map(Box::from);
        let path = self.uri.path();
        let line = Line {
            ended: Some(SystemTime::now()),
            client: Some(self.client),
            request_id: self.id.as_ref().and_then(text),
            // `00-` and 32 digits.
            trace_id: self
                .trace
                .as_ref()
                .and_then(|trace| text(trace)?.get(3..35).map(Box::from)),
            principal: told.principal.as_ref().map(|principal| principal.name.clone()),
            protocol: self.protocol,
            method: self.method.clone(),
            path: shortened(path).into(),
            path_is_cut: path.len() > MAX_TEXT_BYTES,
            model: model.into(),
            revision: told.revision.as_ref().map(|revision| revision.name.clone()),
            endpoint: told
                .endpoint
                .as_ref()
                .map(|endpoint| endpoint.target().to_string().into()),
            ending: Some(ending),
            bytes_in: trail.received.load(Ordering::Relaxed),
            bytes_out: self.sent,
            took,
            to_head: self.to_head,
            retries: told.attempts.saturating_sub(1),
            refusal: told.refusal.clone(),
        };
        drop(told);
        self.log.offer(Box::new(line));
    }
}

/// A line before it is written.
#[derive(Debug, Default)]
pub(crate) struct Line {
    ended: Option<SystemTime>,
    client: Option<IpAddr>,
    request_id: Option<Box<str>>,
    trace_id: Option<Box<str>>,
    principal: Option<Box<str>>,
    protocol: &'static str,
    method: Method,
    path: Box<str>,
    path_is_cut: bool,
    model: Box<str>,
    revision: Option<Box<str>>,
    endpoint: Option<Box<str>>,
    ending: Option<Ending>,
    bytes_in: u64,
    bytes_out: u64,
    took: Duration,
    to_head: Option<(Duration, Duration)>,
    retries: u32,
    refusal: Option<(&'static str, String)>,
}

/// The names are documented in docs/gateway/operations.md.
#[derive(Serialize)]
struct Written<'a> {
    time: Option<String>,
    request_id: Option<&'a str>,
    trace_id: Option<&'a str>,
    client: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<&'a str>,
    protocol: &'static str,
    method: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    path_is_cut: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_code: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    aborted: bool,
    bytes_in: u64,
    bytes_out: u64,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    overhead_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_ms: Option<f64>,
    retries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl Line {
    /// Appends the line with its end.
    pub(super) fn write(&self, batch: &mut Vec<u8>) {
        let arrived = self.ended.and_then(|ended| ended.checked_sub(self.took));
        let arrived = arrived.and_then(|arrived| jiff::Timestamp::try_from(arrived).ok());
        let written = Written {
            time: arrived.map(|arrived| format!("{arrived:.3}")),
            request_id: self.request_id.as_deref(),
            trace_id: self.trace_id.as_deref(),
            client: self.client,
            principal: self.principal.as_deref(),
            protocol: self.protocol,
            method: self.method.as_str(),
            path: &self.path,
            path_is_cut: self.path_is_cut,
            model: &self.model,
            revision: self.revision.as_deref(),
            endpoint: self.endpoint.as_deref(),
            status: match self.ending {
                Some(Ending::Http(status)) => Some(status.as_u16()),
                _ => None,
            },
            grpc_code: match self.ending {
                Some(Ending::Grpc(code)) => Some(code.name()),
                _ => None,
            },
            aborted: self.ending == Some(Ending::Aborted),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            duration_ms: milliseconds(self.took),
            overhead_ms: self.to_head.map(|(overhead, _)| milliseconds(overhead)),
            upstream_ms: self.to_head.map(|(_, waited)| milliseconds(waited)),
            retries: self.retries,
            error: self.refusal.as_ref().map(|(code, _)| *code),
            reason: self.refusal.as_ref().map(|(_, reason)| reason.as_str()),
        };
        serde_json::to_writer(&mut *batch, &written)
            .expect("texts and numbers are JSON, and a Vec takes them");
        batch.push(b'\n');
    }
}

/// To the microsecond.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn a_line_is_one_json_object() {
        let line = Line {
            ended: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_500)),
            took: Duration::from_micros(250_125),
            request_id: Some("a\"b".into()),
            path: "/v2/models/a\nb".into(),
            ending: Some(Ending::Http(StatusCode::TOO_MANY_REQUESTS)),
            to_head: Some((Duration::from_micros(25), Duration::from_micros(250_100))),
            refusal: Some(("rate_limited", "too many".to_owned())),
            ..Line::default()
        };
        let mut batch = Vec::new();
        line.write(&mut batch);
        let text = String::from_utf8(batch.clone()).expect("text");
        assert_eq!((text.lines().count(), text.ends_with('\n')), (1, true), "{text}");
        let line: serde_json::Value = serde_json::from_slice(&batch).expect("JSON");
        assert_eq!(line["time"], "1970-01-01T00:00:01.249Z");
        assert_eq!(line["request_id"], "a\"b");
        assert_eq!(line["status"], 429);
        assert_eq!(
            (&line["duration_ms"], &line["overhead_ms"], &line["upstream_ms"]),
            (&250.125.into(), &0.025.into(), &250.1.into())
        );
        assert_eq!(
            (&line["error"], &line["reason"]),
            (&"rate_limited".into(), &"too many".into())
        );
        assert!(line.get("principal").is_none() && line.get("grpc_code").is_none());
    }

    #[test]
    fn texts_of_clients_are_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        let long = "ü".repeat(MAX_TEXT_BYTES);
        assert_eq!(shortened(&long).len(), MAX_TEXT_BYTES);
        assert_eq!(shortened(&format!("x{long}")).len(), MAX_TEXT_BYTES - 1);
    }
}
