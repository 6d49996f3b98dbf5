//! V1 requests, with and without a signature, and V1 responses.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use plumbline_inference_protocol::{Datatype, ModelSignature, TensorSpec, v1};

fuzz_target!(|input: &[u8]| {
    let body = Bytes::copy_from_slice(input);
    let _ = v1::observe_request(&body);
    let _ = v1::observe_response(&body);
    for inputs in [
        vec![TensorSpec::new("a", Datatype::Bytes, [-1])],
        vec![TensorSpec::new("a", Datatype::Fp32, [-1, -1, 2])],
        vec![
            TensorSpec::new("a", Datatype::Fp64, [-1, 1]),
            TensorSpec::new("b", Datatype::Bytes, [-1, 1]),
        ],
    ] {
        let signature = ModelSignature {
            model: "m".to_owned(),
            inputs,
            ..ModelSignature::default()
        };
        let _ = v1::decode_request(&signature, &body);
    }
});
