//! Host names of requests and of routes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| plumbline_gateway::fuzzing::host(text));
