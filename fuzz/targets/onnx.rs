//! ONNX files: read, edited, and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| plumbline_model_server::fuzzing::onnx(file));
