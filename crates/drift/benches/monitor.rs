//! Cost of a value and of a verdict. `cargo bench -p plumbline-drift`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use plumbline_drift::monitor::{Monitor, Settings};
use plumbline_drift::profile::Profile;
use plumbline_drift::{SplitMix64, Window, numeric};

const VALUES: usize = 1_000;

fn values(c: &mut Criterion) {
    let mut rng = SplitMix64::new(1);
    let mut draw = || {
        (0..VALUES)
            .map(|_| rng.uniform() * rng.uniform() * 72.0)
            .collect::<Vec<f64>>()
    };
    let (reference, rows) = (draw(), draw());
    let mut group = c.benchmark_group("value");
    group.throughput(Throughput::Elements(VALUES as u64));

    let profile = numeric(reference);
    let mut window = Window::new(profile.counts.len(), profile.mean);
    group.bench_function(
        format!("histogram_and_moments/{}_bins", profile.counts.len()),
        |b| {
            b.iter(|| {
                for x in &rows {
                    let bin = profile.edges.partition_point(|e| e <= x);
                    window.observe_number(black_box(bin), *x);
                }
            });
        },
    );

    let mut monitor = example();
    for (i, subject) in [(0, "numeric"), (4, "probability")] {
        group.bench_function(format!("monitor/{subject}"), |b| {
            b.iter(|| {
                for x in &rows {
                    monitor.observe_number(i, black_box(*x));
                }
            });
        });
    }
    let texts = [&b"Two year"[..], b"Month-to-month", b"One year", b"never seen"];
    group.bench_function("monitor/category", |b| {
        b.iter(|| {
            for i in 0..VALUES {
                monitor.observe_text(1, black_box(texts[i % texts.len()]));
            }
        });
    });
    group.finish();
}

fn verdicts(c: &mut Criterion) {
    let mut monitor = example();
    for i in 0..500 {
        monitor.observe_number(0, f64::from(i % 72));
        monitor.observe_text(1, b"One year");
        monitor.observe_number(2, f64::from(i) * 10.0);
        monitor.observe_integer(3, 1);
        monitor.observe_number(4, 0.3);
        monitor.observe_number(5, 0.7);
        monitor.end_row();
    }
    c.bench_function("report/6_subjects", |b| b.iter(|| black_box(monitor.report(0))));
}

fn example() -> Monitor {
    let profile =
        Profile::from_json(include_bytes!("../schema/example.profile.json")).expect("the example is valid");
    Monitor::new(&profile, Settings::default(), 0).expect("a valid profile")
}

criterion_group!(benches, values, verdicts);
criterion_main!(benches);
