//! Profiles of shards, merged, are the profile of all rows.

use plumbline_drift::performance::calibration_bins;
use plumbline_drift::profile::{
    Answers, Calibration, Datatype, Kind, Numeric, Profile, Role, SeasonalCounts, Seasonality, Segment,
    Segmentation, Subject,
};
use plumbline_drift::{SubjectBuilder, is_usable, numeric_on};
use proptest::prelude::*;

/// A row: a number, a text, a truth value, a probability; each may be missing.
type Row = (Option<f64>, Option<&'static str>, Option<bool>, f64);

fn row() -> impl Strategy<Value = Row> {
    let number = prop_oneof![
        3 => (-3_i32..4).prop_map(|i| Some(f64::from(i))),
        3 => (-50.0..50.0_f64).prop_map(Some),
        1 => Just(None),
    ];
    let text = prop::option::of(prop::sample::select(vec!["a", "b", "c", "other"]));
    (number, text, prop::option::of(any::<bool>()), 0.0..1.0_f64)
}

/// Features `x` (on `edges`, where given), `t`, `b`, and output `p` with its calibration in one bin.
fn profile(rows: &[Row], edges: Option<(&[f64], &[f64])>) -> Profile {
    let builder = |name, datatype, kind| SubjectBuilder::new(name, name, 0, datatype, kind);
    let mut x = builder("x", Datatype::Fp64, Kind::Numeric);
    let mut t = builder("t", Datatype::Bytes, Kind::Categorical);
    let mut b = builder("b", Datatype::Bool, Kind::Boolean);
    let mut p = builder("p", Datatype::Fp64, Kind::Numeric).role(Role::Probability, Some("a"));
    for (number, text, truth, probability) in rows {
        x.push_number(number.unwrap_or(f64::NAN));
        t.push_text(text.unwrap_or(""));
        match truth {
            Some(truth) => b.push_boolean(*truth),
            None => b.push_missing(),
        }
        p.push_number(*probability);
    }
    let mut features = vec![x.finish(), t.finish(), b.finish()];
    let mut outputs = vec![p.finish()];
    if let Some((x, p)) = edges {
        let numbers = rows.iter().filter_map(|row| row.0).filter(|v| is_usable(*v));
        features[0].numeric = Some(numeric_on(x, numbers.collect()));
        outputs[0].numeric = Some(numeric_on(p, rows.iter().map(|row| row.3).collect()));
    }
    let bins = calibration_bins(&[], 1);
    Profile {
        calibration: Some(vec![Calibration {
            output: "p".to_owned(),
            bins: bins
                .into_iter()
                .map(|bin| {
                    let mean = rows.iter().map(|row| row.3).sum::<f64>() / rows.len().max(1) as f64;
                    let yes = rows.iter().filter(|row| row.1 == Some("a")).count();
                    plumbline_drift::profile::CalibrationBin {
                        count: rows.len() as u64,
                        predicted: mean,
                        observed: yes as f64 / rows.len().max(1) as f64,
                        ..bin
                    }
                })
                .collect(),
        }]),
        ..Profile::new("m", "1", rows.len() as u64, features, outputs)
    }
}

fn near(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs())),
        (a, b) => a == b,
    }
}

/// What is a count or a choice of one value is equal; what is a sum is equal up to rounding.
fn assert_merged(merged: &Numeric, whole: &Numeric) {
    let exact = |n: &Numeric| (n.edges.clone(), n.counts.clone(), n.min, n.max);
    assert_eq!(exact(merged), exact(whole));
    if whole.distinct <= 32 {
        assert_eq!(merged.distinct, whole.distinct, "one value a bin: exact");
    }
    // Of three shards the largest has at least a third.
    assert!(merged.distinct <= whole.distinct && merged.distinct * 3 >= whole.distinct);
    for (a, b) in merged.means.iter().zip(&whole.means) {
        assert!(near(*a, *b), "{a:?} {b:?}");
    }
    let moments = |n: &Numeric| [n.mean, n.variance, n.skewness, n.kurtosis];
    for (a, b) in moments(merged).into_iter().zip(moments(whole)) {
        assert!(near(a, b), "{:?} {:?}", moments(merged), moments(whole));
    }
    let bin = |x: f64| whole.edges.partition_point(|e| *e <= x);
    assert_eq!(merged.quantiles.len(), whole.quantiles.len());
    for (a, b) in merged.quantiles.iter().zip(&whole.quantiles) {
        assert_eq!(a.level, b.level);
        if whole.distinct <= 32 {
            assert_eq!(a.value, b.value, "one value a bin: exact");
        } else {
            assert!(bin(a.value).abs_diff(bin(b.value)) <= 1, "{a:?} {b:?}");
        }
    }
}

