//! A profile that knows the hours of the week, and rows that are usual in the hour in which they come.
//!
//! The hour is that of the machine's clock: the profile is made so that what comes now is usual now, and at no other time of the day.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use plumbline_drift::SubjectBuilder;
use plumbline_drift::profile::{DataInfo, Datatype, Kind, Profile, Seasonality};
use plumbline_drift::season::{HOURS, HourOfWeek, SeasonBuilder};
use plumbline_sidecar::{Config, NamedProfile};
use plumbline_testkit::predictor::FakePredictor;

use crate::harness::TestSidecar;
use crate::model::{CONTRACTS, Rows, answer, profile};
use crate::state::{STATE, comparison, observed, send, states};

/// Two weeks of 30 rows an hour: short tenures and monthly contracts in three hours of each day, of which this hour is the first, so
/// that a test may run into the next; usual rows in all others.
fn seasonal() -> Profile {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let now = HourOfWeek::at_unix_ms(since.as_millis() as i64).index();
    let builder =
        |name, datatype, kind| SeasonBuilder::new(SubjectBuilder::new(name, name, 0, datatype, kind));
    let mut tenure = builder("tenure", Datatype::Fp32, Kind::Numeric);
    let mut contract = builder("contract", Datatype::Bytes, Kind::Categorical);
    let mut rows = Rows::seeded(1);
    for hour in (0..2 * HOURS).map(|hour| hour % HOURS) {
        let is_short = (hour + HOURS - now) % 24 < 3;
        let rows = if is_short {
            rows.shifted(30)
        } else {
            rows.usual(30)
        };
        let hour = HourOfWeek::new(hour).expect("an hour");
        for row in rows {
            tenure.hour(hour).push_number(f64::from(row.tenure));
            contract.hour(hour).push_text(CONTRACTS[row.contract]);
        }
    }
    let ((tenure, tenures), (contract, contracts)) = (tenure.finish(), contract.finish());
    let profile = Profile {
        data: DataInfo {
            rows: tenure.count,
            digest: None,
        },
        features: vec![tenure, contract],
        outputs: Vec::new(),
        seasonality: Some(Seasonality {
            hour_of_week: vec![tenures, contracts],
        }),
        ..profile()
    };
    profile.validate().expect("a valid profile");
    profile
}

fn watching(profile: &Profile, state: &Path) -> impl FnOnce(&mut Config) {
    let (profile, state) = (profile.clone(), state.to_owned());
    move |config| {
        config.profiles = vec![NamedProfile {
            model: "churn".to_owned(),
            profile,
        }];
        config.state_dir = Some(state);
    }
}

async fn seasonal_subjects(sidecar: &TestSidecar) -> u64 {
    let page = sidecar.admin("/drift").await.json();
    page["references"][0]["seasonal_subjects"]
        .as_u64()
        .expect("a number")
}

#[tokio::test]
async fn what_is_usual_in_its_hour_is_drift_only_to_a_profile_without_hours() {
    let predictor = FakePredictor::answering(answer).await;
    let mut profile = seasonal();
    let directory = tempfile::tempdir().expect("a directory");
    let sidecar = TestSidecar::start(&predictor.url(), watching(&profile, directory.path())).await;
    assert_eq!(seasonal_subjects(&sidecar).await, 2);
    send(&sidecar, &Rows::seeded(5).shifted(1_500)).await;
    sidecar.metric_is(&observed("3"), 1_500.0).await;
    assert_eq!(sidecar.metric(STATE), 0.0);
    // Within its hour, too, a change is one.
    send(&sidecar, &Rows::seeded(6).usual(1_000)).await;
    sidecar.metric_is(STATE, 2.0).await;

    profile.seasonality = None;
    let directory = tempfile::tempdir().expect("a directory");
    let sidecar = TestSidecar::start(&predictor.url(), watching(&profile, directory.path())).await;
    assert_eq!(seasonal_subjects(&sidecar).await, 0);
    send(&sidecar, &Rows::seeded(5).shifted(1_500)).await;
    sidecar.metric_is(&observed("3"), 1_500.0).await;
    assert_eq!(sidecar.metric(STATE), 2.0);
}

#[tokio::test]
async fn the_hours_of_a_window_outlive_a_restart() {
    let predictor = FakePredictor::answering(answer).await;
    let profile = seasonal();
    let directory = tempfile::tempdir().expect("a directory");
    let rows = Rows::seeded(5).shifted(700);
    let sidecar = TestSidecar::start(&predictor.url(), watching(&profile, directory.path())).await;
    send(&sidecar, &rows).await;
    sidecar.metric_is(&observed("3"), 700.0).await;
    let before = comparison(&sidecar).await;
    let expected: u64 = before["subjects"][0]["bins"]
        .as_array()
        .expect("bins")
        .iter()
        .filter_map(|bin| bin["reference"].as_u64())
        .sum();
    assert!(
        0 < expected && expected < profile.data.rows,
        "the rows of the hour, not all: {expected}"
    );
    sidecar.stop().await;

    let sidecar = TestSidecar::start(&predictor.url(), watching(&profile, directory.path())).await;
    assert_eq!(sidecar.metric(&states("restored")), 1.0);
    assert_eq!(comparison(&sidecar).await, before);
    assert_eq!(seasonal_subjects(&sidecar).await, 2);
    send(&sidecar, &Rows::seeded(6).shifted(1_000)).await;
    sidecar.metric_is(&observed("3"), 1_000.0).await;
    assert_eq!(sidecar.metric(STATE), 0.0);
}
