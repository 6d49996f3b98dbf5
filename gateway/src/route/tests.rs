use std::sync::Arc;

use http::HeaderMap;
use plumbline_service::config::ParseSetting as _;
use plumbline_service::metrics::Metrics as Registry;
use plumbline_service::upstream::{Options, Target};
use proptest::prelude::*;
use tokio::time::Instant;

use super::{Revision, Route, Split};
use crate::call::Family;
use crate::config::{MatchSpec, RevisionSpec, RouteSpec, Sticky};
use crate::endpoint::{Cause, Endpoint, Standing, Suspicion};
use crate::metrics::Metrics;
use crate::snapshot::Routes;

/// `churn` with revisions of these weights, called `0`, `1`, ….
fn spec(weights: &[u32]) -> RouteSpec {
    let revision = |(index, weight): (usize, &u32)| RevisionSpec {
        name: index.to_string(),
        weight: *weight,
        ..RevisionSpec::only(vec![
            Target::parse_setting(&format!("http://127.0.0.1:{}", index + 1)).expect("an endpoint"),
        ])
    };
    RouteSpec {
        revisions: weights.iter().enumerate().map(revision).collect(),
        ..RouteSpec::new("churn", Vec::new())
    }
}

fn route(spec: &RouteSpec) -> Arc<Route> {
    let routes = Routes::new(Metrics::declare(&Registry::default()), Options::default());
    routes.configure_with(std::slice::from_ref(spec));
    Arc::clone(routes.load().route("churn").expect("routed"))
}

fn revision<'a>(route: &'a Route, headers: &HeaderMap) -> &'a Revision {
    let wanted = route.wanted(headers).expect("a weight");
    route.or_fallback(wanted, Family::V2, Instant::now())
}

fn headers(fields: &[(&'static str, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, value.parse().expect("a value"));
    }
    headers
}

fn sticky(weights: &[u32]) -> Arc<Route> {
    let sticky = Some(Sticky::Header("x-user".parse().expect("a name")));
    route(&RouteSpec {
        sticky,
        ..spec(weights)
    })
}

/// The revision that each of many users sticks to.
fn places(route: &Route) -> Vec<String> {
    let place = |user: u32| {
        let headers = headers(&[("x-user", format!("user-{user}"))]);
        revision(route, &headers).name.to_string()
    };
    (0..2_000).map(place).collect()
}

/// 5 standard errors of a share of 2,000 users, whatever the share.
const FIVE_ERRORS: f64 = 5.0 * 0.5 * 0.022_4;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_first_match_decides_whatever_else_is_said(
        matches in prop::collection::vec((0_usize..3, 0_usize..3, 0_usize..4), 0..6),
        sent in prop::collection::vec((0_usize..3, 0_usize..3), 0..4),
    ) {
        const NAMES: [&str; 3] = ["x-a", "x-b", "x-c"];
        let value = |value: usize| format!("v{value}");
        let mut spec = spec(&[1, 1, 0, 1]);
        spec.sticky = Some(Sticky::Header("x-user".parse().expect("a name")));
        spec.matches = matches.iter().map(|(header, wanted, revision)| MatchSpec {
            header: NAMES[*header].parse().expect("a name"),
            value: value(*wanted).parse().expect("a value"),
            revision: revision.to_string(),
        }).collect();
        let route = route(&spec);
        let mut fields: Vec<_> = sent.iter().map(|(header, sent)| (NAMES[*header], value(*sent))).collect();
        fields.push(("x-user", "somebody".to_owned()));
        let chosen = revision(&route, &headers(&fields));
        match matches.iter().find(|(header, wanted, _)| sent.contains(&(*header, *wanted))) {
            Some((_, _, revision)) => prop_assert_eq!(&*chosen.name, revision.to_string()),
            None => prop_assert!(chosen.weight > 0),
        }
    }

    #[test]
    fn shares_are_exact_when_threads_take_turns_at_once(
        weights in prop::collection::vec(0_u32..1_000, 1..6).prop_filter("one above 0", |all| all.iter().any(|weight| *weight > 0)),
    ) {
        let split = Split::new(weights.iter().copied());
        let turns = || {
            let mut counts = vec![0_u32; weights.len()];
            (0..2_500).for_each(|_| counts[split.next().expect("a weight")] += 1);
            counts
        };
        let counts: Vec<Vec<u32>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(turns)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        for (index, weight) in weights.iter().enumerate() {
            let got: u32 = counts.iter().map(|counts| counts[index]).sum();
            let share = f64::from(*weight) / sum;
            // 0.5 % of 10,000.
            prop_assert!((f64::from(got) - share * 10_000.0).abs() <= 50.0, "{weights:?}: {counts:?}");
        }
    }

    #[test]
    fn users_move_only_to_or_from_the_revision_whose_weight_changes(
        weights in prop::collection::vec(1_u32..100, 2..5),
        changed in 0_usize..2,
        weight in 0_u32..100,
    ) {
        let before = places(&sticky(&weights));
        let mut new = weights.clone();
        new[changed] = weight;
        let after = places(&sticky(&new));
        let name = changed.to_string();
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
        let moved: Vec<_> = moved.collect();
        prop_assert!(moved.iter().all(|(before, after)| **before == name || **after == name), "{moved:?}");
        // As many as its share has changed by, which is the least that can be.
        let share = |weights: &[u32]| f64::from(weights[changed]) / f64::from(weights.iter().sum::<u32>());
        let least = (share(&new) - share(&weights)).abs();
        let part = moved.len() as f64 / before.len() as f64;
        prop_assert!((part - least).abs() <= FIVE_ERRORS, "{part} moved, at least {least}");
    }
}

