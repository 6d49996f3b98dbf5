//! `stream_golden.json`: alarm positions of the detectors on 17 streams.

use plumbline_drift::sequential::{Adwin, AdwinSettings, Bets, ConformalDetector, Cusum, Ewma, PageHinkley};
use plumbline_drift::stats::samples::sorted;
use plumbline_drift::{SplitMix64, fsum, quantile};
use serde_json::{Value, json};

use crate::generator::Spec;
use crate::{Comparison, check_sample, golden, number, numbers};

#[test]
fn every_detector_alarms_at_the_same_values() {
    let file = golden("stream_golden.json");
    let streams = file["streams"].as_array().expect("streams");
    assert_eq!(streams.len(), 17);
    let mut all = Comparison::default();
    let mut charts = 0;
    for stream in streams {
        let name = stream["name"].as_str().expect("a name");
        let (reference, x) = regenerate(name, stream);
        let mean = fsum(reference.iter().copied()) / reference.len() as f64;
        let variance = fsum(reference.iter().map(|v| (v - mean) * (v - mean))) / reference.len() as f64;
        let sd = variance.sqrt();
        all.number(&format!("{name} mean"), &stream["reference_mean"], Some(mean));
        all.number(&format!("{name} sd"), &stream["reference_sd"], Some(sd));
        if sd > 0.0 {
            charts += 1;
            // The file's own mean and deviation: a chart is a comparison with a limit, and a last digit can tip it.
            let (mean, sd) = (as_f64(&stream["reference_mean"]), as_f64(&stream["reference_sd"]));
            let z = || x.iter().map(|v| (v - mean) / sd);
            let mut cusum = Cusum::default();
            alarms(
                &mut all,
                &format!("{name} cusum"),
                &stream["cusum"],
                z().map(|z| cusum.update(z)),
            );
            let mut ewma = Ewma::default();
            alarms(
                &mut all,
                &format!("{name} ewma"),
                &stream["ewma"],
                z().map(|z| ewma.update(z)),
            );
        }
        conformal(&mut all, name, stream, &reference, &x);
        let river = &stream["river"];
        let mut adwin = Adwin::default();
        alarms(
            &mut all,
            &format!("{name} adwin"),
            &river["adwin_default"],
            x.iter().map(|v| adwin.update(*v)),
        );
        let mut strict = Adwin::new(AdwinSettings {
            delta: 1e-6,
            ..AdwinSettings::default()
        });
        let raised = x.iter().map(|v| strict.update(*v));
        alarms(
            &mut all,
            &format!("{name} adwin 1e-6"),
            &river["adwin_delta_1e-6"],
            raised,
        );
        let mut page_hinkley = PageHinkley::default();
        let raised = x.iter().map(|v| page_hinkley.update(*v));
        alarms(
            &mut all,
            &format!("{name} page-hinkley"),
            &river["page_hinkley_default"],
            raised,
        );
    }
    assert_eq!(charts, 16, "all but the constant reference");
    let (made, undefined) = all.finish();
    // Per stream: mean, sd, 3 first alarms, 13 to 15 checkpoints, 3 × 2 for river, and 2 × 2 for the charts of 16.
    assert_eq!(made, 502);
    assert_eq!(undefined, 0);
    println!("{made} comparisons");
}

fn regenerate(name: &str, stream: &Value) -> (Vec<f64>, Vec<f64>) {
    let n = stream["n"].as_u64().expect("a length") as usize;
    let change = stream["change_at"].as_u64().map_or(n, |c| c as usize);
    let before = Spec::parse(&stream["before"]);
    let mut x = before.sample(change, &stream["seed_before"]);
    if !stream["after"].is_null() {
        x.extend(Spec::parse(&stream["after"]).sample(n - change, &stream["seed_after"]));
    }
    check_sample(name, &x, &stream["check"]);
    let size = stream["n_reference"].as_u64().expect("a size") as usize;
    (before.sample(size, &stream["seed_reference"]), x)
}

fn alarms(all: &mut Comparison, what: &str, expected: &Value, raised: impl Iterator<Item = bool>) {
    let at: Vec<usize> = raised
        .enumerate()
        .filter(|(_, alarm)| *alarm)
        .map(|(i, _)| i)
        .collect();
    all.equal(&format!("{what} count"), &expected["count"], &json!(at.len()));
    all.equal(
        &format!("{what} positions"),
        &expected["first_60"],
        &json!(at[..at.len().min(60)]),
    );
}

fn conformal(all: &mut Comparison, name: &str, stream: &Value, reference: &[f64], x: &[f64]) {
    let expected = &stream["esr"];
    let ascending = sorted(reference.iter().copied());
    let mut edges: Vec<f64> = (1..32)
        .map(|k| quantile(&ascending, f64::from(k) / 32.0).expect("values"))
        .collect();
    edges.dedup();
    let theirs = numbers(&expected["edges"]);
    assert_eq!(edges, theirs, "{name}: edges");
    // Atoms have cells of their own: even cells lie between edges, odd ones on them.
    let cell = |v: f64| {
        let below = edges.partition_point(|e| *e < v);
        2 * below + usize::from(edges.get(below) == Some(&v))
    };
    let mut counts = vec![0_u64; 2 * edges.len() + 2];
    for v in reference {
        counts[cell(*v)] += 1;
    }
    let mut detector = ConformalDetector::new(&counts, Bets::Ranks);
    let mut rng = SplitMix64::new(
        stream["seed_u"]
            .as_str()
            .expect("a seed")
            .parse()
            .expect("an integer"),
    );
    let mut evidence = Vec::with_capacity(x.len());
    for v in x {
        detector
            .update(cell(*v), rng.uniform())
            .expect("a cell of the reference");
        evidence.push(detector.ln_evidence());
    }
    for checkpoint in expected["checkpoints"].as_array().expect("checkpoints") {
        let t = checkpoint[0].as_u64().expect("an index") as usize;
        all.number(
            &format!("{name} evidence at {t}"),
            &checkpoint[1],
            Some(evidence[t]),
        );
    }
    for (key, level) in [
        ("first_ge_ln1e3", 1e3_f64),
        ("first_ge_ln1e4", 1e4),
        ("first_ge_ln1e6", 1e6),
    ] {
        let first = evidence.iter().position(|e| *e >= level.ln());
        all.equal(&format!("{name} {key}"), &expected[key], &json!(first));
    }
}

fn as_f64(value: &Value) -> f64 {
    number(value).expect("a number")
}
