//! V2 REST requests: the first two bytes choose the header, the rest is the body.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use plumbline_inference_protocol::{Datatype, ModelSignature, TensorSpec, rest};

fuzz_target!(|input: &[u8]| {
    let Some((header, body)) = input.split_first_chunk::<2>() else {
        return;
    };
    let (len, body) = (
        u16::from_le_bytes(*header).to_string(),
        Bytes::copy_from_slice(body),
    );
    let signature = ModelSignature {
        model: "m".to_owned(),
        inputs: vec![TensorSpec::new("x", Datatype::Fp32, [-1, 2])],
        ..ModelSignature::default()
    };
    for header in [None, Some(len.as_bytes()), Some(&b"0"[..])] {
        let _ = rest::observe_request(&body, header);
        let _ = rest::decode_request_for(&signature, &body, header);
        if let Ok(request) = rest::decode_request(&body, header) {
            // Whatever was accepted can be written and means the same.
            let sent =
                rest::encode_request(&request, rest::Encoding::Binary).expect("binary has every value");
            let len = sent.json_len.map(|len| len.to_string());
            let back = rest::decode_request(&sent.body, len.as_deref().map(str::as_bytes));
            assert_eq!(back.map(|back| back.inputs.len()), Ok(request.inputs.len()));
        }
    }
});
