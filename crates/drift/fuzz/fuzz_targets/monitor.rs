//! A profile built from arbitrary values, and its monitor under arbitrary rows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plumbline_drift::SubjectBuilder;
use plumbline_drift::profile::{
    DataInfo, Datatype, FORMAT, FORMAT_VERSION, Generator, Kind, ModelInfo, Profile,
};

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
    let profile = Profile {
        format: FORMAT.to_owned(),
        format_version: FORMAT_VERSION,
        created_at: "2026-01-31T12:00:00Z".to_owned(),
        generator: Generator {
            name: "fuzz".to_owned(),
            version: "1".to_owned(),
        },
        model: ModelInfo {
            name: "m".to_owned(),
            version: "1".to_owned(),
            digest: None,
        },
        data: DataInfo {
            rows: number.rows(),
            digest: None,
        },
        features: [number, rounded, text, code, flag]
            .map(SubjectBuilder::finish)
            .into(),
        outputs: Vec::new(),
        target: None,
        training: None,
        importances: None,
        calibration: None,
        seasonality: None,
        segments: None,
    };
    profile.validate().expect("what the builder makes is valid");
    operations::run(&profile, operations);
});
