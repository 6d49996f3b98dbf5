//! What holds for every input: bounds, symmetry, and that nothing is ever NaN, infinite or a panic.

use plumbline_drift::monitor::{Monitor, Settings};
use plumbline_drift::profile::{Datatype, Kind, Profile};
use plumbline_drift::special::{
    chi2_sf, cramer_von_mises_sf, kolmogorov_sf, ks_one_sample_sf, ks_two_sample_sf, normal_sf,
};
use plumbline_drift::stats::binned::{Pair, pool_bins, pooled};
use plumbline_drift::stats::samples;
use plumbline_drift::{SubjectBuilder, quantile};
use proptest::prelude::*;

/// Two histograms over the same bins, each with a row; counts from none to a billion.
fn histograms() -> impl Strategy<Value = (Vec<u64>, Vec<u64>)> {
    let count = prop_oneof![3 => Just(0_u64), 5 => 0_u64..50, 1 => 0_u64..1_000_000_000];
    (1_usize..40)
        .prop_flat_map(move |bins| {
            (
                prop::collection::vec(count.clone(), bins),
                prop::collection::vec(count.clone(), bins),
            )
        })
        .prop_filter("rows on both sides", |(a, b)| {
            a.iter().sum::<u64>() > 0 && b.iter().sum::<u64>() > 0
        })
}

/// Numbers as they come: ties, zeros, tiny, huge, and what is no number.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-20_i32..20).prop_map(f64::from),
        4 => -1.0..1.0_f64,
        1 => prop::num::f64::ANY,
        1 => prop_oneof![Just(0.0), Just(-0.0), Just(5e-324), Just(1e300), Just(-1e300), Just(f64::MAX)],
    ]
}

fn sample() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-50.0..50.0_f64, 1..60).prop_map(samples::sorted)
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12 + 1e-9 * a.abs().max(b.abs())
}

