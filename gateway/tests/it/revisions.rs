//! Which revision of a model a request goes to.

use http::StatusCode;
use plumbline_gateway::{RevisionSpec, RouteSpec};
use plumbline_service::config::ParseSetting as _;
use plumbline_service::upstream::Target;
use plumbline_testkit::predictor::FakePredictor;

use crate::support::{TestGateway, churn};

pub(crate) fn revision(name: &str, weight: u32, predictor: &FakePredictor) -> RevisionSpec {
    RevisionSpec {
        name: name.to_owned(),
        weight,
        ..RevisionSpec::only(vec![
            Target::parse_setting(&predictor.url()).expect("an endpoint"),
        ])
    }
}

#[tokio::test]
async fn requests_are_shared_out_by_weight() {
    let (stable, canary) = (FakePredictor::echo().await, FakePredictor::echo().await);
    let route = RouteSpec {
        revisions: vec![revision("stable", 9, &stable), revision("canary", 1, &canary)],
        ..churn(&[])
    };
    let gateway = TestGateway::start(vec![route], |_| {});
    for _ in 0..200 {
        assert_eq!(gateway.infer("churn").await.status(), StatusCode::OK);
    }
    assert!(
        canary.received_so_far().abs_diff(20) <= 2,
        "{} of 200",
        canary.received_so_far()
    );
    assert_eq!(stable.received_so_far() + canary.received_so_far(), 200);
}
