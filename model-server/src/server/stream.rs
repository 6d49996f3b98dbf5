//! Streaming RPCs: messages in one by one, and `ModelStreamInfer`.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use plumbline_inference_protocol::ProtocolError;
use plumbline_inference_protocol::grpc::{FrameParser, StreamedRequest};
use tokio::sync::mpsc;

use super::reply_body::{Item, Messages, Owned};
use super::{State, compress, grpc, record};
use crate::metrics::Protocol;
use crate::scheduler::Deadline;

/// Requests of a stream that may be in the server at once: enough for a batch to form, little enough for memory.
const AHEAD: usize = 32;

/// The messages of a call, one after the other.
pub(super) struct Requests {
    body: Incoming,
    parser: FrameParser,
    deadline: Option<Deadline>,
}

impl Requests {
    pub(super) fn new(body: Incoming, max_message_bytes: usize, deadline: Option<Deadline>) -> Requests {
        Requests {
            body,
            parser: FrameParser::new(max_message_bytes),
            deadline,
        }
    }

    /// The next message without its prefix; `None` when the client has sent its last.
    ///
    /// # Errors
    /// [`ProtocolError::Draining`] when the server ends, [`ProtocolError::DeadlineExceeded`] when the call's time is
    /// over, and what is wrong with the frames. The stream cannot go on then.
    pub(super) async fn next(&mut self, state: &State) -> Result<Option<Bytes>, ProtocolError> {
        tokio::select! {
            message = next(&mut self.body, &mut self.parser) => message,
            () = state.shutdown.stop_accepting() => Err(ProtocolError::Draining),
            error = late(self.deadline) => Err(error),
        }
    }
}

async fn next(body: &mut Incoming, parser: &mut FrameParser) -> Result<Option<Bytes>, ProtocolError> {
    loop {
        if let Some(message) = parser.next_message()? {
            return Ok(Some(message));
        }
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    parser.push(data);
                }
            }
            None if parser.is_idle() => return Ok(None),
            None | Some(Err(_)) => return Err(ProtocolError::BodyIncomplete),
        }
    }
}

/// Resolves when the time is over; without a deadline, never.
pub(super) async fn late(deadline: Option<Deadline>) -> ProtocolError {
    match deadline {
        Some(Deadline { at, after }) => {
            tokio::time::sleep_until(at.into()).await;
            ProtocolError::DeadlineExceeded { after }
        }
        None => std::future::pending().await,
    }
}

/// Answers the requests of a stream: side by side, so that they can share runs, and in their order. What is wrong with
/// one of them is told in its response; the stream goes on. A client that does not read its responses is not read from.
pub(super) fn infer(
    state: &Arc<State>,
    headers: HeaderMap,
    body: Incoming,
    deadline: Option<Deadline>,
) -> Messages {
    let state = Arc::clone(state);
    let headers = Arc::new(headers);
    let mut requests = Requests::new(body, state.limits.max_body_bytes, deadline);
    // Of a coding that is not known, the first compressed message is refused.
    if let Ok(coding @ Some(_)) = compress::of_call(&headers) {
        requests.parser = FrameParser::with_coding(state.limits.max_body_bytes, coding);
    }
    Messages::produced_by(AHEAD, |out| async move {
        let outcome = answer_all(&state, &headers, &mut requests, &out).await;
        if let Err(error) = outcome {
            let _client_left = out.send(Item::Failed(error)).await;
        }
    })
}

async fn answer_all(
    state: &Arc<State>,
    headers: &Arc<HeaderMap>,
    requests: &mut Requests,
    out: &mpsc::Sender<Item>,
) -> Result<(), ProtocolError> {
    // Room first, so that no more is read than can be answered.
    while let Ok(room) = out.reserve().await {
        let Some(message) = requests.next(state).await? else {
            break;
        };
        let answer = answer(Arc::clone(state), Arc::clone(headers), message, requests.deadline);
        room.send(Item::Coming(Owned::spawn(answer)));
    }
    Ok(())
}

async fn answer(
    state: Arc<State>,
    headers: Arc<HeaderMap>,
    message: Bytes,
    of_call: Option<Deadline>,
) -> Bytes {
    let arrived = Instant::now();
    let request = StreamedRequest::peek(message.clone());
    let mut served = None;
    let outcome = grpc::run(&state, message, of_call, arrived, &mut served).await;
    let time = outcome.as_ref().map(|(_, time)| *time);
    record(&state, served.as_deref(), Protocol::Grpc, time, &headers, arrived);
    match outcome {
        Ok((response, _)) => request.succeeded(&response),
        Err(error) => request.failed(&error),
    }
}
