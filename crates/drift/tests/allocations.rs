//! A row costs no allocation, whatever is in it.

use plumbline_drift::monitor::{Monitor, Settings};
use plumbline_drift::performance::{PerformanceMonitor, PerformanceSettings};
use plumbline_drift::profile::{Profile, SeasonalCounts, Seasonality};
use plumbline_drift::season::HOURS;
use plumbline_testkit::allocations::{Counting, so_far};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_row_costs_no_allocation() {
    let profile =
        Profile::from_json(include_bytes!("../schema/example.profile.json")).expect("the example is valid");
    let mut monitor = Monitor::new(&profile, Settings::default(), 0).expect("a valid profile");
    let mut due = 0;
    let before = so_far();
    for i in 0..10_000_i64 {
        monitor.observe_number(0, (i % 90) as f64);
        monitor.observe_text(
            1,
            [&b"Two year"[..], b"Month-to-month", b"never seen", b""][i as usize % 4],
        );
        monitor.observe_text(2, b"29.85");
        monitor.observe_integer(3, i % 3);
        monitor.observe_number(4, f64::NAN);
        monitor.observe_missing(5);
        // True as soon as the odd rows are evidence: the look itself must not cost either.
        due += u64::from(monitor.end_row());
    }
    assert_eq!(so_far() - before, 0);
    assert!(due > 0);
    monitor.close_window(0);
    assert!(so_far() > before, "the counter counts");
}

#[test]
fn a_row_of_a_season_and_its_performance_cost_no_allocation() {
    let mut profile =
        Profile::from_json(include_bytes!("../schema/example.profile.json")).expect("the example is valid");
    let subject = &profile.features[0];
    let mut counts = vec![vec![0; subject.reference_counts().len()]; HOURS];
    for (hour, counts) in counts.iter_mut().enumerate() {
        let bin = 1 + hour % 2;
        counts[bin] = 3;
    }
    let season = SeasonalCounts {
        subject: subject.name.clone(),
        counts,
    };
    profile.seasonality = Some(Seasonality {
        hour_of_week: vec![season],
    });
    let mut monitor = Monitor::new(&profile, Settings::default(), 0).expect("a valid profile");
    let mut performance =
        PerformanceMonitor::new(&profile, PerformanceSettings::default()).expect("a classifier");
    let task = performance.task().clone();
    let before = so_far();
    // Less than a window: its end does allocate.
    for i in 0..499_u32 {
        monitor.set_time(i64::from(i) * 3_600_000);
        monitor.observe_number(0, f64::from(i % 90));
        let _ = monitor.end_row();
        let mut probabilities = [f64::NAN, f64::from(i) / 500.0];
        let answer = task.prediction(None, &mut probabilities).expect("a probability");
        performance.observe(answer);
        performance.observe_truth(answer, (i % 2) as usize);
    }
    assert_eq!(so_far() - before, 0);
}
