//! Every interleaving of requests that take, wait for and give back the permits of an adaptive limit.

use loom::sync::atomic;

#[path = "../src/limiter/permits.rs"]
mod permits;

use std::sync::Arc;

use loom::sync::Notify;
use permits::Permits;

fn request(permits: &Permits, freed: &Notify, inside: &atomic::AtomicUsize) {
    let mut admitted = permits.try_acquire();
    if !admitted {
        assert!(permits.start_waiting(8), "the queue is long enough");
        while !permits.try_acquire() {
            freed.wait();
        }
        admitted = true;
        if permits.stop_waiting() {
            freed.notify();
        }
    }
    assert!(admitted);
    assert_eq!(
        inside.fetch_add(1, atomic::Ordering::AcqRel),
        0,
        "alone, as the limit says"
    );
    inside.fetch_sub(1, atomic::Ordering::AcqRel);
    if permits.release() {
        freed.notify();
    }
}

#[test]
fn everyone_gets_its_turn_and_never_two_at_once() {
    loom::model(|| {
        let state = Arc::new((Permits::new(1), Notify::new(), atomic::AtomicUsize::new(0)));
        let other = {
            let state = Arc::clone(&state);
            loom::thread::spawn(move || request(&state.0, &state.1, &state.2))
        };
        request(&state.0, &state.1, &state.2);
        other.join().expect("no panic");
        assert_eq!((state.0.in_flight(), state.0.waiting()), (0, 0));
    });
}

#[test]
fn a_limit_that_rises_wakes_who_waits() {
    loom::model(|| {
        let state = Arc::new((Permits::new(0), Notify::new(), atomic::AtomicUsize::new(0)));
        let waiting = {
            let state = Arc::clone(&state);
            loom::thread::spawn(move || request(&state.0, &state.1, &state.2))
        };
        if state.0.set_limit(1) {
            state.1.notify();
        }
        waiting.join().expect("no panic");
        assert_eq!(state.0.in_flight(), 0);
    });
}