proptest! {
    #[test]
    fn measures_of_histograms_are_bounded_and_symmetric((a, b) in histograms()) {
        let (there, back) = (Pair::new(&a, &b).expect("rows"), Pair::new(&b, &a).expect("rows"));
        let symmetric = |p: &Pair<'_>| [
            p.psi(),
            p.psi_null_mean(),
            p.js_distance(),
            p.hellinger(),
            p.total_variation(),
            p.l_infinity(),
            p.kolmogorov_smirnov().statistic,
        ];
        for (x, y) in symmetric(&there).into_iter().zip(symmetric(&back)) {
            prop_assert!(x.is_finite() && x >= 0.0 && close(x, y), "{x} {y}");
        }
        let unit = [there.js_distance(), there.hellinger(), there.total_variation(), there.l_infinity()];
        prop_assert!(unit.iter().all(|x| *x <= 1.0 + 1e-12), "{unit:?}");
        prop_assert!(there.l_infinity() <= there.total_variation() + 1e-12);
        prop_assert!(there.kolmogorov_smirnov().statistic <= there.total_variation() + 1e-12);
        prop_assert!(there.kl_detection_from_reference() >= 0.0);
        prop_assert!(close(
            there.psi(),
            there.kl_detection_from_reference() + there.kl_reference_from_detection()
        ), "PSI is the sum of both divergences");
        if let (Some(chi2), Some(v)) = (there.chi_square(), there.cramers_v()) {
            prop_assert!(chi2.statistic >= 0.0 && (0.0..=1.0).contains(&chi2.p_value));
            prop_assert!((0.0..=1.0 + 1e-9).contains(&v), "{v}");
        }
        let same = Pair::new(&a, &a).expect("rows");
        prop_assert!(same.psi() == 0.0 && same.total_variation() == 0.0 && same.js_distance() == 0.0);
    }

    #[test]
    fn p_values_fall_as_their_statistic_rises(x in 0.0..60.0_f64, more in 0.0..20.0_f64, dof in 1_u32..60, n in 2_u64..60, m in 2_u64..60) {
        let dof = f64::from(dof);
        prop_assert!(chi2_sf(x + more, dof) <= chi2_sf(x, dof));
        prop_assert!(normal_sf(x + more) <= normal_sf(x));
        // Good to seven digits, up to 4.
        let cramer_von_mises = |x: f64| cramer_von_mises_sf(x / 20.0);
        prop_assert!(cramer_von_mises(x + more) <= cramer_von_mises(x) + 1e-6);
        // From a statistic of no difference to the largest; near the seam of two series the last digits may differ.
        let (d, larger) = (x / 80.0, ((x + more) / 80.0).min(1.0));
        prop_assert!(kolmogorov_sf(4.0 * larger) <= kolmogorov_sf(4.0 * d) + 1e-14);
        prop_assert!(ks_one_sample_sf(larger, n) <= ks_one_sample_sf(d, n) + 1e-12);
        let exact = |d| ks_two_sample_sf(d, n, m, 10_000).expect("few cells");
        prop_assert!(exact(larger) <= exact(d) + 1e-12);
    }

    #[test]
    fn a_larger_shift_is_a_larger_difference(step in 0.01..0.5_f64, sd in 0.5..3.0_f64) {
        // A normal law in 40 bins, and the same moved to the right.
        let law = |shift: f64| -> Vec<u64> {
            let below = |x: f64| 1.0 - normal_sf((x - shift) / sd);
            (-20..20).map(|i| (1e9 * (below(f64::from(i) + 1.0) - below(f64::from(i)))).round() as u64).collect()
        };
        let reference = law(0.0);
        let mut before = [0.0; 3];
        for k in 1..6 {
            let moved = law(f64::from(k) * step);
            let pair = Pair::new(&reference, &moved).expect("rows");
            let now = [pair.psi(), pair.js_distance(), pair.kolmogorov_smirnov().statistic];
            prop_assert!(now.iter().zip(&before).all(|(now, before)| now > before), "{now:?} {before:?}");
            before = now;
        }
    }

    #[test]
    fn wasserstein_is_the_shift_itself(a in sample(), shift in 0.0..50.0_f64) {
        let moved: Vec<f64> = a.iter().map(|x| x + shift).collect();
        let distance = samples::wasserstein(&a, &moved).expect("values");
        prop_assert!((distance - shift).abs() <= 1e-9, "{distance} {shift}");
    }

    #[test]
    fn pooling_keeps_rows_and_never_adds_difference((a, b) in histograms(), ordered in any::<bool>()) {
        let groups = pool_bins(&a, &b, 5.0, ordered).expect("rows");
        let (large_a, large_b) = (pooled(&a, &groups), pooled(&b, &groups));
        prop_assert_eq!(large_a.iter().sum::<u64>(), a.iter().sum::<u64>());
        prop_assert_eq!(large_b.iter().sum::<u64>(), b.iter().sum::<u64>());
        let all = Pair::new(&a, &b).expect("rows").total_variation();
        let large = Pair::new(&large_a, &large_b).expect("rows").total_variation();
        prop_assert!(large <= all + 1e-12);
    }

    #[test]
    fn measures_of_samples_are_bounded_and_symmetric(a in sample(), b in sample(), c in sample()) {
        let (there, back) = (samples::kolmogorov_smirnov(&a, &b).expect("values"), samples::kolmogorov_smirnov(&b, &a).expect("values"));
        prop_assert_eq!(there.statistic, back.statistic);
        for p in [there.p_value(), there.p_limit, there.p_stephens, there.p_one_sample] {
            prop_assert!((0.0..=1.0).contains(&p), "{there:?}");
        }
        prop_assert!(close(there.p_value(), back.p_value()));
        let w = |x: &[f64], y: &[f64]| samples::wasserstein(x, y).expect("values");
        prop_assert!(close(w(&a, &b), w(&b, &a)));
        prop_assert!(w(&a, &c) <= w(&a, &b) + w(&b, &c) + 1e-9, "a distance");
        prop_assert_eq!(w(&a, &a), 0.0);
        let energy = samples::energy_distance(&a, &b).expect("values");
        prop_assert!(energy.is_finite() && energy >= 0.0);
        prop_assert!(samples::anderson_darling(&a, &b).is_none_or(f64::is_finite));
        prop_assert!(samples::cramer_von_mises(&a, &b).is_none_or(|t| (0.0..=1.0).contains(&t.p_value)));
    }

    #[test]
    fn any_numbers_make_a_valid_profile_and_any_rows_a_finite_report(
        reference in prop::collection::vec(number(), 1..200),
        rows in prop::collection::vec(number(), 0..300),
        texts in prop::collection::vec("[a-c]?", 1..200),
    ) {
        let profile = profile(&reference, &texts);
        prop_assert!(profile.validate().is_ok(), "{:?}", profile.validate());
        let again = Profile::from_json(profile.to_json().as_bytes());
        prop_assert_eq!(again.expect("what was written can be read"), profile.clone());

        let settings = Settings { window_rows: 100, min_rows: 20, ..Settings::default() };
        let mut monitor = Monitor::new(&profile, settings, 0).expect("a valid profile");
        for (i, x) in rows.iter().enumerate() {
            monitor.observe_number(0, *x);
            monitor.observe_number(1, *x);
            monitor.observe_text(2, texts.get(i).map_or("", String::as_str).as_bytes());
            monitor.observe_boolean(9, true);
            if monitor.end_row() {
                assert_finite(&serde_json::to_value(monitor.close_window(i as i64)).expect("JSON"), "");
            }
        }
        assert_finite(&serde_json::to_value(monitor.report(1)).expect("JSON"), "");
        for subject in 0..2 {
            prop_assert_eq!(monitor.counters(subject).observed, rows.len() as u64);
        }
    }

    #[test]
    fn quantiles_ascend_within_the_range(values in prop::collection::vec(-1e3..1e3_f64, 1..50), p in 0.0..1.0_f64, q in 0.0..1.0_f64) {
        let sorted = samples::sorted(values);
        let at = |level| quantile(&sorted, level).expect("values");
        prop_assert!(at(p.min(q)) <= at(p.max(q)));
        prop_assert!(sorted.first().is_some_and(|min| *min <= at(p)) && sorted.last().is_some_and(|max| at(p) <= *max));
    }
}

