//! Trace context: a context that is taken over is passed on as it was; request ids are visible ASCII.
#![no_main]

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use plumbline_service::{REQUEST_ID, RequestId, TRACEPARENT, TraceContext};

fuzz_target!(|value: &[u8]| {
    let Ok(value) = HeaderValue::from_bytes(value) else {
        return;
    };
    let mut headers = HeaderMap::from_iter([(TRACEPARENT, value.clone()), (REQUEST_ID, value)]);
    if let Some(context) = TraceContext::of(&headers) {
        assert!(context.trace_id != 0 && context.span_id != 0);
        headers.insert(TRACEPARENT, context.header_value());
        assert_eq!(TraceContext::of(&headers), Some(context));
        assert_eq!(context.child().trace_id, context.trace_id);
    }
    assert!(
        RequestId::ensure(&mut headers)
            .as_str()
            .bytes()
            .all(|byte| byte.is_ascii_graphic())
    );
});
