//! Which part of the traffic drifts: found there, soon, and without more false alarms than the budget of the rows allows.

use plumbline_drift::monitor::{Monitor, Settings};
use plumbline_drift::profile::{DataInfo, Datatype, Kind, Profile, Segment, Segmentation, Subject};
use plumbline_drift::report::State;
use plumbline_drift::segments::Segments;
use plumbline_drift::{SplitMix64, SubjectBuilder};

/// Values of the feature that names the segment, with their share of the rows; what is left is of other values.
const REGIONS: [(&str, f64); 4] = [("north", 0.4), ("south", 0.3), ("west", 0.1), ("island", 0.1)];

/// A row: its region, and an amount that depends on it.
struct Row {
    region: &'static str,
    amount: f64,
}

fn row(rng: &mut SplitMix64) -> Row {
    let mut left = rng.uniform();
    let found = REGIONS.iter().find(|(_, share)| {
        left -= share;
        left < 0.0
    });
    let region = found.map_or("elsewhere", |(region, _)| region);
    Row {
        region,
        amount: region.len() as f64 + rng.uniform(),
    }
}

fn subjects(rows: &[&Row]) -> Vec<Subject> {
    let mut region = SubjectBuilder::new("region", "region", 0, Datatype::Bytes, Kind::Categorical);
    let mut amount = SubjectBuilder::new("amount", "amount", 0, Datatype::Fp64, Kind::Numeric);
    for row in rows {
        region.push_text(row.region);
        amount.push_number(row.amount);
    }
    vec![region.finish(), amount.finish()]
}

fn profile(rows: usize, rng: &mut SplitMix64) -> Profile {
    let rows: Vec<Row> = (0..rows).map(|_| row(rng)).collect();
    let segment = |value: Option<&str>| {
        let own = |row: &&Row| row.region == value.unwrap_or("elsewhere");
        let own: Vec<&Row> = rows.iter().filter(own).collect();
        Segment {
            value: value.map(str::to_owned),
            rows: own.len() as u64,
            features: subjects(&own),
            outputs: Vec::new(),
            seasonality: None,
        }
    };
    let example = Profile::from_json(include_bytes!("../schema/example.profile.json")).expect("valid");
    let named = REGIONS.iter().map(|(region, _)| Some(*region));
    Profile {
        data: DataInfo {
            rows: rows.len() as u64,
            digest: None,
        },
        features: subjects(&rows.iter().collect::<Vec<_>>()),
        outputs: Vec::new(),
        importances: None,
        calibration: None,
        segments: Some(Segmentation {
            feature: "region".to_owned(),
            parts: named.chain([None]).map(segment).collect(),
        }),
        ..example
    }
}

/// The whole and its segments, each with half of the budget.
struct Watched {
    whole: Monitor,
    segments: Segments,
}

impl Watched {
    fn new(profile: &Profile, settings: Settings) -> Self {
        let half = Settings {
            false_alarm_rate: settings.false_alarm_rate / 2.0,
            ..settings
        };
        let segments = Segments::new(profile, half, 0).expect("a valid profile");
        Self {
            whole: Monitor::new(profile, half, 0).expect("a valid profile"),
            segments: segments.expect("segments"),
        }
    }

    fn observe(&mut self, row: &Row) {
        let segment = self.segments.of_text(row.region.as_bytes()).expect("watched");
        let monitor = self.segments.monitor_mut(segment).expect("a segment");
        for monitor in [monitor, &mut self.whole] {
            monitor.observe_text(0, row.region.as_bytes());
            monitor.observe_number(1, row.amount);
        }
        let due = self.segments.monitor_mut(segment).is_some_and(Monitor::end_row);
        if due {
            self.segments.close_window(segment, 0);
        }
        if self.whole.end_row() {
            self.whole.close_window(0);
        }
    }
}

#[test]
fn drift_in_a_tenth_of_the_rows_is_found_in_their_segment_before_it_is_in_the_whole() {
    let mut rng = SplitMix64::new(1);
    let mut watched = Watched::new(&profile(20_000, &mut rng), Settings::default());
    for _ in 0..20_000 {
        watched.observe(&row(&mut rng));
    }
    let report = watched.segments.report();
    assert_eq!((report.state, report.drifted.len()), (State::Stable, 0));
    let mut rows = 0;
    while watched.segments.report().state != State::Drift {
        let mut drifting = row(&mut rng);
        if drifting.region == "west" {
            drifting.amount += 0.5;
        }
        watched.observe(&drifting);
        rows += 1;
        assert!(rows < 5_000, "{:?}", watched.segments.report());
    }
    assert_eq!(watched.whole.state(), State::Stable, "after {rows} rows");
    let report = watched.segments.report();
    assert_eq!(report.drifted, ["west"]);
    let west = &report.segments[2];
    assert_eq!((west.name.as_str(), west.episode), ("west", 1));
    assert_eq!(west.ranking[0].subject, "amount");
    assert!(west.window.closed && west.window.rows < 500, "{:?}", west.window);
}

/// Rows that never change, in 400 models: P(any alarm of the whole or of a segment) ≤ rows · budget.
#[test]
fn the_whole_and_its_segments_keep_one_budget() {
    const MODELS: u64 = 400;
    const ROWS: u64 = 4_000;
    const PROMISE: f64 = 0.1;
    let alarmed = (0..MODELS).filter(|seed| {
        let mut rng = SplitMix64::new(seed.wrapping_mul(0xD134_2543_DE82_EF95));
        let settings = Settings {
            false_alarm_rate: PROMISE / ROWS as f64,
            seed: *seed,
            ..Settings::default()
        };
        let mut watched = Watched::new(&profile(5_000, &mut rng), settings);
        (0..ROWS).any(|_| {
            watched.observe(&row(&mut rng));
            let mut states = watched.segments.states().chain([watched.whole.state()]);
            states.any(|state| state.level() > 0)
        })
    });
    let alarmed = alarmed.count() as f64 / MODELS as f64;
    assert!(alarmed <= PROMISE, "{alarmed}");
}