#[test]
fn a_reference_with_the_smallest_spread_there_is_makes_no_infinity() {
    let profile = profile(&[5e-324, 0.0], &[]);
    let mut monitor = Monitor::new(&profile, Settings::default(), 0).expect("a valid profile");
    monitor.observe_number(0, 1.0);
    monitor.end_row();
    assert_finite(&serde_json::to_value(monitor.report(1)).expect("JSON"), "");
}

/// serde writes NaN and infinities as null; a report has no nulls but where a field says so.
fn assert_finite(value: &serde_json::Value, path: &str) {
    match value {
        serde_json::Value::Null => assert!(path.ends_with("/statistics"), "{path} is not a number"),
        serde_json::Value::Array(list) => {
            for item in list {
                assert_finite(item, path);
            }
        }
        serde_json::Value::Object(map) => {
            for (key, item) in map {
                assert_finite(item, &format!("{path}/{key}"));
            }
        }
        _ => {}
    }
}

fn profile(numbers: &[f64], texts: &[String]) -> Profile {
    let mut numeric = SubjectBuilder::new("numeric", "numeric", 0, Datatype::Fp64, Kind::Numeric);
    let mut class = SubjectBuilder::new("class", "class", 0, Datatype::Fp64, Kind::Categorical);
    let mut text = SubjectBuilder::new("text", "text", 0, Datatype::Bytes, Kind::Categorical);
    for i in 0..numbers.len().max(texts.len()) {
        if let Some(x) = numbers.get(i) {
            numeric.push_number(*x);
            class.push_number(*x);
        } else {
            numeric.push_missing();
            class.push_missing();
        }
        text.push_text(texts.get(i).map_or("", String::as_str));
    }
    let subjects = vec![numeric.finish(), class.finish(), text.finish()];
    Profile {
        created_at: "2026-01-31T12:00:00.5Z".to_owned(),
        ..Profile::new(
            "any",
            "1",
            numbers.len().max(texts.len()) as u64,
            subjects,
            Vec::new(),
        )
    }
}
