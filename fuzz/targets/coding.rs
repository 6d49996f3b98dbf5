//! Compressed bodies, and the headers that tell about them.
#![no_main]

use http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use plumbline_inference_protocol::coding::{Accepted, Coding};

const LIMIT: usize = 1 << 16;

fuzz_target!(|input: &[u8]| {
    for coding in Coding::ALL {
        if let Ok(plain) = coding.decompress(input, LIMIT) {
            assert!(plain.len() <= LIMIT);
            let again = coding.compress(&plain);
            assert_eq!(coding.decompress(&again, plain.len()), Ok(plain));
        }
        let packed = coding.compress(input);
        assert_eq!(
            coding.decompress(&packed, input.len()).expect("what we wrote"),
            input
        );
    }
    if let Ok(header) = HeaderValue::from_bytes(input) {
        let _ = Accepted::parse([&header]);
        let _ = Coding::of_content([&header]);
    }
});
