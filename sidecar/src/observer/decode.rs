//! From the bytes of an exchange to the tensors in it.

use bytes::Bytes;
use plumbline_inference_protocol::coding::Coding;
use plumbline_inference_protocol::{InferRequest, ModelRef, ProtocolError, Shape, Tensor, grpc, rest, v1};

use super::Skipped;
use crate::metrics::Protocol;
use crate::observation::{BodyHead, Observation, RequestId, request_id_of};
use crate::skip::SkipReason;

/// The most bytes that a compressed body may expand to: far more than one that is kept plain, far less than memory.
const MOST_EXPANDED: usize = 16 << 20;

/// What a client sent and what it got, row by row.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) inputs: Vec<Tensor>,
    pub(super) outputs: Vec<Tensor>,
    count: u64,
}

impl Rows {
    /// Rows of a request and what was answered to it, or why that cannot be read.
    pub(super) fn new(
        inputs: Vec<Tensor>,
        outputs: Result<Vec<Tensor>, SkipReason>,
    ) -> Result<Self, Skipped> {
        let count = inputs.first().map_or(0, rows_of);
        match outputs {
            Ok(outputs) => Ok(Self {
                inputs,
                outputs,
                count,
            }),
            Err(reason) => Err(Skipped {
                reason,
                rows: count.max(1),
            }),
        }
    }

    /// Whether the request is well-formed and asks for nothing.
    pub(super) fn is_empty_batch(&self) -> bool {
        self.count == 0 && !self.inputs.is_empty()
    }

