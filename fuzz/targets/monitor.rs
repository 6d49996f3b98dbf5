//! A profile built from arbitrary values, and its monitor under arbitrary rows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plumbline_drift::SubjectBuilder;
use plumbline_drift::profile::{Datatype, Kind, Profile};

#[path = "../operations.rs"]
mod operations;

fuzz_target!(|input: &[u8]| {
    let Some((rows, input)) = input.split_first() else {
        return;
    };
    let (reference, operations) = input.split_at(input.len().min(8 * usize::from(*rows)));
    let builder = |name, datatype, kind| SubjectBuilder::new(name, name, 0, datatype, kind);
    let mut number = builder("number", Datatype::Fp64, Kind::Numeric);
    let mut rounded = builder("rounded", Datatype::Fp32, Kind::Numeric);
    let mut text = builder("text", Datatype::Bytes, Kind::Categorical);
    let mut code = builder("code", Datatype::Int64, Kind::Categorical);
    let mut flag = builder("flag", Datatype::Bool, Kind::Boolean);
    for bytes in reference.chunks_exact(8) {
        let x = operations::number(bytes);
        number.push_number(x);
        rounded.push_number(x);
        text.push_text(&String::from_utf8_lossy(bytes));
        code.push_number(f64::from(bytes[0]));
        flag.push_boolean(bytes[1] < 100);
    }
    let rows = number.rows();
    let features = [number, rounded, text, code, flag].map(SubjectBuilder::finish);
    let profile = Profile::new("m", "1", rows, features.into(), Vec::new());
    profile.validate().expect("what the builder makes is valid");
    operations::run(&profile, operations);
});
