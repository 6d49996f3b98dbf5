//! The data port: V1, V2 REST and V2 gRPC on one port, each request answered whatever happens to it.

mod body;
mod cloud_event;
mod compress;
mod grpc;
mod health;
mod model_config;
mod openapi;
mod parameters;
mod reflection;
mod reply;
mod reply_body;
mod repository_api;
mod rest;
mod settings;
mod stream;
mod v1_status;

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use plumbline_inference_protocol::{NanPolicy, ProtocolError, metadata};
use plumbline_service::{Process, REQUEST_ID, Readiness, RequestId, Shutdown};

use crate::metrics::{Metrics, Protocol, Rejected, Requests};
use crate::model::Model;
use crate::repository::Repository;
use crate::scheduler::Deadline;

pub(crate) use self::reply_body::ReplyBody;

/// Extensions of the protocol that this server has, in the words of Triton's server metadata.
const EXTENSIONS: [&str; 8] = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "non_tensor_outputs",
    "parameters",
    "schedule_policy",
    "statistics",
];

/// Those that it has only where models are loaded by request; the second is KServe's name.
const EXPLICIT_EXTENSIONS: [&str; 2] = [
    "model_repository(unload_dependents)",
    "model_repository_extension",
];

/// The request service. Cloned for each connection.
#[derive(Clone)]
pub(crate) struct Server(Arc<State>);

struct State {
    repository: Repository,
    readiness: Readiness,
    shutdown: Shutdown,
    limits: Limits,
    server_name: String,
    extensions: Vec<&'static str>,
    /// Body of `GET /v2`.
    server_metadata: Bytes,
    unknown_model: Requests,
}

/// How requests are read and replies written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_body_bytes: usize,
    /// Time that a body has to arrive.
    pub(crate) body_timeout: Duration,
    /// Replies from this size on are compressed for clients that want it.
    pub(crate) compress_min_bytes: usize,
    pub(crate) nan_policy: NanPolicy,
}

impl Server {
    pub(crate) fn new(
        repository: Repository,
        process: &Process,
        metrics: &Metrics,
        server_name: String,
        limits: Limits,
    ) -> Server {
        let mut extensions = EXTENSIONS.to_vec();
        if repository.is_explicit() {
            extensions.extend(EXPLICIT_EXTENSIONS);
        }
        let server_metadata = metadata::server(&server_name, env!("CARGO_PKG_VERSION"), &extensions);
        let unknown_model = metrics.unknown_model();
        Server(Arc::new(State {
            repository,
            readiness: process.readiness().clone(),
            shutdown: process.shutdown().clone(),
            limits,
            server_name,
            extensions,
            server_metadata,
            unknown_model,
        }))
    }
}

type Reply = Response<ReplyBody>;

impl tower::Service<Request<Incoming>> for Server {
    type Response = Reply;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Answer {
        let arrived = Instant::now();
        let request_id = if tracing::enabled!(tracing::Level::DEBUG) {
            Some(RequestId::ensure(request.headers_mut())) // `record` looks for it there
        } else {
            RequestId::of(request.headers())
        };
        let is_grpc = grpc::is_grpc(request.headers());
        let state = Arc::clone(&self.0);
        let (head, body) = request.into_parts();
        let coming: Pin<Box<dyn Future<Output = Reply> + Send>> = if is_grpc {
            Box::pin(async move { grpc::answer(&state, &head, body, arrived).await })
        } else {
            Box::pin(async move {
                let reply = rest::answer(&state, &head, body, arrived).await;
                reply.map(ReplyBody::Whole)
            })
        };
        Answer {
            coming,
            request_id,
            is_grpc,
        }
    }
}

/// The reply to come. A panic on the way becomes a reply, too, instead of a connection that ends.
pub(crate) struct Answer {
    coming: Pin<Box<dyn Future<Output = Reply> + Send>>,
    /// The client's; a request that has none gets one with its reply.
    request_id: Option<RequestId>,
    is_grpc: bool,
}