proptest! {
    #[test]
    fn shards_on_equal_edges_merge_to_the_whole(
        rows in prop::collection::vec(row(), 2..300),
        first in 0_usize..300,
        second in 0_usize..300,
    ) {
        let whole = profile(&rows, None);
        let numeric = |profile: &Profile| {
            let parts = profile.subjects().filter_map(|s| s.numeric.clone());
            parts.collect::<Vec<_>>()
        };
        let own = numeric(&whole);
        let edges = (own[0].edges.as_slice(), own[1].edges.as_slice());
        let (first, second) = (first.min(rows.len()), second.min(rows.len()));
        let cuts = (first.min(second), first.max(second));
        let shard = |rows: &[Row]| profile(rows, Some(edges));
        let (a, b, c) = (shard(&rows[..cuts.0]), shard(&rows[cuts.0..cuts.1]), shard(&rows[cuts.1..]));
        for merged in [
            a.merge(&b).and_then(|ab| ab.merge(&c)),
            b.merge(&c).and_then(|bc| a.merge(&bc)),
            c.merge(&a).and_then(|ca| ca.merge(&b)),
        ] {
            let merged = merged.expect("equal edges");
            prop_assert_eq!(merged.data.rows, rows.len() as u64);
            for (merged, whole) in merged.subjects().zip(whole.subjects()) {
                prop_assert_eq!(
                    (merged.count, merged.missing, &merged.categorical, merged.boolean),
                    (whole.count, whole.missing, &whole.categorical, whole.boolean)
                );
            }
            for (merged, whole) in numeric(&merged).iter().zip(&own) {
                assert_merged(merged, whole);
            }
            let curve = |p: &Profile| p.calibration.clone().expect("a curve")[0].bins[0].clone();
            let (merged, whole) = (curve(&merged), curve(&whole));
            prop_assert_eq!(merged.count, whole.count);
            prop_assert!(near(Some(merged.predicted), Some(whole.predicted)));
            prop_assert!(near(Some(merged.observed), Some(whole.observed)));
        }
    }
}

fn rows(values: &[f64]) -> Vec<Row> {
    let row = |x: &f64| (Some(*x), Some("a"), Some(true), 0.5);
    values.iter().map(row).collect()
}

#[test]
fn far_and_large_values_keep_their_moments() {
    for scale in [1e-150, 1.0, 1e145] {
        let values: Vec<f64> = (0..40).map(|i| (f64::from(i * i % 17) + 1e6) * scale).collect();
        let whole = profile(&rows(&values), None);
        let edges = whole.features[0].numeric.clone().expect("numbers").edges;
        let p = whole.outputs[0].numeric.clone().expect("numbers").edges;
        let shard = |values: &[f64]| profile(&rows(values), Some((&edges, &p)));
        let merged = shard(&values[..7])
            .merge(&shard(&values[7..]))
            .expect("equal edges");
        let moments = |profile: &Profile| {
            let n = profile.features[0].numeric.clone().expect("numbers");
            [
                n.mean.map(|x| x / scale),
                n.variance.map(|x| x / scale / scale),
                n.skewness,
                n.kurtosis,
            ]
        };
        for (a, b) in moments(&merged).into_iter().zip(moments(&whole)) {
            assert!(near(a, b), "{scale:e}: {a:?} {b:?}");
        }
    }
}

