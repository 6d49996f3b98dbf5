//! gRPC server reflection, under its name and its older one.

use std::sync::Arc;

use bytes::Bytes;
use plumbline_inference_protocol::ProtocolError;
use plumbline_inference_protocol::grpc::{decode_message, encode_frame, reflection};

use super::State;
use super::reply_body::{Item, Messages};
use super::stream::Requests;

/// Answers questions one by one until the client has asked its last.
pub(super) fn answer(state: &Arc<State>, mut requests: Requests) -> Messages {
    let state = Arc::clone(state);
    Messages::produced_by(1, |out| async move {
        loop {
            let frame = match requests.next(&state).await.transpose() {
                None => return,
                Some(message) => message.and_then(one),
            };
            let item = frame.map_or_else(Item::Failed, Item::Message);
            let is_last = matches!(item, Item::Failed(_));
            if out.send(item).await.is_err() || is_last {
                return;
            }
        }
    })
}

fn one(message: Bytes) -> Result<Bytes, ProtocolError> {
    let request = decode_message(message)?;
    Ok(encode_frame(&reflection::answer(request)))
}
