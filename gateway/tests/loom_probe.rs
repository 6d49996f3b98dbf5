//! Every interleaving of requests that would all probe an endpoint that is out.

#![expect(dead_code, reason = "the file under test has more than these tests use")]

use loom::sync::atomic;

#[path = "../src/endpoint/health.rs"]
mod health;

use std::sync::Arc;

use atomic::{AtomicUsize, Ordering};
use health::{Cause, Health, Standing};

const OUT_AT: u64 = 1;
/// After the first time out, before the end of the second.
const DUE: u64 = 1_000_000_002;

fn probe(health: &Health, probing: &AtomicUsize, probes: &AtomicUsize, well: bool) {
    if health.standing(DUE) != Standing::ProbeDue || !health.claim_probe(DUE) {
        return;
    }
    assert_eq!(probing.fetch_add(1, Ordering::AcqRel), 0, "one at a time");
    probes.fetch_add(1, Ordering::AcqRel);
    if well {
        health.succeeded(DUE, DUE);
    } else {
        health.put_out(Cause::Failing, DUE, DUE, 1.0);
    }
    probing.fetch_sub(1, Ordering::AcqRel);
    health.probe_ended();
}

fn one_probe(well: bool) {
    loom::model(move || {
        let health = Health::default();
        health.put_out(Cause::Failing, OUT_AT, OUT_AT, 1.0);
        let state = Arc::new((health, AtomicUsize::new(0), AtomicUsize::new(0)));
        let others: Vec<_> = (0..2)
            .map(|_| {
                let state = Arc::clone(&state);
                loom::thread::spawn(move || probe(&state.0, &state.1, &state.2, well))
            })
            .collect();
        for other in others {
            other.join().expect("no panic");
        }
        assert_eq!(state.2.load(Ordering::Acquire), 1, "exactly one probed");
        let expected = if well { Standing::InUse } else { Standing::Out };
        assert_eq!(state.0.standing(DUE), expected);
    });
}

#[test]
fn one_probe_that_succeeds_brings_it_back() {
    one_probe(true);
}

#[test]
fn one_probe_that_fails_keeps_it_out() {
    one_probe(false);
}
