//! An issuer's key set.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| plumbline_gateway::fuzzing::signing_keys(content));
