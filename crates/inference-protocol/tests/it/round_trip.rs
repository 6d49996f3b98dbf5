//! What is written is what is read, bit for bit.

use bytes::Bytes;
use plumbline_inference_protocol::{
    InferRequest, InferResponse, ModelSignature, NanPolicy, Parameters, ProtocolError, RequestedOutputs,
    Tensor, TensorData, TensorSpec,
    grpc::{self, Contents, Peek},
    rest::{self, Encoding, RestBody},
    v1,
};
use proptest::prelude::*;

use crate::generate::{Carries, bits, model, request, response, tensor};

fn any_float() -> impl Strategy<Value = f64> {
    let special = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        f64::MIN_POSITIVE / 2.0,
    ];
    prop_oneof![3 => any::<f64>(), 1 => prop::sample::select(special.to_vec())]
}

fn failed(error: &ProtocolError) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

fn header(body: &RestBody) -> Option<String> {
    body.json_len.map(|len| len.to_string())
}

fn same_request(back: &InferRequest, sent: &InferRequest) -> Result<(), TestCaseError> {
    prop_assert_eq!(bits(&back.inputs), bits(&sent.inputs));
    prop_assert_eq!(
        (&back.id, &back.parameters, &back.outputs),
        (&sent.id, &sent.parameters, &sent.outputs)
    );
    Ok(())
}

fn same_response(back: &InferResponse, sent: &InferResponse) -> Result<(), TestCaseError> {
    prop_assert_eq!(bits(&back.outputs), bits(&sent.outputs));
    prop_assert_eq!((&back.id, &back.parameters), (&sent.id, &sent.parameters));
    prop_assert_eq!(
        (&back.model_name, &back.model_version),
        (&sent.model_name, &sent.model_version)
    );
    Ok(())
}

fn rest_request(sent: &InferRequest, encoding: Encoding) -> Result<(), TestCaseError> {
    let body = rest::encode_request(sent, encoding).map_err(|error| failed(&error))?;
    let json = &body.body[..body.json_len.unwrap_or(body.body.len())];
    prop_assert!(
        serde_json::from_slice::<serde_json::Value>(json).is_ok(),
        "{}",
        String::from_utf8_lossy(json)
    );
    let header = header(&body);
    prop_assert_eq!(header.is_some(), encoding == Encoding::Binary);
    let back = rest::decode_request(&body.body, header.as_deref().map(str::as_bytes))
        .map_err(|error| failed(&error))?;
    same_request(&back, sent)
}

fn rest_response(sent: &InferResponse, binary: bool) -> Result<(), TestCaseError> {
    let requested = RequestedOutputs {
        binary_data_output: Some(binary),
        list: Vec::new(),
    };
    let body = rest::encode_response(sent, &requested, NanPolicy::Error).map_err(|error| failed(&error))?;
    let header = header(&body);
    let back = rest::decode_response(&body.body, header.as_deref().map(str::as_bytes))
        .map_err(|error| failed(&error))?;
    same_response(&back, sent)
}

