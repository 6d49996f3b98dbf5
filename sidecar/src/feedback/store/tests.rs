use super::*;
use crate::metrics::Metrics;

const TTL: Duration = Duration::from_mins(1);

fn store(max_bytes: usize) -> Store {
    let metrics = Metrics::declare(&plumbline_service::metrics::Metrics::default());
    Store::new(TTL, max_bytes, metrics.feedback)
}

fn rows(values: &[f32]) -> Predictions {
    Predictions::new(1, values.to_vec())
}

#[test]
fn a_row_is_joined_once_and_every_miss_says_why() {
    let (mut store, now) = (store(1 << 20), Instant::now());
    store.put("churn", "a", Predictions::new(2, vec![0.1, 0.9, 0.2, 0.8]), now);
    assert_eq!(store.take("churn", "a", 1, now).as_deref(), Ok(&[0.2, 0.8][..]));
    assert_eq!(store.take("churn", "a", 1, now), Err(Miss::Duplicate));
    assert_eq!(store.take("churn", "a", 2, now), Err(Miss::NoRow { rows: 2 }));
    assert_eq!(store.take("churn", "b", 0, now), Err(Miss::Unknown));
    assert_eq!(
        store.take("other", "a", 0, now),
        Err(Miss::Unknown),
        "ids are of a model"
    );
    assert_eq!(store.take("churn", "a", 0, now).as_deref(), Ok(&[0.1, 0.9][..]));
    assert_eq!(
        store.take("churn", "a", 0, now),
        Err(Miss::Duplicate),
        "while it is kept"
    );
}

#[test]
fn a_label_after_the_time_to_live_is_late() {
    let (mut store, now) = (store(1 << 20), Instant::now());
    store.put("churn", "a", rows(&[1.0, 2.0]), now);
    store.put("churn", "b", rows(&[1.0]), now + TTL / 2);
    assert!(store.take("churn", "a", 0, now + TTL / 2).is_ok());
    assert_eq!(store.take("churn", "a", 1, now + TTL), Err(Miss::Late));
    assert_eq!(store.metrics.expired.get(), 1, "one of its rows had its label");
    assert!(store.take("churn", "b", 0, now + TTL).is_ok());
    assert_eq!((store.len(), store.metrics.waiting.get()), (1, 1));
}

#[test]
fn the_oldest_make_room_and_bytes_stay_in_bounds() {
    let (mut store, now) = (store(64 << 10), Instant::now());
    for number in 0..5_000 {
        store.put("churn", &format!("request-{number}"), rows(&[1.0; 3]), now);
        assert!(store.bytes <= store.max_bytes);
    }
    let kept = store.len();
    assert!(kept > 100 && store.order.len() == kept, "{kept}");
    assert_eq!(store.metrics.overflowed.get(), 3 * (5_000 - kept as u64));
    assert_eq!(store.metrics.bytes.get(), store.bytes as i64);
    assert!(store.take("churn", "request-4999", 2, now).is_ok());
    assert_eq!(
        store.take("churn", &format!("request-{}", 4_999 - kept), 0, now),
        Err(Miss::Late)
    );
    assert_eq!(
        store.take("churn", "request-0", 0, now),
        Err(Miss::Unknown),
        "what is gone is remembered for a while only"
    );
    assert!(store.gone.hashes.len() <= store.gone.limit);
}

#[test]
fn what_never_fits_is_counted() {
    let (mut store, now) = (store(1 << 10), Instant::now());
    store.put("churn", "a", rows(&[0.0; 1_000]), now);
    assert_eq!((store.len(), store.metrics.too_large.get()), (0, 1));
    store.put("churn", "b", rows(&[]), now);
    assert_eq!(store.len(), 0, "an empty batch has nothing to join");
}

#[test]
fn an_id_that_is_used_again_stands_for_the_newer_request() {
    let (mut store, now) = (store(1 << 20), Instant::now());
    store.put("churn", "a", rows(&[1.0]), now);
    let first = store.bytes;
    store.put("churn", "a", rows(&[2.0]), now + TTL / 2);
    assert_eq!((store.bytes, store.metrics.replaced.get()), (first, 1));
    assert_eq!(
        store.take("churn", "a", 0, now + TTL).as_deref(),
        Ok(&[2.0][..]),
        "the older one's time is not its own"
    );
    store.put("churn", "z", rows(&[2.0]), now + TTL + TTL);
    assert_eq!((store.len(), store.order.len()), (1, 1));
}

#[test]
fn an_id_that_never_changes_takes_no_more_than_one() {
    let (mut store, now) = (store(1 << 20), Instant::now());
    store.put("churn", "first", rows(&[1.0]), now);
    for _ in 0..10_000 {
        store.put("churn", "constant", rows(&[1.0]), now);
    }
    assert!(store.order.len() <= 2 + 1 + SPARE_PLACES, "{}", store.order.len());
    assert_eq!(store.oldest(), 0);
    assert!(store.take("churn", "first", 0, now).is_ok());
    assert!(store.take("churn", "constant", 0, now).is_ok());
}
