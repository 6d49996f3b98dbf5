use super::Segments;
use crate::SubjectBuilder;
use crate::monitor::{RestoreError, Settings};
use crate::profile::{DataInfo, Datatype, Kind, Profile, Segment, Segmentation, Subject};

/// A feature with these values, which are texts, numbers or truth values by its kind.
fn subject(datatype: Datatype, kind: Kind, values: &[&str]) -> Subject {
    let mut builder = SubjectBuilder::new("x", "x", 0, datatype, kind);
    for value in values {
        match kind {
            Kind::Numeric => builder.push_number(value.parse().expect("a number")),
            Kind::Boolean => builder.push_boolean(*value == "true"),
            Kind::Categorical | Kind::TextLength => builder.push_text(value),
        }
    }
    builder.finish()
}

/// A segment for each of the values, and with `other` one for the rest; each has two rows.
fn profile(datatype: Datatype, kind: Kind, values: &[&str], other: Option<&str>) -> Profile {
    let example = Profile::from_json(include_bytes!("../../schema/example.profile.json")).expect("valid");
    let twice: Vec<&str> = values
        .iter()
        .chain(&other)
        .flat_map(|value| [*value; 2])
        .collect();
    let segment = |value: Option<&str>, content: &str| Segment {
        value: value.map(str::to_owned),
        rows: 2,
        features: vec![subject(datatype, kind, &[content; 2])],
        outputs: Vec::new(),
        seasonality: None,
    };
    let parts = values.iter().map(|value| segment(Some(value), value));
    Profile {
        data: DataInfo {
            rows: twice.len() as u64,
            digest: None,
        },
        features: vec![subject(datatype, kind, &twice)],
        outputs: Vec::new(),
        importances: None,
        calibration: None,
        segments: Some(Segmentation {
            feature: "x".to_owned(),
            parts: parts.chain(other.map(|content| segment(None, content))).collect(),
        }),
        ..example
    }
}

fn segments(profile: &Profile) -> Segments {
    let segments = Segments::new(profile, Settings::default(), 0).expect("a valid profile");
    segments.expect("segments")
}

#[test]
fn a_text_finds_its_segment_or_the_other_one() {
    let watched = segments(&profile(
        Datatype::Bytes,
        Kind::Categorical,
        &["de", "1"],
        Some("fr"),
    ));
    assert_eq!(watched.names().collect::<Vec<_>>(), ["de", "1", "other"]);
    assert_eq!(watched.feature(), "x");
    let found = ["de", "1", "fr", "", "other"].map(|text| watched.of_text(text.as_bytes()));
    assert_eq!(found, [0, 1, 2, 2, 2].map(Some));
    assert_eq!(
        [watched.of_number(1.0), watched.of_number(f64::NAN)],
        [1, 2].map(Some)
    );
    let without_other = segments(&profile(Datatype::Bytes, Kind::Categorical, &["de"], None));
    assert_eq!(
        [without_other.of_text(b"de"), without_other.of_text(b"fr")],
        [Some(0), None]
    );
}

#[test]
fn a_number_is_one_value_however_it_is_sent() {
    let watched = segments(&profile(Datatype::Fp32, Kind::Numeric, &["0.1", "7"], None));
    let found = [0.1, f64::from(0.1_f32), 7.0, 7.5].map(|number| watched.of_number(number));
    assert_eq!(found, [Some(0), Some(0), Some(1), None]);
    assert_eq!(
        [
            watched.of_text(b" 7.0 "),
            watched.of_text(b"seven"),
            watched.of_boolean(true)
        ],
        [Some(1), None, None]
    );
}

#[test]
fn a_truth_value_is_one_value_however_it_is_sent() {
    let watched = segments(&profile(Datatype::Bool, Kind::Boolean, &["true"], Some("false")));
    let texts = ["true", "True", "1", "false", "0", "maybe"].map(|text| watched.of_text(text.as_bytes()));
    assert_eq!(texts, [0, 0, 0, 1, 1, 1].map(Some));
    assert_eq!(
        [
            watched.of_boolean(true),
            watched.of_boolean(false),
            watched.of_number(1.0),
            watched.of_number(f64::NAN)
        ],
        [0, 1, 0, 1].map(Some)
    );
}

#[test]
fn each_segment_has_the_budget_of_its_rows() {
    let mut watched = segments(&profile(Datatype::Bytes, Kind::Categorical, &["a", "b"], None));
    for segment in 0..2 {
        let monitor = watched.monitor_mut(segment).expect("a segment");
        // Per row of the segment's own: what all may raise sums to the budget of all rows.
        assert_eq!(monitor.report(0).gates.false_alarm_rate, 1e-6);
    }
    assert!(watched.monitor_mut(2).is_none() && watched.close_window(2, 0).is_none());
}

#[test]
fn a_profile_without_segments_has_none_and_a_bad_one_is_refused() {
    let mut profile = profile(Datatype::Bytes, Kind::Categorical, &["a"], None);
    profile.segments.as_mut().expect("segments").parts[0].rows = 3;
    let error = Segments::new(&profile, Settings::default(), 0).expect_err("refused");
    assert!(
        error
            .to_string()
            .contains("`segments.parts[0].features[0].count`"),
        "{error}"
    );
    profile.segments = None;
    let none = Segments::new(&profile, Settings::default(), 0).expect("a valid profile");
    assert!(none.is_none());
}

#[test]
fn a_state_is_of_one_profile_and_whole_or_nothing() {
    let one = profile(Datatype::Bytes, Kind::Categorical, &["a", "b"], Some("c"));
    let mut watched = segments(&one);
    for row in 0..250_usize {
        let segment = row % 3;
        watched.skip_row();
        let monitor = watched.monitor_mut(segment).expect("a segment");
        monitor.observe_text(0, ["a", "b", "d"][segment].as_bytes());
        let _due = monitor.end_row();
    }
    let mut again = segments(&one);
    let state = watched.snapshot();
    again.restore(&state).expect("its own state");
    assert_eq!(
        (again.snapshot(), again.report()),
        (state.clone(), watched.report())
    );
    assert_eq!(again.report().unmonitored_rows, 250);
    assert_eq!(again.report().segments[1].rows_total, 83);

    let mut other = segments(&profile(
        Datatype::Bytes,
        Kind::Categorical,
        &["a", "d"],
        Some("c"),
    ));
    let before = other.snapshot();
    assert!(matches!(other.restore(&state), Err(RestoreError::Profile { .. })));
    let mut damaged = state.clone();
    damaged[100] ^= 1;
    assert!(matches!(
        again.restore(&damaged),
        Err(RestoreError::Damaged { .. })
    ));
    let error = again.restore(b"PLMONITR").expect_err("of a monitor");
    assert!(error.to_string().contains("\"PLSEGMNT\""), "{error}");
    assert_eq!((other.snapshot(), again.snapshot()), (before, state));
}
