//! From the bytes of an exchange to the tensors in it.

use bytes::Bytes;
use plumbline_inference_protocol::coding::Coding;
use plumbline_inference_protocol::{ProtocolError, Shape, Tensor, grpc, rest, v1};

use super::{Exchange, Skipped};
use crate::metrics::Protocol;
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
    /// Reads both bodies. A request that cannot be read counts as one row.
    pub(super) fn read(exchange: Exchange) -> Result<Self, Skipped> {
        let Exchange {
            protocol,
            request,
            request_head,
            response,
            response_head,
            ..
        } = exchange;
        let request = expanded(request.into_bytes(), request_head.coding)
            .map_err(|error| Skipped::one(reason(&error)))?;
        let inputs = match protocol {
            Protocol::V1 => v1::observe_request(&request).map(|request| request.inputs),
            Protocol::V2 => rest::decode_request(&request, request_head.json_length.as_deref())
                .map(|request| request.inputs),
            Protocol::Grpc => decode_grpc(&request, |message| {
                Ok(grpc::request_from_proto(message)?.1.inputs)
            }),
        };
        let inputs = inputs.map_err(|error| Skipped::one(reason(&error)))?;
        let rows = inputs.first().map_or(0, rows_of);
        let response = expanded(response.into_bytes(), response_head.coding);
        let outputs = response.and_then(|response| match protocol {
            Protocol::V1 => v1::observe_response(&response),
            Protocol::V2 => rest::decode_response(&response, response_head.json_length.as_deref())
                .map(|response| response.outputs),
            Protocol::Grpc => decode_grpc(&response, |message| {
                Ok(grpc::response_from_proto(message)?.outputs)
            }),
        });
        let outputs = outputs.map_err(|error| Skipped {
            reason: reason(&error),
            rows: rows.max(1),
        })?;
        Ok(Self {
            inputs,
            outputs,
            count: rows,
        })
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

fn expanded(body: Bytes, coding: Option<Coding>) -> Result<Bytes, ProtocolError> {
    match coding {
        None => Ok(body),
        Some(coding) => coding.decompress(&body, MOST_EXPANDED),
    }
}

fn decode_grpc<M, T>(
    body: &Bytes,
    convert: impl FnOnce(M) -> Result<T, ProtocolError>,
) -> Result<T, ProtocolError>
where
    M: prost::Message + Default,
{
    convert(grpc::decode_frame(body)?)
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
