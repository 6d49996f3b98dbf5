//! gRPC bodies: framing, both inference messages, and the peek at the model's name.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use plumbline_inference_protocol::grpc::{self, proto};

fuzz_target!(|input: &[u8]| {
    let mut body = vec![0];
    body.extend_from_slice(&(input.len() as u32).to_be_bytes());
    body.extend_from_slice(input);
    for body in [Bytes::copy_from_slice(input), Bytes::from(body)] {
        let _ = grpc::decode_frame::<proto::ModelInferRequest>(&body).and_then(grpc::request_from_proto);
        let _ = grpc::decode_frame::<proto::ModelInferResponse>(&body).and_then(grpc::response_from_proto);
        let _ = grpc::peek_model(&body);
        let mut frames = grpc::FrameParser::new(1 << 20);
        for chunk in body.chunks(7) {
            frames.push(Bytes::copy_from_slice(chunk));
            while let Ok(Some(_)) = frames.next_message() {}
        }
    }
    let _ = grpc::parse_timeout(input);
    let _ = grpc::decode_status_message(input);
});
