//! V2 REST responses: the first two bytes choose the header, the rest is the body.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use plumbline_inference_protocol::rest;

fuzz_target!(|input: &[u8]| {
    let Some((header, body)) = input.split_first_chunk::<2>() else {
        return;
    };
    let (len, body) = (
        u16::from_le_bytes(*header).to_string(),
        Bytes::copy_from_slice(body),
    );
    let _ = rest::decode_response(&body, None);
    let _ = rest::decode_response(&body, Some(len.as_bytes()));
});
