//! A bearer token.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| plumbline_gateway::fuzzing::token(content));
