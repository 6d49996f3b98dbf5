use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::{
    proto::{InferTensorContents, ModelInferRequest, model_infer_request::InferInputTensor},
    *,
};
use crate::{ProtocolError, TensorData, coding::Coding};

fn input(
    name: &str,
    datatype: &str,
    shape: &[i64],
    contents: Option<InferTensorContents>,
) -> InferInputTensor {
    InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        contents,
        ..InferInputTensor::default()
    }
}

fn request(inputs: Vec<InferInputTensor>, raw: &[&[u8]]) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "simple".to_owned(),
        inputs,
        raw_input_contents: raw.iter().map(|raw| Bytes::copy_from_slice(raw)).collect(),
        ..ModelInferRequest::default()
    }
}

fn ints(values: &[i32]) -> InferTensorContents {
    InferTensorContents {
        int_contents: values.to_vec(),
        ..InferTensorContents::default()
    }
}

fn refused(message: ModelInferRequest) -> String {
    request_from_proto(message).unwrap_err().to_string()
}

#[test]
fn raw_contents_are_slices_of_the_body() {
    let message = request(vec![input("x", "INT64", &[1, 2], None)], &[&[1; 16]]);
    let body = encode_frame(&message);
    let decoded: ModelInferRequest = decode_frame(&body).unwrap();
    let (model, request) = request_from_proto(decoded).unwrap();
    assert_eq!(
        (model.name.as_str(), model.version, &request.id),
        ("simple", None, &None)
    );
    let raw = request.inputs[0].data().as_le_bytes().unwrap();
    assert!(
        body.as_ptr_range().contains(&raw.as_ptr()),
        "a slice of the body, not a copy"
    );
}

#[test]
fn typed_contents_are_narrowed_with_care() {
    let (_, request8) = request_from_proto(request(
        vec![input("x", "INT8", &[2], Some(ints(&[-128, 127])))],
        &[],
    ))
    .unwrap();
    assert_eq!(
        request8.inputs[0].data(),
        &TensorData::from_vec(vec![-128_i8, 127])
    );
    assert_eq!(
        refused(request(
            vec![input("x", "INT8", &[2], Some(ints(&[1, 128])))],
            &[]
        )),
        "model `simple`: input `x`: value 1: expected an integer from -128 to 127, got `128`"
    );
    // Values in the wrong list are not there.
    assert_eq!(
        refused(request(vec![input("x", "INT64", &[2], Some(ints(&[1, 2])))], &[])),
        "model `simple`: input `x`: expected 2 values for shape [2], got 0"
    );
    assert!(
        refused(request(vec![input("x", "FP16", &[1], Some(ints(&[1])))], &[])).contains("no typed contents")
    );
}

#[test]
fn raw_and_typed_together_are_refused_in_tritons_words() {
    let both = request(vec![input("INPUT0", "INT32", &[1], Some(ints(&[1])))], &[&[0; 4]]);
    assert_eq!(
        refused(both),
        "contents field must not be specified when using raw_input_contents for 'INPUT0' for model 'simple'"
    );
}

#[test]
fn raw_contents_are_one_per_input() {
    let message = request(
        vec![input("x", "INT32", &[1], None), input("y", "INT32", &[1], None)],
        &[&[0; 4]],
    );
    assert_eq!(
        refused(message),
        "model `simple`: expected one raw_input_contents entry for each of the 2 tensors, got 1"
    );
    assert_eq!(
        refused(request(vec![input("x", "INT32", &[2], None)], &[&[0; 4]])),
        "model `simple`: input `x`: expected 8 bytes for datatype INT32 and shape [2], got 4"
    );
    assert_eq!(
        refused(request(vec![input("x", "INT32", &[2], None)], &[])),
        "model `simple`: input `x`: expected values for shape [2], got none"
    );
    assert!(request_from_proto(request(vec![input("x", "INT32", &[0], None)], &[])).is_ok());
}

#[test]
fn shapes_and_datatypes_are_checked() {
    assert!(
        refused(request(vec![input("x", "INT32", &[-1], None)], &[&[]])).contains("dimension -1 is negative")
    );
    assert!(refused(request(vec![input("x", "INT32", &[i64::MAX, 8], None)], &[&[]])).contains("overflows"));
    assert!(refused(request(vec![input("x", "int32", &[1], None)], &[&[0; 4]])).contains("got `int32`"));
}

