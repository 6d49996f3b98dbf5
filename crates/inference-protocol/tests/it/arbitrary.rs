//! No bytes from outside make a decoder panic, and every refusal is the client's fault.

use bytes::Bytes;
use http::Method;
use plumbline_inference_protocol::{
    Datatype, ModelSignature, ProtocolError, Route, TensorSpec,
    grpc::{self, Contents, proto},
    rest::{self, Encoding},
    v1,
};
use proptest::{collection::vec, prelude::*, sample::Index};

use crate::generate::{Carries, model, request, response};

fn signatures() -> Vec<ModelSignature> {
    let signature = |inputs: &[(&str, Datatype, &[i64])]| ModelSignature {
        model: "m".to_owned(),
        inputs: inputs
            .iter()
            .map(|&(name, datatype, shape)| TensorSpec::new(name, datatype, shape))
            .collect(),
        ..ModelSignature::default()
    };
    vec![
        signature(&[]),
        signature(&[("a", Datatype::Fp32, &[-1, 2])]),
        signature(&[("a", Datatype::Bytes, &[-1])]),
        signature(&[
            ("a", Datatype::Fp64, &[-1, -1, -1]),
            ("b", Datatype::Bytes, &[-1, 1]),
            ("c", Datatype::Bool, &[]),
        ]),
    ]
}

/// Everything that reads what was received.
fn read_all(body: &Bytes, header: Option<&[u8]>) {
    fn refused<T>(read: Result<T, ProtocolError>) {
        if let Err(error) = read {
            assert!(error.http_status().is_client_error(), "{error}");
            let told = error.to_string();
            assert!(!told.contains(char::is_control), "one line: {told:?}");
            assert!(serde_json::from_slice::<serde_json::Value>(&error.to_json()).is_ok());
        }
    }
    refused(rest::decode_request(body, header));
    refused(rest::decode_response(body, header));
    refused(v1::observe_request(body));
    refused(v1::observe_response(body));
    for signature in signatures() {
        refused(rest::decode_request_for(&signature, body, header));
        refused(v1::decode_request(&signature, body));
    }
    refused(grpc::decode_frame::<proto::ModelInferRequest>(body).and_then(grpc::request_from_proto));
    refused(grpc::decode_frame::<proto::ModelInferResponse>(body).and_then(grpc::response_from_proto));
    let mut frames = grpc::FrameParser::new(1 << 20);
    frames.push(body.clone());
    while let Ok(Some(_)) = frames.next_message() {}
    grpc::peek_model(body);
    grpc::parse_timeout(body);
    grpc::decode_status_message(body);
    refused(Route::parse(&Method::POST, &String::from_utf8_lossy(body)));
}

/// Changes, drops or doubles a few bytes.
fn mutate(body: &[u8], changes: &[(Index, u8, u8)]) -> Bytes {
    let mut body = body.to_vec();
    for (at, kind, byte) in changes {
        if body.is_empty() {
            break;
        }
        let at = at.index(body.len());
        match kind % 4 {
            0 => body[at] = *byte,
            1 => drop(body.remove(at)),
            2 => body.insert(at, *byte),
            _ => body.truncate(at),
        }
    }
    body.into()
}

fn changes() -> impl Strategy<Value = Vec<(Index, u8, u8)>> {
    let structural = prop_oneof![
        any::<u8>(),
        proptest::sample::select(b"[]{}\",:0-9eE.\\un\x00\x01 tf".to_vec())
    ];
    vec((any::<Index>(), any::<u8>(), structural), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn bytes(body in vec(any::<u8>(), 0..200), header in proptest::option::of(vec(any::<u8>(), 0..4))) {
        read_all(&body.into(), header.as_deref());
    }

    #[test]
    fn text_of_json_tokens(tokens in vec(proptest::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"inputs\"", "\"instances\"", "\"predictions\"", "\"outputs\"", "\"name\"", "\"data\"",
        "\"shape\"", "\"datatype\"", "\"FP32\"", "\"BYTES\"", "\"a\"", "\"b64\"", "\"\\u00e9\"", "1", "-2.5e3", "null", "true", " ",
    ]), 0..40)) {
        read_all(&tokens.concat().into(), None);
        read_all(&format!("{{\"instances\":{}", tokens.concat()).into(), None);
        read_all(&format!("{{\"inputs\":[{{{}", tokens.concat()).into(), None);
        read_all(&format!("{{\"predictions\":[{}", tokens.concat()).into(), None);
    }

    #[test]
    fn mutated_rest_requests(sent in request(Carries::Json), changes in changes(), binary in any::<bool>()) {
        let encoding = if binary { Encoding::Binary } else { Encoding::Json };
        let body = rest::encode_request(&sent, encoding).unwrap();
        let header = body.json_len.map(|len| len.to_string());
        read_all(&mutate(&body.body, &changes), header.as_deref().map(str::as_bytes));
    }

    #[test]
    fn mutated_v1_requests(sent in request(Carries::Json), changes in changes(), rows in any::<bool>()) {
        let form = if rows { v1::Form::Rows } else { v1::Form::Columns };
        // Inputs of different rows have no form by rows.
        let Ok(body) = v1::encode_request(&sent.inputs, form) else { return Ok(()) };
        read_all(&mutate(&body, &changes), None);
    }

    #[test]
    fn mutated_grpc_messages(model in model(), sent in request(Carries::Typed), answer in response(Carries::AnyBits), changes in changes()) {
        for contents in [Contents::Raw, Contents::Typed] {
            let body = grpc::encode_frame(&grpc::request_to_proto(&model, &sent, contents).unwrap());
            read_all(&mutate(&body, &changes), None);
        }
        let body = grpc::encode_frame(&grpc::response_to_proto(&answer, Contents::Raw).unwrap());
        read_all(&mutate(&body, &changes), None);
    }
}

#[test]
fn deep_nesting_ends_at_the_limit() {
    for open in ["[", "{\"a\":", "{\"instances\":[", "{\"inputs\":[{\"data\":["] {
        for start in [
            "",
            "{\"instances\":",
            "{\"inputs\":",
            "{\"predictions\":",
            "{\"inputs\":[{\"shape\":[1],\"datatype\":\"FP32\",\"name\":\"a\",\"data\":",
        ] {
            read_all(&format!("{start}{}", open.repeat(100_000)).into(), None);
        }
    }
}