proptest! {
    #[test]
    fn rest_json_requests(sent in request(Carries::Json)) {
        rest_request(&sent, Encoding::Json)?;
    }

    #[test]
    fn rest_binary_requests(sent in request(Carries::AnyBits)) {
        rest_request(&sent, Encoding::Binary)?;
    }

    #[test]
    fn rest_json_responses(sent in response(Carries::Json)) {
        rest_response(&sent, false)?;
    }

    #[test]
    fn rest_binary_responses(sent in response(Carries::AnyBits)) {
        rest_response(&sent, true)?;
    }

    #[test]
    fn numbers_that_json_does_not_have(
        wide in prop::collection::vec(any_float(), 0..6),
        narrow in prop::collection::vec(any_float().prop_map(|value| value as f32), 0..6),
    ) {
        let tensor = |name: &str, data: TensorData| Tensor::new(name, [data.len() as i64], data).unwrap();
        let sent = InferResponse {
            model_name: "m".to_owned(),
            outputs: vec![
                tensor("wide", TensorData::from_vec(wide.clone())),
                tensor("narrow", TensorData::from_vec(narrow.clone())),
            ],
            ..InferResponse::default()
        };
        let finite = wide.iter().all(|value| value.is_finite()) && narrow.iter().all(|value| value.is_finite());
        for nan in [NanPolicy::Null, NanPolicy::Literal, NanPolicy::Error] {
            let body = rest::encode_response(&sent, &RequestedOutputs::default(), nan);
            prop_assert_eq!(body.is_ok(), finite || nan != NanPolicy::Error);
            let Ok(body) = body else { continue };
            let is_json = serde_json::from_slice::<serde_json::Value>(&body.body).is_ok();
            prop_assert_eq!(is_json, finite || nan == NanPolicy::Null);
            let back = rest::decode_response(&body.body, None).map_err(|error| failed(&error))?;
            let values = |index: usize| back.outputs[index].data().iter_f64().expect("numbers").collect::<Vec<_>>();
            let narrow = narrow.iter().map(|&value| f64::from(value)).collect();
            for (sent, back) in [(&wide, values(0)), (&narrow, values(1))] {
                prop_assert_eq!(sent.len(), back.len());
                for (&sent, back) in sent.iter().zip(back) {
                    // `null` stands for all three, and is read as the first.
                    let expected = if sent.is_finite() || nan == NanPolicy::Literal { sent } else { f64::NAN };
                    prop_assert!(expected == back || (expected.is_nan() && back.is_nan()), "{sent} -> {back}");
                }
            }
        }
    }

    #[test]
    fn grpc_raw_requests(model in model(), sent in request(Carries::AnyBits)) {
        let body = grpc::encode_frame(&grpc::request_to_proto(&model, &sent, Contents::Raw).unwrap());
        let (back_model, back) = grpc::request_from_proto(grpc::decode_frame(&body).unwrap()).unwrap();
        prop_assert_eq!(&back_model, &model);
        same_request(&back, &sent)?;
    }

    #[test]
    fn grpc_typed_requests(model in model(), sent in request(Carries::Typed)) {
        let body = grpc::encode_frame(&grpc::request_to_proto(&model, &sent, Contents::Typed).unwrap());
        let (back_model, back) = grpc::request_from_proto(grpc::decode_frame(&body).unwrap()).unwrap();
        prop_assert_eq!(&back_model, &model);
        same_request(&back, &sent)?;
    }

    #[test]
    fn grpc_raw_responses(sent in response(Carries::AnyBits)) {
        let body = grpc::encode_frame(&grpc::response_to_proto(&sent, Contents::Raw).unwrap());
        same_response(&grpc::response_from_proto(grpc::decode_frame(&body).unwrap()).unwrap(), &sent)?;
    }

    #[test]
    fn grpc_typed_responses(sent in response(Carries::Typed)) {
        let body = grpc::encode_frame(&grpc::response_to_proto(&sent, Contents::Typed).unwrap());
        same_response(&grpc::response_from_proto(grpc::decode_frame(&body).unwrap()).unwrap(), &sent)?;
    }

    #[test]
    fn peeking_finds_what_decoding_finds(model in model(), sent in request(Carries::AnyBits), cut in any::<prop::sample::Index>()) {
        let body = grpc::encode_frame(&grpc::request_to_proto(&model, &sent, Contents::Raw).unwrap());
        let version = model.version.as_deref().unwrap_or_default();
        let found = Peek::Found { name: &model.name, version };
        prop_assert_eq!(grpc::peek_model(&body), found);
        let peek = grpc::peek_model(&body[..cut.index(body.len())]);
        // A prefix may be too short, but it is never wrong: only a name in front counts as one.
        prop_assert!(peek == found || peek == Peek::NeedMore, "{peek:?}");
    }

    #[test]
    fn v1_columns(sent in tensor("x".to_owned(), Carries::Json)) {
        // V1 has neither datatypes nor parameters on the wire, and no shape within an empty dimension.
        let mut sent = sent;
        sent.parameters = Parameters::default();
        prop_assume!(!sent.is_empty());
        let signature = ModelSignature {
            model: "m".to_owned(),
            inputs: vec![TensorSpec::new("x", sent.datatype(), vec![-1; sent.shape().rank()])],
            ..ModelSignature::default()
        };
        let sent = [sent];
        let body = v1::encode_request(&sent, v1::Form::Columns).unwrap();
        let back = v1::decode_request(&signature, &body).unwrap();
        prop_assert_eq!(bits(&back.inputs), bits(&sent));
        if sent[0].shape().rank() > 0 {
            let body = v1::encode_request(&sent, v1::Form::Rows).unwrap();
            let back = v1::decode_request(&signature, &body).unwrap();
            prop_assert_eq!(bits(&back.inputs), bits(&sent));
        }
    }

    #[test]
    fn status_messages(text in ".{0,40}") {
        let encoded = grpc::encode_status_message(&text);
        prop_assert!(encoded.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        prop_assert_eq!(grpc::decode_status_message(encoded.as_bytes()), text.clone());
    }

    #[test]
    fn frames_survive_any_chunks(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..6), cuts in prop::collection::vec(1_usize..40, 1..8)) {
        let mut stream = Vec::new();
        for message in &messages {
            stream.push(0);
            stream.extend_from_slice(&(message.len() as u32).to_be_bytes());
            stream.extend_from_slice(message);
        }
        let mut parser = grpc::FrameParser::new(50);
        let (mut rest, mut read) = (Bytes::from(stream), Vec::new());
        for size in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            parser.push(rest.split_to(rest.len().min(*size)));
            while let Some(message) = parser.next_message().unwrap() {
                read.push(message.to_vec());
            }
        }
        prop_assert!(parser.is_idle());
        prop_assert_eq!(read, messages);
    }
}
