//! What is told of one request, or of one attempt at it.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, Method, StatusCode, Uri, Version};

use super::export::Exporter;
use crate::trace::{TRACESTATE, TraceContext};

/// Which side of the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Server,
    Client,
}

/// The status of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// To REST.
    Http(StatusCode),
    /// gRPC's, by its number.
    Grpc(u8),
}

/// The other side left, or the answer broke off.
const ABORTED: &str = "aborted";

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// A whole number.
    Int(i64),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

/// What was asked for; a server's span and those of its attempts share it.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) is_grpc: bool,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
}

/// A span as it is exported.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) context: TraceContext,
    pub(super) parent: Option<u64>,
    pub(super) trace_state: String,
    pub(super) operation: Option<Arc<Operation>>,
    pub(super) started: SystemTime,
    began: Instant,
    pub(super) took: Duration,
    pub(super) attributes: Vec<(&'static str, Value)>,
    pub(super) answered: Option<Answered>,
    /// Why the exchange is not whole.
    pub(super) failure: Option<&'static str>,
}

/// A request that is recorded, or an attempt at it. Dropped before [`Span::end`] or [`Span::fail`], it is told of as
/// aborted.
#[derive(Debug)]
pub struct Span {
    context: TraceContext,
    exporter: Exporter,
    /// Nothing once it has ended.
    record: Mutex<Option<Box<Record>>>,
}

impl Span {
    pub(super) fn of_server(
        context: TraceContext,
        caller: Option<TraceContext>,
        headers: &HeaderMap,
        exporter: &Exporter,
    ) -> Self {
        let state = caller.and_then(|_| headers.get(TRACESTATE)?.to_str().ok());
        let state = state.unwrap_or_default().to_owned();
        let parent = caller.map(|caller| caller.span_id);
        Self::new(Kind::Server, context, parent, (state, None), exporter)
    }

    fn new(
        kind: Kind,
        context: TraceContext,
        parent: Option<u64>,
        (trace_state, operation): (String, Option<Arc<Operation>>),
        exporter: &Exporter,
    ) -> Self {
        Self {
            context,
            exporter: exporter.clone(),
            record: Mutex::new(Some(Box::new(Record {
                kind,
                context,
                parent,
                trace_state,
                operation,
                started: SystemTime::now(),
                began: Instant::now(),
                took: Duration::ZERO,
                attributes: Vec::with_capacity(8),
                answered: None,
                failure: None,
            }))),
        }
    }

    /// Its place in the trace, as what is called next has to be told.
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// Says what is asked for.
    pub fn asks(&self, is_grpc: bool, method: &Method, uri: &Uri, version: Version) {
        if let Some(record) = &mut *self.record() {
            record.operation = Some(Arc::new(Operation {
                is_grpc,
                method: method.clone(),
                uri: uri.clone(),
                version,
            }));
        }
    }

    /// One attempt at the same, at somebody else's.
    #[must_use]
    pub fn attempt(&self) -> Self {
        let told = self.record().as_ref().map(|record| {
            let state = record.trace_state.clone();
            (state, record.operation.clone())
        });
        let (context, parent) = (self.context.child(), Some(self.context.span_id));
        Self::new(
            Kind::Client,
            context,
            parent,
            told.unwrap_or_default(),
            &self.exporter,
        )
    }

    /// Tells an attribute; what was told of it before is replaced.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        if let Some(record) = &mut *self.record() {
            match record.attributes.iter_mut().find(|(known, _)| *known == key) {
                Some((_, known)) => *known = value.into(),
                None => record.attributes.push((key, value.into())),
            }
        }
    }

    /// Tells the answer's status; the answer goes on.
    pub fn answered(&self, status: Answered) {
        if let Some(record) = &mut *self.record() {
            record.answered = Some(status);
        }
    }

    /// Ends it, the exchange being whole. What is told later changes nothing.
    pub fn end(&self) {
        self.end_with(None);
    }

    /// Ends it without a whole answer, and why, in one word.
    pub fn fail(&self, why: &'static str) {
        self.end_with(Some(why));
    }

    fn end_with(&self, failure: Option<&'static str>) {
        let ended = self.record().take();
        if let Some(mut record) = ended {
            record.failure = failure;
            record.took = record.began.elapsed();
            self.exporter.offer(record);
        }
    }

    /// Of one request: nobody else waits for it.
    fn record(&self) -> MutexGuard<'_, Option<Box<Record>>> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.fail(ABORTED);
    }
}
