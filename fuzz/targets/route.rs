//! Paths.
#![no_main]

use http::Method;
use libfuzzer_sys::fuzz_target;
use plumbline_inference_protocol::Route;

fuzz_target!(|path: &str| {
    for method in [Method::GET, Method::POST, Method::DELETE] {
        let _ = Route::parse(&method, path);
    }
});
