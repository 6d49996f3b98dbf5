//! The file of API keys.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| plumbline_gateway::fuzzing::api_keys(content));