#[test]
fn a_body_is_exactly_one_message() {
    let body = encode_frame(&request(vec![], &[]));
    assert!(decode_frame::<ModelInferRequest>(&body).is_ok());
    for (bad, code) in [
        (Bytes::new(), "malformed_grpc_frame"),
        (body.slice(..4), "malformed_grpc_frame"),
        (body.slice(..body.len() - 1), "malformed_grpc_frame"),
        ([&body[..], &[0]].concat().into(), "malformed_grpc_frame"),
        ([&[2], &body[1..]].concat().into(), "malformed_grpc_frame"),
        ([&[1], &body[1..]].concat().into(), "grpc_compression"),
        (Bytes::from_static(&[0, 0, 0, 0, 1, 0xff]), "malformed_protobuf"),
    ] {
        assert_eq!(
            decode_frame::<ModelInferRequest>(&bad).unwrap_err().code(),
            code,
            "{bad:?}"
        );
    }
}

#[test]
fn a_stream_is_cut_however_its_chunks_fall() {
    let messages: Vec<Bytes> = (0..4_usize).map(|n| Bytes::from(vec![n as u8; n * 7])).collect();
    let mut stream = BytesMut::new();
    for message in &messages {
        stream.put_u8(0);
        stream.put_u32(message.len() as u32);
        stream.put_slice(message);
    }
    let stream = stream.freeze();
    for size in 1..=stream.len() {
        let mut parser = FrameParser::new(64);
        let mut cut = Vec::new();
        for at in (0..stream.len()).step_by(size) {
            parser.push(stream.slice(at..stream.len().min(at + size)));
            while let Some(message) = parser.next_message().unwrap() {
                cut.push(message);
            }
        }
        assert_eq!(cut, messages, "chunks of {size}");
        assert!(parser.is_idle());
    }
    let mut parser = FrameParser::new(64);
    parser.push(stream.slice(..7));
    assert!(parser.next_message().unwrap().is_some());
    assert!(parser.next_message().unwrap().is_none());
    assert!(!parser.is_idle());
}

#[test]
fn long_messages_are_refused_at_their_prefix() {
    for chunk in [&[0, 0, 0, 0, 65][..], &[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]] {
        let mut parser = FrameParser::new(64);
        parser.push(Bytes::copy_from_slice(chunk));
        assert_eq!(
            parser.next_message(),
            Err(ProtocolError::BodyTooLarge { limit: 64 })
        );
    }
}

#[test]
fn compressed_messages_are_read_alone_and_in_a_stream() {
    let plain = named("churn", "1");
    for coding in Coding::ALL {
        let header = message_coding(Some(coding.as_str().as_bytes())).unwrap();
        assert_eq!(header, Some(coding));
        let packed = compress_frame(&plain, coding);
        assert!(is_compressed(&packed) && packed.len() < plain.len());
        assert_eq!(
            decode_frame::<ModelInferRequest>(&packed),
            Err(ProtocolError::GrpcCompression)
        );
        let expanded = expand_frame(packed.clone(), header, plain.len()).unwrap();
        assert_eq!(expanded, plain);
        assert_eq!(
            expand_frame(expanded, header, 0).unwrap(),
            plain,
            "a plain one stays"
        );
        assert_eq!(
            expand_frame(packed.clone(), None, 1 << 10),
            Err(ProtocolError::GrpcCompression)
        );
        assert_eq!(
            expand_frame(packed.clone(), header, 64),
            Err(ProtocolError::BodyTooLarge { limit: 64 })
        );
        for cut in [
            packed.slice(..packed.len() - 1),
            [&packed[..], b"x"].concat().into(),
        ] {
            assert_eq!(
                expand_frame(cut, header, 1 << 10).unwrap_err().code(),
                "malformed_grpc_frame"
            );
        }
        let mut parser = FrameParser::with_coding(1 << 10, header);
        parser.push(packed.slice(..9));
        assert_eq!(parser.next_message(), Ok(None));
        parser.push([&packed[9..], &plain[..]].concat().into());
        for _ in 0..2 {
            assert_eq!(parser.next_message().unwrap().unwrap(), plain[FRAME_PREFIX..]);
        }
        assert!(parser.is_idle());
    }
    assert_eq!(message_coding(None), Ok(None));
    assert_eq!(
        message_coding(Some(b"snappy")),
        Err(ProtocolError::GrpcCompression)
    );
}

