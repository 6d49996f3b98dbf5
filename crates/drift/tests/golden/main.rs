//! Agreement with other implementations: the values of scipy, numpy and river that the JSON files of this folder hold.
//!
//! `GOLDEN_DIR` points the tests at another folder of the same layout. Samples are not stored but drawn again from their
//! seeds, and proved equal by their `check` blocks. Every comparison is counted, and the numbers are asserted, so that nothing
//! is passed over silently.

mod drift;
mod generator;
mod performance;
mod special;
mod stream;

use serde_json::Value;

/// Relative agreement asked for.
const RELATIVE: f64 = 1e-9;
/// Absolute agreement near 0.
const ABSOLUTE: f64 = 1e-12;

/// Reads a golden file.
fn golden(file: &str) -> Value {
    let dir = std::env::var_os("GOLDEN_DIR").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"),
        Into::into,
    );
    let path = dir.join(file);
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Compares values and counts the comparisons; differences are told all at once.
#[derive(Default)]
struct Comparison {
    made: usize,
    undefined: usize,
    differences: Vec<String>,
}

impl Comparison {
    /// `expected` null means that it was not computed there, or is undefined; then ours is not compared, but counted.
    fn number(&mut self, what: &str, expected: &Value, ours: Option<f64>) {
        self.within(what, expected, ours, RELATIVE, ABSOLUTE);
    }

    /// For D, counts and shares, which have to agree to rounding.
    fn exact(&mut self, what: &str, expected: &Value, ours: Option<f64>) {
        self.within(what, expected, ours, ABSOLUTE, ABSOLUTE);
    }

    fn within(&mut self, what: &str, expected: &Value, ours: Option<f64>, relative: f64, absolute: f64) {
        let Some(expected) = number(expected) else {
            self.undefined += 1;
            return;
        };
        self.made += 1;
        let agrees = ours
            .is_some_and(|x| x == expected || (x - expected).abs() <= absolute + relative * expected.abs());
        if !agrees {
            self.differences
                .push(format!("{what}: {ours:?}, expected {expected}"));
        }
    }

    /// Both or neither.
    fn undefined_too(&mut self, what: &str, expected: &Value, ours: bool) {
        self.undefined += 1;
        if ours || !expected.is_null() {
            self.differences
                .push(format!("{what}: defined {ours}, expected {expected}"));
        }
    }

    fn equal(&mut self, what: &str, expected: &Value, ours: &Value) {
        self.made += 1;
        if expected != ours {
            self.differences
                .push(format!("{what}: {ours}, expected {expected}"));
        }
    }

    /// Panics with all differences; returns the comparisons made and the values left undefined by the other side.
    fn finish(self) -> (usize, usize) {
        assert!(
            self.differences.is_empty(),
            "{} differences\n{}",
            self.differences.len(),
            self.differences.join("\n")
        );
        (self.made, self.undefined)
    }
}

/// A number, or the text of an infinity.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(n) => n.as_f64(),
        Value::String(s) if s == "inf" => Some(f64::INFINITY),
        Value::String(s) if s == "-inf" => Some(f64::NEG_INFINITY),
        Value::Null => None,
        other => panic!("not a number: {other}"),
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(|v| number(v).expect("a number"))
        .collect()
}

fn counts(value: &Value) -> Vec<u64> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(|v| v.as_u64().expect("a count"))
        .collect()
}

/// Compares a sample with its `check` block, bit for bit.
fn check_sample(what: &str, sample: &[f64], check: &Value) {
    let sum = sample.iter().fold(0.0, |sum, x| sum + x);
    let first: Vec<f64> = sample.iter().take(5).copied().collect();
    assert_eq!(first, numbers(&check["first"]), "{what}: first values");
    assert_eq!(
        sample.last().copied(),
        number(&check["last"]),
        "{what}: last value"
    );
    assert_eq!(Some(sum), number(&check["sum"]), "{what}: sum");
}
