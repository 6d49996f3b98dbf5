//! `model.toml`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| plumbline_model_server::fuzzing::model_toml(text));
