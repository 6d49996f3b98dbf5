//! A profile as it may lie beside a model: read, written, merged with itself, and watched by.
//!
//! The input is JSON up to the first byte 0xFF, which no UTF-8 has, then values for the monitor.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plumbline_drift::Profile;

#[path = "../operations.rs"]
mod operations;

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |byte| *byte == 0xFF);
    let json = parts.next().unwrap_or_default();
    let Ok(profile) = Profile::from_json(json) else {
        return;
    };
    let again = Profile::from_json(profile.to_json().as_bytes()).expect("what was written is read");
    assert_eq!(again, profile);
    if let Ok(twice) = profile.merge(&profile) {
        assert_eq!(twice.data.rows, 2 * profile.data.rows);
    }
    operations::run(&profile, parts.next().unwrap_or_default());
});
