//! Cost of a value, of a row and of a verdict, and the bytes of a subject. `cargo bench -p plumbline-drift`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use plumbline_drift::monitor::{Monitor, Settings};
use plumbline_drift::profile::{Datatype, Kind, Profile, Segment, Segmentation, Subject};
use plumbline_drift::segments::Segments;
use plumbline_drift::sequential::{Bets, ConformalDetector};
use plumbline_drift::{SplitMix64, SubjectBuilder, Window, numeric};

const VALUES: usize = 1_000;
/// Rows of every reference here.
const REFERENCE: usize = 2_000;

/// Skewed numbers without repeats, as prices and durations are.
fn draw(rng: &mut SplitMix64, count: usize) -> Vec<f64> {
    (0..count).map(|_| rng.uniform() * rng.uniform() * 72.0).collect()
}

fn values(c: &mut Criterion) {
    let mut rng = SplitMix64::new(1);
    let (reference, rows) = (draw(&mut rng, VALUES), draw(&mut rng, VALUES));
    let mut group = c.benchmark_group("value");
    group.throughput(Throughput::Elements(VALUES as u64));

    let profile = numeric(reference);
    let bins = profile.counts.len();
    let mut window = Window::new(bins, profile.mean);
    group.bench_function(format!("histogram_and_moments/{bins}_bins"), |b| {
        b.iter(|| {
            for x in &rows {
                let bin = profile.edges.partition_point(|e| e <= x);
                window.observe_number(black_box(bin), *x);
            }
        });
    });

    for (name, counts, cells) in [
        ("numeric", profile.counts.clone(), bins),
        ("binary", vec![700, 300], 2),
        ("64_categories", vec![100; 64], 64),
    ] {
        let mut detector = ConformalDetector::new(&counts, Bets::for_reference(&counts));
        let inside = if name == "numeric" { 1..cells - 1 } else { 0..cells };
        let drawn: Vec<(usize, f64)> = (0..VALUES)
            .map(|_| {
                let cell = inside.start + (rng.uniform() * inside.len() as f64) as usize;
                (cell, rng.uniform())
            })
            .collect();
        group.bench_function(format!("detector/{name}"), |b| {
            b.iter(|| {
                for (cell, u) in &drawn {
                    black_box(detector.update(black_box(*cell), *u));
                }
            });
        });
    }

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

const PLANS: [&str; 5] = ["Month-to-month", "One year", "Two year", "Ten years", "none"];
/// Segments, by the feature 20; rows have them in turn.
const SEGMENTS: usize = 8;
const REGIONS: [&str; SEGMENTS] = [
    "north", "south", "east", "west", "island", "coast", "hills", "city",
];

/// 20 numbers, 9 categories and a truth value, of which one category is by row.
fn features(rng: &mut SplitMix64, rows: usize) -> Vec<Subject> {
    let mut features = Vec::new();
    for i in 0..30 {
        let name = format!("feature_{i}");
        let (datatype, kind) = match i {
            0..20 => (Datatype::Fp32, Kind::Numeric),
            20..29 => (Datatype::Bytes, Kind::Categorical),
            _ => (Datatype::Bool, Kind::Boolean),
        };
        let mut builder = SubjectBuilder::new(&name, &name, 0, datatype, kind);
        for (row, x) in draw(rng, rows).into_iter().enumerate() {
            match kind {
                _ if i == 20 => builder.push_text(REGIONS[row % SEGMENTS]),
                Kind::Numeric => builder.push_number(x),
                Kind::Boolean => builder.push_boolean(x < 10.0),
                _ => builder.push_text(PLANS[x as usize % PLANS.len()]),
            }
        }
        features.push(builder.finish());
    }
    features
}

fn observe(monitor: &mut Monitor, row: &[f64], region: &str) {
    for (i, x) in row.iter().enumerate() {
        match i {
            0..20 => monitor.observe_number(i, black_box(*x)),
            20 => monitor.observe_text(i, region.as_bytes()),
            21..29 => monitor.observe_text(i, PLANS[*x as usize % PLANS.len()].as_bytes()),
            _ => monitor.observe_boolean(i, *x < 10.0),
        }
    }
    black_box(monitor.end_row());
}

/// A request of one row, as it comes out of a decoder: compared with the whole alone, and with its segment too.
fn rows(c: &mut Criterion) {
    let mut rng = SplitMix64::new(2);
    let whole = profile(features(&mut rng, REFERENCE));
    let part = REFERENCE / SEGMENTS;
    let mut segment = |region: &&str| Segment {
        value: Some((*region).to_owned()),
        rows: part as u64,
        features: features(&mut rng, part),
        outputs: Vec::new(),
        seasonality: None,
    };
    let segmented = Profile {
        segments: Some(Segmentation {
            feature: "feature_20".to_owned(),
            parts: REGIONS.iter().map(&mut segment).collect(),
        }),
        ..whole.clone()
    };
    let drawn: Vec<Vec<f64>> = (0..VALUES).map(|_| draw(&mut rng, 30)).collect();
    let mut group = c.benchmark_group("row");
    group.throughput(Throughput::Elements(VALUES as u64));
    let settings = Settings::default();
    let mut monitor = Monitor::new(&whole, settings, 0).expect("a valid profile");
    group.bench_function("monitor/30_features", |b| {
        b.iter(|| {
            for (row, region) in drawn.iter().zip(REGIONS.iter().cycle()) {
                observe(&mut monitor, row, region);
            }
        });
    });
    let mut segments = Segments::new(&segmented, settings, 0)
        .expect("a valid profile")
        .expect("segments");
    group.bench_function("monitor/30_features/8_segments", |b| {
        b.iter(|| {
            for (row, region) in drawn.iter().zip(REGIONS.iter().cycle()) {
                observe(&mut monitor, row, region);
                let segment = segments.of_text(black_box(region.as_bytes()));
                if let Some(own) = segment.and_then(|segment| segments.monitor_mut(segment)) {
                    observe(own, row, region);
                }
            }
        });
    });
    group.finish();
}

fn verdicts(c: &mut Criterion) {
    let mut small = example();
    for i in 0..500 {
        small.observe_number(0, f64::from(i % 72));
        small.observe_text(1, b"One year");
        small.observe_number(2, f64::from(i) * 10.0);
        small.observe_integer(3, 1);
        small.observe_number(4, 0.3);
        small.observe_number(5, 0.7);
        let _full = small.end_row();
    }
    c.bench_function("report/6_subjects", |b| b.iter(|| black_box(small.report(0))));

    // 42 categories, those never seen, and missing values: the most bins.
    let names: Vec<String> = (0..42).map(|i| format!("category {i}")).collect();
    let subject = |feature: usize| {
        let name = format!("feature_{feature}");
        let mut builder = SubjectBuilder::new(&name, &name, 0, Datatype::Bytes, Kind::Categorical);
        for i in 0..REFERENCE * 10 {
            builder.push_text(&names[i % 42]);
        }
        builder.finish()
    };
    let mut large = monitor((0..100).map(subject).collect());
    let mut rng = SplitMix64::new(3);
    for _ in 0..500 {
        for feature in 0..100 {
            let name = &names[(rng.uniform() * 42.0) as usize];
            large.observe_text(feature, name.as_bytes());
        }
        let _full = large.end_row();
    }
    assert!(large.subjects().iter().all(|subject| subject.bins.len() == 44));
    c.bench_function("report/100_features/44_bins", |b| {
        b.iter(|| black_box(large.report(0)));
    });
    tell_bytes(&[
        ("the example's 6 subjects", &example()),
        ("100 features of 44 bins", &large),
    ]);
}

#[expect(
    clippy::print_stdout,
    reason = "a figure beside the times that criterion prints"
)]
fn tell_bytes(monitors: &[(&str, &Monitor)]) {
    for (what, monitor) in monitors {
        println!("bytes per subject at most, {what}: {}", monitor.subject_bytes());
    }
}

fn example() -> Monitor {
    let profile =
        Profile::from_json(include_bytes!("../schema/example.profile.json")).expect("the example is valid");
    Monitor::new(&profile, Settings::default(), 0).expect("a valid profile")
}

fn monitor(features: Vec<Subject>) -> Monitor {
    Monitor::new(&profile(features), Settings::default(), 0).expect("a valid profile")
}

fn profile(features: Vec<Subject>) -> Profile {
    let rows = features[0].count + features[0].missing;
    Profile::new("m", "1", rows, features, Vec::new())
}

criterion_group!(benches, values, rows, verdicts);
criterion_main!(benches);
