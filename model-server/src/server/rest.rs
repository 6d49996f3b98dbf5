//! V1 and V2 over HTTP.

mod describe;

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use hyper::body::Incoming;
use plumbline_inference_protocol::{ModelRef, ProtocolError, Route, rest, v1};
use plumbline_service::{REQUEST_TIMEOUT, parse_request_timeout};

pub(super) use self::describe::all_statistics;
use super::cloud_event::CloudEvent;
use super::reply::WholeReply as Reply;
use super::{State, body, compress, deadline_of, earlier, record, reply};
use crate::metrics::Protocol;
use crate::model::Model;
use crate::scheduler::Deadline;

/// Answers a request. What seldom happens is boxed: the future of a request is moved about, all of it.
pub(super) async fn answer(state: &State, head: &Parts, body: Incoming, arrived: Instant) -> Reply {
    let route = Route::parse(&head.method, head.uri.path());
    let is_inference = route.as_ref().is_ok_and(Route::is_inference);
    let reply = match &route {
        Ok(Route::Infer(model)) => infer(state, head, body, model, Protocol::V2, arrived).await,
        Ok(Route::V1Predict(model)) => infer(state, head, body, model, Protocol::V1, arrived).await,
        Ok(
            route @ (Route::RepositoryIndex { .. }
            | Route::RepositoryLoad { .. }
            | Route::RepositoryUnload { .. }),
        ) => Box::pin(describe::repository(state, route, head, body))
            .await
            .unwrap_or_else(|error| reply::rest_error(&error)),
        Ok(route) => describe::describe(state, route).unwrap_or_else(|error| reply::rest_error(&error)),
        Err(error) => reply::rest_error(error),
    };
    let reply = match compress::accepted(&head.headers) {
        Some(accepted) => {
            // `tritonclient.http.aio` accepts gzip for every reply and can read it in those of inference only.
            let worth_it = is_inference && reply.status() == StatusCode::OK;
            let min_bytes = if worth_it {
                state.limits.compress_min_bytes
            } else {
                usize::MAX
            };
            compress::rest_reply(accepted, reply, min_bytes).await
        }
        None => reply,
    };
    if head.method == Method::HEAD {
        reply::head_only(reply)
    } else {
        reply
    }
}

async fn infer(
    state: &State,
    head: &Parts,
    body: Incoming,
    reference: &ModelRef,
    protocol: Protocol,
    arrived: Instant,
) -> Reply {
    let model = state.repository.find_model(reference);
    let outcome = match &model {
        Err(error) => Err(error.clone()),
        Ok(model) => run(state, model, head, body, protocol, arrived).await,
    };
    let (model, time) = (model.as_deref().ok(), outcome.as_ref().map(|(_, time)| *time));
    record(state, model, protocol, time, &head.headers, arrived);
    outcome.map_or_else(|error| reply::rest_error(&error), |(reply, _)| reply)
}

/// The reply, and for how long the request waited and ran.
async fn run(
    state: &State,
    model: &Model,
    head: &Parts,
    body: Incoming,
    protocol: Protocol,
    arrived: Instant,
) -> Result<(Reply, Duration), ProtocolError> {
    let coding = compress::of_request(&head.headers)?;
    let body = body::read(&head.headers, body, &state.limits).await?;
    let body = compress::expand(coding, body, state.limits.max_body_bytes).await?;
    match protocol {
        Protocol::V1 => {
            let deadline = header_deadline(&head.headers, arrived)?;
            let event = CloudEvent::of(&head.headers);
            let body = match event {
                Some(event) => event.data(body).map_err(|error| error.in_model(&model.name))?,
                None => body,
            };
            let (body, time) = predict(state, model, &body, deadline).await?;
            let reply = match event {
                Some(event) => event.answer(&model.name, body),
                None => reply::json(StatusCode::OK, body),
            };
            Ok((reply, time))
        }
        Protocol::V2 | Protocol::Grpc => {
            let header = head
                .headers
                .get(&reply::HEADER_LENGTH_NAME)
                .map(http::HeaderValue::as_bytes);
            let mut request = rest::decode_request_for(&model.signature, &body, header)?;
            let of_header = header_deadline(&head.headers, arrived)?;
            let deadline = earlier(deadline_of(&request.parameters, arrived)?, of_header);
            let wanted = std::mem::take(&mut request.outputs);
            let (response, time) = model.infer(request, &wanted, deadline).await?;
            let encoded = rest::encode_response(&response, &wanted, state.limits.nan_policy);
            let encoded = encoded.map_err(|error| error.in_model(&model.name))?;
            Ok((reply::infer(encoded), time))
        }
    }
}

/// The deadline of `x-request-timeout`, which the gateway forwards.
fn header_deadline(headers: &HeaderMap, arrived: Instant) -> Result<Option<Deadline>, ProtocolError> {
    let Some(value) = headers.get(REQUEST_TIMEOUT) else {
        return Ok(None);
    };
    let after = parse_request_timeout(value).ok_or_else(|| ProtocolError::Field {
        field: "x-request-timeout".into(),
        expected: "a time such as 250ms",
        got: String::from_utf8_lossy(value.as_bytes()).into(),
    })?;
    Ok(Deadline::new(arrived, after))
}

/// V1: a classifier answers with label and probabilities by class, any other model with its outputs.
async fn predict(
    state: &State,
    model: &Model,
    body: &Bytes,
    deadline: Option<Deadline>,
) -> Result<(Bytes, Duration), ProtocolError> {
    let v1::V1Request { inputs, form } = v1::decode_request(&model.signature, body)?;
    let (outputs, time) = model.run_all(inputs, deadline).await?;
    let nan = state.limits.nan_policy;
    let classes = model
        .classifier
        .as_ref()
        .and_then(|classifier| Some((classifier, classifier.split(&outputs)?)));
    let body = match classes {
        Some((classifier, (label, probabilities))) => {
            v1::encode_classification(label, &probabilities, &classifier.classes, form, nan)
        }
        None if form == v1::Form::Rows && model.has_sequences() => Err(ProtocolError::InvalidArgument {
            reason: "an output is a sequence, which has no rows: expected the column format (`inputs`), \
                     got `instances`"
                .into(),
        }),
        None => v1::encode_response(&outputs, form, nan),
    };
    let body = body.map_err(|error| error.in_model(&model.name))?;
    Ok((body, time))
}
