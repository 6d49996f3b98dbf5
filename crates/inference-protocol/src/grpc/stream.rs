//! Messages of `ModelStreamInfer`: Triton's wrapper around the messages of `ModelInfer`.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::frame::{FRAME_PREFIX, encode_frame};
use super::proto::{
    InferParameter, ModelInferResponse, ModelStreamInferResponse, infer_parameter::ParameterChoice,
};

/// Request parameter: the client wants to be told which of a request's responses is its last.
const ENABLE_FINAL: &str = "triton_enable_empty_final_response";

/// Response parameter that tells it.
const FINAL: &str = "triton_final_response";

/// What a response in a stream has to know about its request. The other fields are skipped.
#[derive(Clone, PartialEq, Message)]
pub struct StreamedRequest {
    /// The model.
    #[prost(string, tag = "1")]
    pub model_name: String,
    /// Its version; empty lets the server choose.
    #[prost(string, tag = "2")]
    pub model_version: String,
    /// Identifier to echo.
    #[prost(string, tag = "3")]
    pub id: String,
    /// Parameters of the request.
    #[prost(map = "string, message", tag = "4")]
    parameters: std::collections::HashMap<String, InferParameter>,
}

impl StreamedRequest {
    /// Reads a request; of one that is malformed, nothing is known.
    pub fn peek(message: Bytes) -> StreamedRequest {
        StreamedRequest::decode(message).unwrap_or_default()
    }

    fn wants_final(&self) -> bool {
        let choice = self.parameters.get(ENABLE_FINAL);
        let choice = choice.and_then(|parameter| parameter.parameter_choice.as_ref());
        matches!(choice, Some(ParameterChoice::BoolParam(true)))
    }

    /// What the one response of this request carries besides its result.
    fn marks(&self) -> ModelInferResponse {
        let mut marks = ModelInferResponse::default();
        if self.wants_final() {
            let parameter_choice = Some(ParameterChoice::BoolParam(true));
            marks
                .parameters
                .insert(FINAL.to_owned(), InferParameter { parameter_choice });
        }
        marks
    }

    /// The frame of the response with a result; `response` is the frame of a `ModelInferResponse`.
    pub fn succeeded(&self, response: &Bytes) -> Bytes {
        const INFER_RESPONSE: u32 = 2;
        let response = response.get(FRAME_PREFIX..).unwrap_or_default();
        // Messages one after the other are one message with the fields of both.
        let marks = self.marks();
        let inner = response.len() + marks.encoded_len();
        let len = key_len(INFER_RESPONSE) + encoded_len_varint(inner as u64) + inner;
        let mut out = BytesMut::with_capacity(FRAME_PREFIX + len);
        out.put_u8(0);
        out.put_u32(u32::try_from(len).expect("a gRPC message is shorter than 4 GiB"));
        encode_key(INFER_RESPONSE, WireType::LengthDelimited, &mut out);
        encode_varint(inner as u64, &mut out);
        out.extend_from_slice(response);
        marks.encode_raw(&mut out);
        out.freeze()
    }

    /// The frame of the response that tells an error; the stream goes on.
    pub fn failed(&self, error: &impl ToString) -> Bytes {
        encode_frame(&ModelStreamInferResponse {
            error_message: error.to_string(),
            infer_response: Some(ModelInferResponse {
                model_name: self.model_name.clone(),
                model_version: self.model_version.clone(),
                id: self.id.clone(),
                ..self.marks()
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{decode_frame, proto::ModelInferRequest};
    use super::*;

    fn request(enable_final: bool) -> StreamedRequest {
        let mut request = ModelInferRequest {
            model_name: "churn".to_owned(),
            id: "7".to_owned(),
            raw_input_contents: vec![Bytes::from_static(&[1, 2, 3])],
            ..ModelInferRequest::default()
        };
        let parameter_choice = Some(ParameterChoice::BoolParam(enable_final));
        let parameter = InferParameter { parameter_choice };
        request.parameters.insert(ENABLE_FINAL.to_owned(), parameter);
        StreamedRequest::peek(request.encode_to_vec().into())
    }

    #[test]
    fn a_result_is_wrapped_as_it_is() {
        let result = ModelInferResponse {
            model_name: "churn".to_owned(),
            raw_output_contents: vec![vec![7; 300].into()],
            ..ModelInferResponse::default()
        };
        let frame = request(false).succeeded(&encode_frame(&result));
        let wrapped: ModelStreamInferResponse = decode_frame(&frame).unwrap();
        assert_eq!(wrapped.error_message, "");
        assert_eq!(wrapped.infer_response, Some(result.clone()));
        let frame = request(true).succeeded(&encode_frame(&result));
        let wrapped: ModelStreamInferResponse = decode_frame(&frame).unwrap();
        let marked = wrapped.infer_response.unwrap();
        let parameter_choice = Some(ParameterChoice::BoolParam(true));
        assert_eq!(marked.parameters[FINAL], InferParameter { parameter_choice });
        assert_eq!(marked.raw_output_contents, result.raw_output_contents);
    }

    #[test]
    fn an_error_names_its_request() {
        let wrapped: ModelStreamInferResponse = decode_frame(&request(true).failed(&"too late")).unwrap();
        assert_eq!(wrapped.error_message, "too late");
        let response = wrapped.infer_response.unwrap();
        assert_eq!(
            (response.model_name.as_str(), response.id.as_str()),
            ("churn", "7")
        );
        assert!(response.parameters.contains_key(FINAL));
        let malformed = StreamedRequest::peek(Bytes::from_static(&[0xff, 0xff]));
        let wrapped: ModelStreamInferResponse = decode_frame(&malformed.failed(&"no")).unwrap();
        assert_eq!(wrapped.error_message, "no");
    }
}