fn named(name: &str, version: &str) -> Bytes {
    encode_frame(&ModelInferRequest {
        model_name: name.to_owned(),
        model_version: version.to_owned(),
        id: "7".to_owned(),
        inputs: vec![input("x", "INT32", &[1], None)],
        raw_input_contents: vec![Bytes::from_static(&[0; 300])],
        ..ModelInferRequest::default()
    })
}

#[test]
fn the_model_is_known_from_the_first_bytes_and_never_wrong() {
    for (name, version) in [("churn", "3"), ("churn", ""), ("é", "12")] {
        let body = named(name, version);
        let mut known_at = None;
        for len in 0..=body.len() {
            match peek_model(&body[..len]) {
                Peek::NeedMore => assert!(known_at.is_none(), "known at {known_at:?}, not at {len}"),
                Peek::Found {
                    name: found,
                    version: found_version,
                } => {
                    assert_eq!((found, found_version), (name, version));
                    known_at.get_or_insert(len);
                }
                Peek::Unreadable => panic!("unreadable at {len}"),
            }
        }
        // Prefix, name, and version or the next field's tag.
        let fields = 2 + name.len() + if version.is_empty() { 1 } else { 2 + version.len() };
        assert_eq!(known_at, Some(5 + fields));
    }
}

#[test]
fn peeking_steps_over_fields_that_come_first() {
    let full = named("churn", "3");
    let id = [0x1a, 1, b'7']; // field 3
    let fixed = [
        (9 << 3) | 1,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        (10 << 3) | 5,
        0,
        0,
        0,
        0,
        11 << 3,
        0x80,
        1,
    ];
    let message = [&id[..], &fixed, &full[5..]].concat();
    let mut body = vec![0];
    body.extend_from_slice(&(message.len() as u32).to_be_bytes());
    body.extend_from_slice(&message);
    assert_eq!(
        peek_model(&body),
        Peek::Found {
            name: "churn",
            version: "3"
        }
    );
}

#[test]
fn messages_that_cannot_be_peeked_into() {
    assert_eq!(peek_model(&[]), Peek::NeedMore);
    assert_eq!(peek_model(&[1]), Peek::Unreadable);
    assert_eq!(peek_model(&[1, 0, 0, 0, 9, 0]), Peek::Unreadable);
    assert_eq!(
        peek_model(&[0, 0, 0, 0, 0]),
        Peek::Found {
            name: "",
            version: ""
        }
    );
    assert_eq!(
        peek_model(&[0, 0, 0, 0, 2, 0x0a, 9]),
        Peek::Unreadable,
        "a name longer than its message"
    );
    assert_eq!(
        peek_model(&[0, 0, 0, 0, 4, 0x0a, 2, 0xff, 0xff]),
        Peek::Unreadable,
        "a name that is no text"
    );
    assert_eq!(peek_model(&[0, 0, 0, 0, 9, 0x0b]), Peek::Unreadable, "a group");
    assert_eq!(
        peek_model(&[
            0, 0, 0, 1, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80
        ]),
        Peek::Unreadable
    );
}

#[test]
fn content_types_of_grpc() {
    for yes in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc;charset=utf-8",
    ] {
        assert!(is_grpc(yes.as_bytes()), "{yes}");
    }
    for no in [
        "application/json",
        "application/grpc-web",
        "application/grpc-web+proto",
        "",
    ] {
        assert!(!is_grpc(no.as_bytes()), "{no}");
    }
}

#[test]
fn kserve_and_triton_read_each_others_repository_messages() {
    // KServe's clients put the model into field 1.
    let kserve = [0x0a, 1, b'm'];
    let load = proto::RepositoryModelLoadRequest::decode(&kserve[..]).unwrap();
    assert_eq!(
        (load.repository_name.as_str(), load.model_name.as_str()),
        ("m", "")
    );
}
