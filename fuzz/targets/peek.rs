//! The model of a gRPC message, out of its first bytes: however few have come, they never say anything else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plumbline_inference_protocol::grpc::{Peek, peek_model};

fuzz_target!(|body: &[u8]| {
    let whole = peek_model(body);
    for end in 0..body.len() {
        let part = peek_model(&body[..end]);
        assert!(
            part == Peek::NeedMore || part == whole,
            "{end}: {part:?}, then {whole:?}"
        );
    }
});
