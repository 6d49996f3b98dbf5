//! Bytes as what a caller does with a monitor.

use plumbline_drift::profile::Profile;
use plumbline_drift::{Monitor, Settings};

/// Eight bytes as a number: any bits, or a small whole one.
pub fn number(bytes: &[u8]) -> f64 {
    let bytes: [u8; 8] = bytes.try_into().expect("eight bytes");
    if bytes[7] < 128 {
        f64::from(i16::from_le_bytes([bytes[0], bytes[1]])) / 8.0
    } else {
        f64::from_bits(u64::from_le_bytes(bytes))
    }
}

/// Nine bytes an operation: what and on which subject, then a value.
///
/// The report is finite JSON and its counts are those of the rows, whatever came.
pub fn run(profile: &Profile, operations: &[u8]) {
    let settings = Settings {
        window_rows: 40,
        min_rows: 20,
        ..Settings::default()
    };
    let mut monitor = Monitor::new(profile, settings, 0).expect("a valid profile");
    // One more than there are: an index that does not exist is ignored.
    let subjects = monitor.subjects().len() + 1;
    let mut observed = vec![0_u64; subjects];
    for operation in operations.chunks_exact(9) {
        let (what, value) = (usize::from(operation[0]), &operation[1..]);
        let subject = what / 8 % subjects;
        // Values come in runs, so that few bytes fill a window.
        let times = if value[6] < 64 { 30 } else { 1 };
        match what % 8 {
            0..3 => (0..times).for_each(|_| monitor.observe_number(subject, number(value))),
            3 => (0..times).for_each(|_| monitor.observe_integer(subject, number(value) as i64)),
            4 => (0..times).for_each(|_| monitor.observe_text(subject, value)),
            5 => (0..times).for_each(|_| monitor.observe_boolean(subject, value[0] < 128)),
            6 => (0..times).for_each(|_| monitor.observe_missing(subject)),
            _ => {
                for _ in 0..times {
                    let _full = monitor.end_row();
                }
                check(&monitor.close_window(i64::from(value[0])));
                continue;
            }
        }
        observed[subject] += times;
    }
    check(&monitor.report(1));
    for (subject, observed) in observed.iter().enumerate().take(subjects - 1) {
        assert_eq!(monitor.counters(subject).observed, *observed);
        assert_eq!(monitor.cumulative(subject).iter().sum::<u64>(), *observed);
    }
    assert_eq!(monitor.cumulative(subjects - 1), &[] as &[u64]);
}

/// Every number is finite: JSON has no other.
fn check(report: &plumbline_drift::DriftReport) {
    for subject in &report.subjects {
        let Some(s) = &subject.statistics else { continue };
        let numbers = [
            s.psi,
            s.psi_critical,
            s.effect,
            s.effect_error,
            s.z,
            s.chi_square,
            s.p_value,
            s.js_distance,
        ];
        assert!(numbers.iter().all(|x| x.is_finite()), "{}: {s:?}", subject.name);
        assert!(subject.evidence.log10.is_finite() && (0.0..=1.0).contains(&s.p_value));
    }
}