#[test]
fn every_difference_is_told() {
    let first = profile(&rows(&[1.0, 2.0]), None);
    let mut second = profile(&rows(&[1.0, 3.0]), None);
    second.model.version = "2".to_owned();
    second.features[1].tensor = "u".to_owned();
    second.calibration = None;
    let error = first.merge(&second).expect_err("different").to_string();
    for line in [
        "the profiles do not merge: 4 problems",
        "`model.version`: \"1\" in the first, \"2\" in the second",
        "`features[0].numeric.edges`: [0.5, 1.5, 2.5] in the first, [0.0, 2.0, 4.0] in the second",
        "`features[1].tensor`: \"t\" in the first, \"u\" in the second",
        "`calibration`: Some([(\"p\", [(0.0, 1.0)])]) in the first, None in the second",
    ] {
        assert!(error.contains(line), "{line}\n{error}");
    }
    let mut renamed = first.clone();
    renamed.features[0].name = "y".to_owned();
    let error = first.merge(&renamed).expect_err("different").to_string();
    assert!(
        error.contains("`features`: [\"x\", \"t\", \"b\"] in the first"),
        "{error}"
    );
}

#[test]
fn categories_that_are_not_known_do_not_merge() {
    let described = |values: std::ops::Range<u32>, times: usize| {
        let mut profile = profile(&rows(&vec![1.0; 3_000]), None);
        let mut t = SubjectBuilder::new("t", "t", 0, Datatype::Bytes, Kind::Categorical);
        for i in 0..3_000_usize {
            let value = values.start + (i / times) as u32 % values.len() as u32;
            t.push_text(&value.to_string());
        }
        profile.features[1] = t.finish();
        profile
    };
    let reason = |a: &Profile, b: &Profile| a.merge(b).expect_err("refused").to_string();
    let (many, few) = (described(0..280, 1), described(0..3, 1));
    assert!(reason(&few, &many).contains("`features[1].categorical.other`: 240 rows in the second"));
    let (low, high) = (described(0..200, 1), described(200..500, 12));
    let merged = low.merge(&high).expect("250 and 200 categories");
    let categorical = merged.features[1].categorical.clone().expect("categories");
    assert_eq!((categorical.distinct, categorical.categories.len()), (450, 256));
    let (some, others) = (described(0..256, 1), described(256..512, 1));
    let long = |n| (0..n).fold(some.clone(), |all, _| all.merge(&some).expect("the same texts"));
    assert!(long(1).merge(&others).is_ok(), "512 texts in 9,000 rows");
}

#[test]
fn hours_of_the_week_add_up() {
    let season = |hour: usize| {
        let mut profile = profile(&rows(&[1.0, 2.0]), None);
        let bins = profile.features[2].reference_counts();
        let mut counts = vec![vec![0; bins.len()]; 168];
        counts[hour] = bins;
        profile.seasonality = Some(Seasonality {
            hour_of_week: vec![SeasonalCounts {
                subject: "b".to_owned(),
                counts,
            }],
        });
        profile
    };
    let merged = season(3).merge(&season(167)).expect("the same subjects");
    let counts = &merged.seasonality.expect("seasons").hour_of_week[0].counts;
    assert_eq!(
        (&counts[3], &counts[167], &counts[4]),
        (&vec![0, 2, 0], &vec![0, 2, 0], &vec![0, 0, 0])
    );
}

#[test]
fn hours_of_categories_in_another_order_add_up() {
    let part = |hour: usize, texts: &[&'static str]| {
        let rows: Vec<Row> = texts
            .iter()
            .map(|text| (Some(1.0), Some(*text), Some(true), 0.5))
            .collect();
        let mut profile = profile(&rows, None);
        let bins = profile.features[1].reference_counts();
        let mut counts = vec![vec![0; bins.len()]; 168];
        counts[hour].clone_from(&bins);
        profile.seasonality = Some(Seasonality {
            hour_of_week: vec![SeasonalCounts {
                subject: "t".to_owned(),
                counts,
            }],
        });
        profile
    };
    let merged = part(3, &["a", "a", "b"]).merge(&part(4, &["b", "b", "b", "c"]));
    let merged = merged.expect("the same subjects");
    assert_eq!(merged.features[1].reference_counts(), [4, 2, 1, 0, 0], "b, a, c");
    let counts = &merged.seasonality.expect("seasons").hour_of_week[0].counts;
    assert_eq!(
        (&counts[3], &counts[4]),
        (&vec![1, 2, 0, 0, 0], &vec![3, 0, 1, 0, 0])
    );
}