    /// Rows of the request.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

/// One request with its answer.
#[derive(Debug)]
pub(super) struct Read {
    /// The model that the message names; a path names it otherwise.
    pub(super) model: Option<ModelRef>,
    /// The identifier of a message of a stream.
    pub(super) id: Option<RequestId>,
    /// A request that cannot be read counts as one row.
    pub(super) rows: Result<Rows, Skipped>,
}

impl Read {
    fn unreadable(error: &ProtocolError) -> Self {
        Self {
            model: None,
            id: None,
            rows: Err(Skipped::one(reason(error))),
        }
    }
}

/// Reads both bodies: one request with its answer, or those of a stream. Also names the request after the message's
/// `id` when the client sent no header for that.
pub(super) fn read(exchange: &mut Observation) -> Vec<Read> {
    let (request, response) = exchange.take_bodies();
    let request = match plain(request, &exchange.request_head) {
        Ok(request) => request,
        Err(error) => return vec![Read::unreadable(&error)],
    };
    let response = plain(response, &exchange.response_head);
    if exchange.is_streaming() {
        let (sent, got) = (&exchange.request_head, &exchange.response_head);
        let requests = messages(request, sent.message_coding).map(stream_requests);
        return match (
            requests,
            response.and_then(|body| messages(body, got.message_coding)),
        ) {
            (Ok(requests), Ok(responses)) => pair(requests, &responses),
            (Err(error), _) | (_, Err(error)) => vec![Read::unreadable(&error)],
        };
    }
    let (model, request) = match request_of(exchange, request) {
        Ok(read) => read,
        Err(error) => return vec![Read::unreadable(&error)],
    };
    exchange.name_request(request.id.as_deref());
    let outputs = response.and_then(|response| outputs_of(exchange, response));
    let rows = Rows::new(request.inputs, outputs.map_err(|error| reason(&error)));
    vec![Read {
        model,
        id: None,
        rows,
    }]
}

fn request_of(
    exchange: &Observation,
    body: Bytes,
) -> Result<(Option<ModelRef>, InferRequest), ProtocolError> {
    let head = &exchange.request_head;
    Ok(match exchange.protocol {
        Protocol::V1 => {
            let inputs = v1::observe_request(&body)?.inputs;
            let request = InferRequest {
                inputs,
                ..InferRequest::default()
            };
            (None, request)
        }
        Protocol::V2 => (None, rest::decode_request(&body, head.json_length.as_deref())?),
        Protocol::Grpc => {
            let body = grpc::expand_frame(body, head.message_coding, MOST_EXPANDED)?;
            let (model, request) = grpc::request_from_proto(grpc::decode_frame(&body)?)?;
            (Some(model), request)
        }
    })
}

fn outputs_of(exchange: &Observation, body: Bytes) -> Result<Vec<Tensor>, ProtocolError> {
    let head = &exchange.response_head;
    match exchange.protocol {
        Protocol::V1 => v1::observe_response(&body),
        Protocol::V2 => Ok(rest::decode_response(&body, head.json_length.as_deref())?.outputs),
        Protocol::Grpc => {
            let body = grpc::expand_frame(body, head.message_coding, MOST_EXPANDED)?;
            Ok(grpc::response_from_proto(grpc::decode_frame(&body)?)?.outputs)
        }
    }
}

fn plain(body: Bytes, head: &BodyHead) -> Result<Bytes, ProtocolError> {
    match head.coding {
        None => Ok(body),
        Some(coding) => coding.decompress(&body, MOST_EXPANDED),
    }
}

/// The messages of a stream, expanded.
fn messages(body: Bytes, coding: Option<Coding>) -> Result<Vec<Bytes>, ProtocolError> {
    let mut parser = grpc::FrameParser::with_coding(MOST_EXPANDED, coding);
    parser.push(body);
    std::iter::from_fn(|| parser.next_message().transpose()).collect()
}

type StreamRequest = Result<(ModelRef, InferRequest), ProtocolError>;

fn stream_requests(messages: Vec<Bytes>) -> Vec<StreamRequest> {
    let read = |message| grpc::request_from_proto(grpc::decode_message(message)?);
    messages.into_iter().map(read).collect()
}

/// Finds the answer to each request of a stream: by its identifier, or else by its place, where there is one answer to
/// each request.
fn pair(requests: Vec<StreamRequest>, responses: &[Bytes]) -> Vec<Read> {
    let one_to_one = requests.len() == responses.len();
    let mut answers: Vec<Option<Answer>> = responses
        .iter()
        .map(|message| Some(Answer::read(message)))
        .collect();
    let mut pairs = Vec::with_capacity(requests.len());
    for (place, request) in requests.into_iter().enumerate() {
        let (model, request) = match request {
            Ok(read) => read,
            Err(error) => {
                pairs.push(Read::unreadable(&error));
                continue;
            }
        };
        let id = request.id.as_deref().unwrap_or_default();
        let is_named = |answer: &Option<Answer>| answer.as_ref().is_some_and(|answer| answer.id == id);
        let at = if id.is_empty() {
            one_to_one.then_some(place)
        } else {
            answers.iter().position(is_named)
        };
        let answer = at.and_then(|at| answers[at].take());
        let outputs = answer.map_or(Err(SkipReason::Streaming), |answer| answer.outputs);
        pairs.push(Read {
            model: Some(model),
            id: request_id_of(id.as_bytes()),
            rows: Rows::new(request.inputs, outputs),
        });
    }
    pairs
}

/// One answer of a stream.
struct Answer {
    id: String,
    outputs: Result<Vec<Tensor>, SkipReason>,
}

impl Answer {
    fn read(message: &Bytes) -> Self {
        let decoded = grpc::decode_message::<grpc::proto::ModelStreamInferResponse>(message.clone());
        match decoded.map(|message| (message.error_message, message.infer_response.unwrap_or_default())) {
            Ok((error, response)) if error.is_empty() => Self {
                id: response.id.clone(),
                outputs: grpc::response_from_proto(response)
                    .map(|response| response.outputs)
                    .map_err(|error| reason(&error)),
            },
            Ok((_error, response)) => Self {
                id: response.id,
                outputs: Err(SkipReason::ErrorStatus),
            },
            Err(error) => Self {
                id: String::new(),
                outputs: Err(reason(&error)),
            },
        }
    }
}

/// The first dimension; a scalar is one row.
fn rows_of(tensor: &Tensor) -> u64 {
    Shape::rows(tensor.shape()).map_or(1, |rows| u64::try_from(rows).unwrap_or(0))
}

fn reason(error: &ProtocolError) -> SkipReason {
    tracing::debug!(%error, "exchange not observed");
    match error {
        ProtocolError::GrpcCompression => SkipReason::Encoded,
        ProtocolError::BodyTooLarge { .. } => SkipReason::TooLarge,
        _ => SkipReason::Unparsable,
    }
}