impl Future for Answer {
    type Output = Result<Reply, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let polled = match catch_unwind(AssertUnwindSafe(|| this.coming.as_mut().poll(context))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(reply)) => Some(reply),
            Err(_panic) => None,
        };
        let request_id = this.request_id.take().unwrap_or_else(RequestId::random);
        let mut reply = polled.unwrap_or_else(|| {
            tracing::error!(request.id = request_id.as_str(), "answering a request panicked");
            let error = &ProtocolError::Internal;
            let reply = if this.is_grpc {
                reply::grpc_error(error)
            } else {
                reply::rest_error(error)
            };
            reply.map(ReplyBody::Whole)
        });
        reply
            .headers_mut()
            .insert(REQUEST_ID, request_id.into_header_value());
        Poll::Ready(Ok(reply))
    }
}

/// What a finished inference request leaves in the metrics and the log. One that succeeded waited and ran for the
/// `outcome` of its time.
fn record(
    state: &State,
    model: Option<&Model>,
    protocol: Protocol,
    outcome: Result<Duration, &ProtocolError>,
    headers: &HeaderMap,
    arrived: Instant,
) {
    let (status, code) = match outcome {
        Err(error) => (error.http_status(), error.grpc_code()),
        Ok(_) => (http::StatusCode::OK, plumbline_inference_protocol::GrpcCode::Ok),
    };
    let time = arrived.elapsed();
    match (model, outcome) {
        (Some(model), Ok(in_model)) => model.metrics.answered(time, in_model),
        (Some(model), Err(ProtocolError::BodyTooLarge { .. })) => {
            model.metrics.rejected(Rejected::BodyTooLarge);
        }
        _ => {}
    }
    let requests = model.map_or(&state.unknown_model, |model| &model.metrics.requests);
    requests.observe(protocol, status, code, time);
    tracing::debug!(
        model.name = model.map(|model| model.name.as_str()),
        ?protocol,
        request.id = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()),
        status = status.as_u16(),
        error = outcome.err().map(tracing::field::display),
        ?time,
        "request"
    );
}

/// The deadline of the `schedule_policy` extension: the request parameter `timeout`, in microseconds; 0 means none.
fn deadline_of(
    parameters: &plumbline_inference_protocol::Parameters,
    arrived: Instant,
) -> Result<Option<Deadline>, ProtocolError> {
    use plumbline_inference_protocol::ParameterValue as Value;

    parameters::check(parameters)?;
    let micros = match parameters.get("timeout") {
        None => return Ok(None),
        Some(Value::Int(micros)) => u64::try_from(*micros).ok(),
        Some(Value::Uint(micros)) => Some(*micros),
        Some(Value::Bool(_) | Value::Double(_) | Value::String(_)) => None,
    };
    let Some(micros) = micros else {
        return Err(ProtocolError::Field {
            field: "parameters.timeout".into(),
            expected: "a whole number of microseconds",
            got: "another value".into(),
        });
    };
    let after = Duration::from_micros(micros);
    Ok(if micros == 0 {
        None
    } else {
        Deadline::new(arrived, after)
    })
}

/// The earlier of two deadlines.
fn earlier(one: Option<Deadline>, other: Option<Deadline>) -> Option<Deadline> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if one.at <= other.at { one } else { other }),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_a_reply_with_the_request_id() {
        for is_grpc in [false, true] {
            let request_id = RequestId::random();
            let coming = Box::pin(async { panic!("answering fails") });
            let reply = Answer {
                coming,
                request_id: Some(request_id.clone()),
                is_grpc,
            }
            .await
            .unwrap();
            assert_eq!(reply.headers()[REQUEST_ID], request_id.as_str());
            if is_grpc {
                assert_eq!(reply.headers()["grpc-status"], "13");
            } else {
                assert_eq!(reply.status(), http::StatusCode::INTERNAL_SERVER_ERROR);
                let body = reply.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(body, r#"{"error":"internal error","code":"internal"}"#);
            }
        }
    }
}
