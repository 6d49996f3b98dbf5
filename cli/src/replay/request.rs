//! One request in each dialect, and what its answer means.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use plumbline_inference_protocol::grpc::{self, Contents, proto};
use plumbline_inference_protocol::{
    GrpcCode, InferRequest, ModelRef, Parameters, RequestedOutputs, Tensor, TensorSpec, rest, v1,
};

use super::cell::is_finite;
use super::metadata;
use crate::client::{Answer, ClientError, Connection, Wire, content_type};

/// How a prediction is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// V2 with tensors in JSON.
    V2Json,
    /// V2 with binary tensors, in the request and in the answer.
    V2Binary,
    /// V1 `:predict`.
    V1,
    /// V2 `ModelInfer`.
    Grpc,
}

/// Characters that stay as they are in one segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

const GRPC: &str = "application/grpc";

/// Why a prediction did not come back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// `429`, `UNAVAILABLE`, `cannot connect`.
    pub(crate) status: String,
    /// What the server said.
    pub(crate) text: String,
}

impl Dialect {
    /// Every dialect, in the order in which mixed traffic takes turns.
    pub(crate) const ALL: [Self; 4] = [Self::V2Json, Self::V2Binary, Self::V1, Self::Grpc];

    /// What its connections speak.
    pub(crate) fn wire(self) -> Wire {
        match self {
            Self::V2Json | Self::V2Binary | Self::V1 => Wire::Http1,
            Self::Grpc => Wire::Http2,
        }
    }

    /// Whether it has a form for every value: JSON has none for a missing or infinite number.
    pub(crate) fn can_carry(self, inputs: &[Tensor]) -> bool {
        match self {
            Self::V2Json | Self::V1 => inputs.iter().all(|input| is_finite(input.data())),
            Self::V2Binary | Self::Grpc => true,
        }
    }

    /// Asks for a prediction.
    pub(crate) async fn predict(
        self,
        connection: &mut Connection,
        model: &str,
        inputs: Vec<Tensor>,
    ) -> Result<(), Refusal> {
        let (path, headers, body) = self.encode(model, inputs)?;
        let answer = connection.send(Method::POST, &path, headers, body).await?;
        if self == Self::Grpc {
            grpc_outcome(&answer)
        } else {
            http_outcome(&answer)
        }
    }

    fn encode(self, model: &str, inputs: Vec<Tensor>) -> Result<(String, HeaderMap, Bytes), Refusal> {
        let name = utf8_percent_encode(model, SEGMENT);
        match self {
            Self::V2Json | Self::V2Binary => {
                let binary = self == Self::V2Binary;
                let encoding = if binary {
                    rest::Encoding::Binary
                } else {
                    rest::Encoding::Json
                };
                let body = rest::encode_request(&infer_request(inputs, binary), encoding)?;
                let mut headers = content_type(body.content_type());
                if let Some(length) = body.json_len {
                    headers.insert(rest::HEADER_LENGTH, HeaderValue::from(length));
                }
                Ok((format!("/v2/models/{name}/infer"), headers, body.body))
            }
            Self::V1 => {
                let body = v1::encode_request(&inputs, v1::Form::Rows)?;
                Ok((
                    format!("/v1/models/{name}:predict"),
                    content_type(rest::JSON),
                    body,
                ))
            }
            Self::Grpc => {
                let to = ModelRef {
                    name: model.to_owned(),
                    version: None,
                };
                let request = grpc::request_to_proto(&to, &infer_request(inputs, true), Contents::Raw)?;
                Ok((
                    grpc::Method::ModelInfer.path().to_owned(),
                    grpc_headers(),
                    grpc::encode_frame(&request),
                ))
            }
        }
    }
}

fn infer_request(inputs: Vec<Tensor>, binary: bool) -> InferRequest {
    let outputs = RequestedOutputs {
        binary_data_output: binary.then_some(true),
        list: Vec::new(),
    };
    InferRequest {
        id: None,
        parameters: Parameters::default(),
        inputs,
        outputs,
    }
}

fn grpc_headers() -> HeaderMap {
    let mut headers = content_type(GRPC);
    headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
    headers
}

/// The model's inputs, asked for over the wire that predictions will take.
pub(crate) async fn inputs(
    connection: &mut Connection,
    wire: Wire,
    model: &str,
) -> Result<Vec<TensorSpec>, Refusal> {
    let inputs = match wire {
        Wire::Http1 => {
            let path = format!("/v2/models/{}", utf8_percent_encode(model, SEGMENT));
            let answer = connection
                .send(Method::GET, &path, HeaderMap::new(), Bytes::new())
                .await?;
            http_outcome(&answer)?;
            metadata::inputs_from_json(&answer.body)
        }
        Wire::Http2 => {
            let request = proto::ModelMetadataRequest {
                name: model.to_owned(),
                version: String::new(),
            };
            let path = grpc::Method::ModelMetadata.path();
            let answer = connection
                .send(Method::POST, path, grpc_headers(), grpc::encode_frame(&request))
                .await?;
            grpc_outcome(&answer)?;
            metadata::inputs_from_proto(&grpc::decode_frame(&answer.body)?)
        }
    };
    inputs.map_err(|error| Refusal {
        status: "unreadable".to_owned(),
        text: error.to_string(),
    })
}

fn http_outcome(answer: &Answer) -> Result<(), Refusal> {
    if answer.status.is_success() {
        return Ok(());
    }
    let status = answer.status.as_str().to_owned();
    // `{"error": …}` from servers of the protocol; anything else as it is.
    let told: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
    let told = told
        .as_ref()
        .and_then(|body| body.get("error"))
        .and_then(serde_json::Value::as_str);
    let body = String::from_utf8_lossy(&answer.body);
    let text = told.unwrap_or_else(|| body.trim());
    let reason = answer.status.canonical_reason().unwrap_or_default();
    Err(Refusal {
        status,
        text: shorten(if text.is_empty() { reason } else { text }),
    })
}

fn grpc_outcome(answer: &Answer) -> Result<(), Refusal> {
    if answer.status != StatusCode::OK {
        return http_outcome(answer);
    }
    // A call that fails at once has its status among the headers.
    let field = |name| answer.trailers.get(name).or_else(|| answer.headers.get(name));
    let code = field("grpc-status")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok());
    match code {
        Some(0) => Ok(()),
        Some(code) => {
            let message = field("grpc-message").map(|value| grpc::decode_status_message(value.as_bytes()));
            let status = GrpcCode::from_i32(code).name().to_owned();
            Err(Refusal {
                status,
                text: shorten(&message.unwrap_or_default()),
            })
        }
        None => {
            let kind = answer
                .headers
                .get(CONTENT_TYPE)
                .map(|value| String::from_utf8_lossy(value.as_bytes()));
            let text = format!(
                "an answer without grpc-status, content type {}",
                kind.unwrap_or("none".into())
            );
            Err(Refusal {
                status: "not gRPC".to_owned(),
                text,
            })
        }
    }
}

fn shorten(text: &str) -> String {
    const MOST: usize = 300;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        use std::error::Error as _;

        let cause = error
            .source()
            .map(|cause| format!(": {cause}"))
            .unwrap_or_default();
        Self {
            status: error.kind().to_owned(),
            text: format!("{error}{cause}"),
        }
    }
}

impl From<plumbline_inference_protocol::ProtocolError> for Refusal {
    fn from(error: plumbline_inference_protocol::ProtocolError) -> Self {
        Self {
            status: error.code().to_owned(),
            text: error.to_string(),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.status, self.text)
    }
}