#[test]
fn a_digest_stays_only_when_it_is_of_the_same_data() {
    let digest = |byte: &str| Some(format!("sha256:{}", byte.repeat(32)));
    let mut first = profile(&rows(&[1.0]), None);
    first.data.digest = digest("ab");
    let mut second = first.clone();
    second.created_at = "2027-01-31T12:00:00Z".to_owned();
    let merged = first.merge(&second).expect("equal");
    assert_eq!(
        (merged.data.digest, merged.created_at),
        (digest("ab"), second.created_at.clone())
    );
    second.data.digest = digest("cd");
    assert_eq!(first.merge(&second).expect("equal").data.digest, None);
}

#[test]
fn measures_of_different_rows_do_not_merge() {
    let mut first = profile(&rows(&[1.0]), None);
    let measured = |label| {
        Answers {
            truth: &["a"],
            labels: Some(&[label]),
            probabilities: &[],
            classes: &["a", "b"],
            positive_class: None,
        }
        .measure()
    };
    first.training = Some(measured("a"));
    let mut second = first.clone();
    assert!(first.merge(&second).is_ok());
    second.training = Some(measured("b"));
    assert!(
        first
            .merge(&second)
            .expect_err("different")
            .to_string()
            .contains("`training`")
    );
}

/// A profile whose segments of `t` are the rows with "a" and all others.
fn segmented(rows: &[Row], edges: (&[f64], &[f64])) -> Profile {
    let segment = |value: Option<&str>| {
        let own = rows.iter().filter(|row| (row.1 == Some("a")) == value.is_some());
        let own: Vec<Row> = own.copied().collect();
        let part = profile(&own, Some(edges));
        Segment {
            value: value.map(str::to_owned),
            rows: part.data.rows,
            features: part.features,
            outputs: part.outputs,
            seasonality: None,
        }
    };
    Profile {
        segments: Some(Segmentation {
            feature: "t".to_owned(),
            parts: vec![segment(Some("a")), segment(None)],
        }),
        ..profile(rows, Some(edges))
    }
}

#[test]
fn segments_of_shards_merge_when_they_are_the_same() {
    let texts = [Some("a"), Some("b"), None];
    let row = |i: usize| (Some((i % 7) as f64), texts[i % 3], Some(i.is_multiple_of(2)), 0.5);
    let rows: Vec<Row> = (0..90).map(row).collect();
    let whole = profile(&rows, None);
    let edges = |subject: &Subject| {
        let numeric = subject.numeric.as_ref().expect("a number");
        numeric.edges.clone()
    };
    let (x, p) = (edges(&whole.features[0]), edges(&whole.outputs[0]));
    let segmented = |rows: &[Row]| segmented(rows, (&x, &p));
    let (first, second) = rows.split_at(30);
    let merged = segmented(first)
        .merge(&segmented(second))
        .expect("the same segments");
    let of = |profile: &Profile| {
        let parts = &profile.segments.as_ref().expect("segments").parts;
        let counts = |part: &Segment| {
            let subjects = part.features.iter().chain(&part.outputs);
            (
                part.rows,
                subjects.map(Subject::reference_counts).collect::<Vec<_>>(),
            )
        };
        parts.iter().map(counts).collect::<Vec<_>>()
    };
    assert_eq!(of(&merged), of(&segmented(&rows)));

    let mut other = segmented(second);
    other.segments.as_mut().expect("segments").parts[0].value = Some("b".to_owned());
    let error = segmented(first)
        .merge(&other)
        .expect_err("other segments")
        .to_string();
    assert!(
        error.contains(r#"`segments`: Some(("t", ["a", "other"])) in the first, Some(("t", ["b", "other"])) in the second"#),
        "{error}"
    );
    other.segments = None;
    let error = segmented(first).merge(&other).expect_err("none").to_string();
    assert!(error.contains("None in the second"), "{error}");
    let mut other = segmented(second);
    let parts = &mut other.segments.as_mut().expect("segments").parts;
    let numeric = parts[1].features[0].numeric.as_mut().expect("a number");
    numeric.edges[0] -= 1.0;
    let error = segmented(first)
        .merge(&other)
        .expect_err("other bins")
        .to_string();
    assert!(
        error.contains("`segments.parts[1].features[0].numeric.edges`"),
        "{error}"
    );
}
