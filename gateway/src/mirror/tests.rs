use std::num::NonZeroUsize;

use bytes::Bytes;
use http::Request;
use plumbline_service::config::{ByteSize, ParseSetting as _};
use plumbline_service::metrics::Metrics as Registry;

use super::*;
use crate::config::{MirrorTo, Share};
use crate::metrics::Metrics;

fn mirror(change: impl FnOnce(&mut MirrorSpec)) -> Arc<Mirror> {
    let mut spec = MirrorSpec::new(MirrorTo::Endpoints(Vec::new()));
    change(&mut spec);
    let metrics = Metrics::declare(&Registry::default()).mirror("churn");
    let state = Arc::new(MirrorState::new(metrics));
    Arc::new(Mirror::new(spec, Endpoints::default(), state))
}

fn begin(mirror: &Arc<Mirror>, expected_bytes: u64) -> Option<Box<Tee>> {
    let head = || Request::new(()).into_parts().0;
    let begun = mirror.begin(Family::V2, Duration::from_secs(1), expected_bytes, head);
    begun.map(|(tee, _)| tee)
}

#[test]
fn a_share_is_copied_evenly() {
    let mirror = mirror(|spec| spec.share = Share::parse_setting("0.1").expect("a share"));
    let turns: Vec<bool> = (0..1_000).map(|_| mirror.is_turn()).collect();
    assert!(
        turns
            .chunks(10)
            .all(|ten| ten.iter().filter(|turn| **turn).count() == 1)
    );
}

#[test]
fn copies_beyond_the_budget_are_dropped_and_counted() {
    let mirror = mirror(|spec| {
        spec.max_in_flight = NonZeroUsize::MIN;
        spec.max_bytes = ByteSize(10);
    });
    let mut first = begin(&mirror, 0).expect("a place");
    assert!(begin(&mirror, 0).is_none());
    assert_eq!(mirror.state.metrics.dropped_in_flight.get(), 1);
    first.push(&Bytes::from_static(b"0123456789"));
    assert_eq!(mirror.state.bytes.load(Ordering::Relaxed), 10);
    first.push(&Bytes::from_static(b"x"));
    assert_eq!(mirror.state.metrics.dropped_bytes.get(), 1);
    first.push(&Bytes::from_static(b"y"));
    drop(first);
    // Given up once, for one reason, and what it held is free.
    assert_eq!(
        (
            mirror.state.metrics.dropped_bytes.get(),
            mirror.state.metrics.dropped_incomplete.get()
        ),
        (1, 0)
    );
    assert_eq!(mirror.state.bytes.load(Ordering::Relaxed), 0);
    assert!(begin(&mirror, 11).is_none(), "told by its length");
    assert_eq!(mirror.state.metrics.dropped_bytes.get(), 2);
    drop(begin(&mirror, 10).expect("a place"));
    assert_eq!(mirror.state.metrics.dropped_incomplete.get(), 1);
    assert_eq!(mirror.state.in_flight.load(Ordering::Relaxed), 0);
}

#[test]
fn of_a_body_that_is_sent_again_one_copy_is_kept() {
    let mirror = mirror(|_| {});
    let mut tee = begin(&mirror, 0).expect("a place");
    let held = || mirror.state.bytes.load(Ordering::Relaxed);
    let (first, second) = (Bytes::from_static(b"01234"), Bytes::from_static(b"56789"));
    tee.push(&first);
    for _ in 0..2 {
        tee.rewind();
        tee.push(&first);
        assert_eq!(held(), 5);
    }
    tee.push(&second);
    assert_eq!(held(), 10);
    tee.rewind();
    for data in [first, second, Bytes::from_static(b"x")] {
        tee.push(&data);
    }
    assert_eq!(held(), 11);
}

#[test]
fn a_mirror_that_takes_another_ones_place_keeps_its_budget() {
    let old = mirror(|spec| spec.max_in_flight = NonZeroUsize::MIN);
    let copy = begin(&old, 0).expect("a place");
    let new = Mirror::new(old.spec.clone(), Endpoints::default(), Arc::clone(&old.state));
    let new = Arc::new(new);
    assert!(begin(&new, 0).is_none());
    drop(copy);
    assert!(begin(&new, 0).is_some());
}