#[test]
fn sticky_users_are_shared_out_by_weight_and_stay_in_every_gateway() {
    let places = places(&sticky(&[90, 10]));
    let canary = places.iter().filter(|place| *place == "1").count() as f64 / places.len() as f64;
    assert!((canary - 0.1).abs() < FIVE_ERRORS, "{canary}");
    assert_eq!(places, self::places(&sticky(&[90, 10])));
    // As Python's hashlib and math have it, from the description in `sticky`.
    assert_eq!(places[..32].concat(), "00110000000001000100000000000000");
}

#[test]
fn requests_without_what_they_would_stick_by_take_turns() {
    let route = sticky(&[1, 1]);
    let chosen = |_| revision(&route, &HeaderMap::new()).name.to_string();
    let names: Vec<String> = (0..10).map(chosen).collect();
    assert!(
        names.contains(&"0".to_owned()) && names.contains(&"1".to_owned()),
        "{names:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_fallback_gets_requests_while_no_endpoint_can_be_used() {
    let fallback = Some("1".to_owned());
    let route = route(&RouteSpec {
        fallback,
        ..spec(&[1, 0])
    });
    let chosen = || &*revision(&route, &HeaderMap::new()).name;
    let used = || route.fallback.as_ref().expect("a fallback").used.get();
    assert_eq!((chosen(), used()), ("0", 0));
    let now = Instant::now();
    let put_out = |index: usize| {
        let endpoint = &route.revisions[index].endpoints.of(Family::V2)[0];
        endpoint.put_out(Cause::Unreachable, now, now);
    };
    put_out(0);
    assert_eq!((chosen(), used()), ("1", 1));
    put_out(1);
    assert_eq!((chosen(), used()), ("0", 1), "the other is no better");
    assert!(
        route
            .fall_back(&route.revisions[1], Family::V2, Instant::now())
            .is_none(),
        "not of itself"
    );
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    assert_eq!((chosen(), used()), ("0", 1), "the first may be probed");
}

/// Which of the endpoints are in use after those from `healthy` on have failed ten times in a row, by turns.
fn in_use_after_failures(endpoints: usize, healthy: usize) -> Vec<bool> {
    let target = |port| Target::parse_setting(&format!("http://127.0.0.1:{port}")).expect("an endpoint");
    let route = route(&RouteSpec::new("churn", (1..=endpoints).map(target).collect()));
    let (revision, now) = (&route.revisions[0], Instant::now());
    let endpoints = revision.endpoints.of(Family::V2);
    for _ in 0..10 {
        for (index, endpoint) in endpoints.iter().enumerate() {
            if index < healthy {
                endpoint.succeeded(now, now);
            } else if endpoint.failed(now, now) == Suspicion::Suspect {
                revision.put_out_if_worse(endpoint, Family::V2, now, now);
            }
        }
    }
    let in_use = |endpoint: &Arc<Endpoint>| endpoint.standing(now) == Standing::InUse;
    endpoints.iter().map(in_use).collect()
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_fails_more_than_its_peers_is_put_out() {
    assert_eq!(in_use_after_failures(4, 3), [true, true, true, false]);
    assert_eq!(in_use_after_failures(2, 1), [true, false]);
}

#[tokio::test(start_paused = true)]
async fn at_most_half_are_put_out_and_never_the_last() {
    let in_use = in_use_after_failures(5, 3);
    assert_eq!(in_use, [true, true, true, false, false]);
    let in_use = in_use_after_failures(20, 8);
    assert_eq!(in_use.iter().filter(|in_use| !**in_use).count(), 10, "{in_use:?}");
    assert_eq!(in_use_after_failures(1, 0), [true]);
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_alike_none_is_put_out() {
    for endpoints in [2, 4, 10] {
        assert!(in_use_after_failures(endpoints, 0).iter().all(|in_use| *in_use));
    }
}

fn counts(weights: &[u32], turns: usize) -> Vec<usize> {
    let split = Split::new(weights.iter().copied());
    let mut counts = vec![0; weights.len()];
    for _ in 0..turns {
        counts[split.next().expect("a weight")] += 1;
    }
    counts
}

#[test]
fn shares_are_exact_to_a_few_requests() {
    for weights in [
        &[1][..],
        &[90, 10],
        &[1, 99],
        &[50, 0, 50],
        &[0, 0, 7],
        &[7, 0],
        &[1, 2, 3, 4],
        &[u32::MAX, 1],
    ] {
        let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        for turns in [100, 10_000] {
            let counts = counts(weights, turns);
            for (count, weight) in counts.iter().zip(weights) {
                let share = f64::from(*weight) / sum * turns as f64;
                assert!((*count as f64 - share).abs() <= 5.0, "{weights:?}: {counts:?}");
                assert!(*weight > 0 || *count == 0, "{weights:?}: {counts:?}");
            }
        }
    }
}

#[test]
fn every_place_belongs_to_a_revision_with_a_weight() {
    let split = Split::new([0, 3, 0, 1, 0].into_iter());
    for place in [0, 1, u64::MAX / 2, u64::MAX / 4 * 3 + 8, u64::MAX - 1, u64::MAX] {
        assert!([Some(1), Some(3)].contains(&split.at(place)), "{place}");
    }
    assert_eq!((split.at(0), split.at(u64::MAX)), (Some(1), Some(3)));
}

#[test]
fn without_a_weight_no_revision_is_chosen() {
    for weights in [&[][..], &[0], &[0, 0, 0]] {
        let split = Split::new(weights.iter().copied());
        assert!((0..100).all(|_| split.next().is_none()), "{weights:?}");
        assert_eq!(split.at(u64::MAX), None);
        let route = sticky(weights);
        for headers in [HeaderMap::new(), headers(&[("x-user", "somebody".to_owned())])] {
            assert!(route.wanted(&headers).is_none());
        }
    }
}
