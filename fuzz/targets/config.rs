//! The gateway's configuration file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| plumbline_gateway::fuzzing::config(text));
