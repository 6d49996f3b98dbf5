//! V2 over gRPC, and the services that gRPC's tools expect.

mod describe;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Version};
use hyper::body::Incoming;
use plumbline_inference_protocol::grpc::{self, Contents, Method, proto};
use plumbline_inference_protocol::{ModelRef, ProtocolError, Route};

use super::reply::WholeReply;
use super::stream::Requests;
use super::{
    Limits, Reply, ReplyBody, State, body, compress, deadline_of, earlier, health, record, reflection, reply,
    stream,
};
use crate::metrics::Protocol;
use crate::model::Model;
use crate::scheduler::Deadline;

/// Whether a request is a gRPC call, which is answered in gRPC's way even when it is wrong.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| grpc::is_grpc(value.as_bytes()))
}

/// Answers a call.
pub(super) async fn answer(state: &Arc<State>, head: &Parts, body: Incoming, arrived: Instant) -> Reply {
    if head.version != Version::HTTP_2 {
        // A status in trailers would not reach an HTTP/1 client.
        let reason = "gRPC needs HTTP/2".into();
        return reply::rest_error(&ProtocolError::InvalidArgument { reason }).map(ReplyBody::Whole);
    }
    let reply = match Route::parse(&head.method, head.uri.path()) {
        Ok(Route::Grpc(Method::ModelInfer)) => infer(state, &head.headers, body, arrived)
            .await
            .map(|reply| reply.map(ReplyBody::Whole)),
        Ok(Route::Grpc(method)) => Box::pin(call(state, method, &head.headers, body, arrived)).await,
        Ok(_) | Err(ProtocolError::NotFound) => Err(ProtocolError::UnknownRpc {
            method: head.uri.path().into(),
        }),
        Err(error) => Err(error),
    };
    reply.unwrap_or_else(|error| reply::grpc_error(&error).map(ReplyBody::Whole))
}

/// Any call but `ModelInfer`.
async fn call(
    state: &Arc<State>,
    method: Method,
    headers: &HeaderMap,
    body: Incoming,
    arrived: Instant,
) -> Result<Reply, ProtocolError> {
    if method == Method::ModelStreamInfer {
        let deadline = call_deadline(headers, arrived)?;
        return Ok(reply::stream(stream::infer(
            state,
            headers.clone(),
            body,
            deadline,
        )));
    }
    if matches!(method, Method::Reflection | Method::ReflectionAlpha) {
        let deadline = call_deadline(headers, arrived)?;
        let requests = Requests::new(body, state.limits.max_body_bytes, deadline);
        return Ok(reply::stream(reflection::answer(state, requests)));
    }
    let frame = read(state, headers, body).await?;
    if method == Method::HealthWatch {
        let deadline = call_deadline(headers, arrived)?;
        let request = grpc::decode_frame(&frame)?;
        return Ok(reply::stream(health::watch(state, request, deadline)));
    }
    let frame = describe::answer(state, method, &frame).await?;
    Ok(reply::message(frame).map(ReplyBody::Whole))
}

/// The whole of a call's one message, its frame included, uncompressed.
async fn read(state: &State, headers: &HeaderMap, body: Incoming) -> Result<Bytes, ProtocolError> {
    let coding = compress::of_call(headers)?;
    let limit = state.limits.max_body_bytes;
    let framed = Limits {
        max_body_bytes: limit.saturating_add(grpc::FRAME_PREFIX),
        ..state.limits
    };
    // The client is told the limit of a message, without our arithmetic.
    let frame = body::read(headers, body, &framed)
        .await
        .map_err(|error| match error {
            ProtocolError::BodyTooLarge { .. } => ProtocolError::BodyTooLarge { limit },
            other => other,
        })?;
    compress::expand_frame(coding, frame, limit).await
}

async fn infer(
    state: &State,
    headers: &HeaderMap,
    body: Incoming,
    arrived: Instant,
) -> Result<WholeReply, ProtocolError> {
    let mut served = None;
    let outcome = async {
        let frame = read(state, headers, body).await?;
        let of_call = call_deadline(headers, arrived)?;
        run(state, grpc::message_of(frame)?, of_call, arrived, &mut served).await
    }
    .await;
    let time = outcome.as_ref().map(|(_, time)| *time);
    record(state, served.as_deref(), Protocol::Grpc, time, headers, arrived);
    let (frame, _) = outcome?;
    match compress::accepted_by_call(headers) {
        Some(coding) => compress::grpc_reply(coding, frame, state.limits.compress_min_bytes).await,
        None => Ok(reply::message(frame)),
    }
}

/// Answers a `ModelInferRequest`, here without its prefix, with the frame of a `ModelInferResponse`, and tells for how
/// long it waited and ran.
pub(super) async fn run(
    state: &State,
    message: Bytes,
    of_call: Option<Deadline>,
    arrived: Instant,
    served: &mut Option<Arc<Model>>,
) -> Result<(Bytes, Duration), ProtocolError> {
    let message: proto::ModelInferRequest = grpc::decode_message(message)?;
    // The model is looked up first: its absence is told whatever else is wrong.
    let reference = reference(message.model_name.clone(), message.model_version.clone());
    let model = &**served.insert(state.repository.find_model(&reference)?);
    let (_reference, mut request) = grpc::request_from_proto(message)?;
    model.signature.validate(&request)?;
    let deadline = earlier(deadline_of(&request.parameters, arrived)?, of_call);
    let wanted = std::mem::take(&mut request.outputs);
    let contents = Contents::of(&wanted);
    let (response, time) = model.infer(request, &wanted, deadline).await?;
    let message =
        grpc::response_to_proto(&response, contents).map_err(|error| error.in_model(&model.name))?;
    Ok((grpc::encode_frame(&message), time))
}

/// The deadline of `grpc-timeout`.
fn call_deadline(headers: &HeaderMap, arrived: Instant) -> Result<Option<Deadline>, ProtocolError> {
    let Some(timeout) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    let after = grpc::parse_timeout(timeout.as_bytes()).ok_or_else(|| ProtocolError::Field {
        field: "grpc-timeout".into(),
        expected: "up to 8 digits and a unit",
        got: String::from_utf8_lossy(timeout.as_bytes()).into(),
    })?;
    Ok(Deadline::new(arrived, after))
}

fn reference(name: String, version: String) -> ModelRef {
    ModelRef {
        name,
        version: Some(version).filter(|version| !version.is_empty()),
    }
}
