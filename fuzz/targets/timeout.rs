//! The time that a client gives, over gRPC and REST. What is forwarded is never more.
#![no_main]

use http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use plumbline_inference_protocol::grpc::{format_timeout, parse_timeout};
use plumbline_service::parse_request_timeout;

fuzz_target!(|value: &[u8]| {
    let given = HeaderValue::from_bytes(value).ok();
    let times = [
        parse_timeout(value),
        given.as_ref().and_then(parse_request_timeout),
    ];
    for time in times.into_iter().flatten() {
        let forwarded = parse_timeout(format_timeout(time).as_bytes()).expect("what we write can be read");
        assert!(forwarded <= time);
    }
});
