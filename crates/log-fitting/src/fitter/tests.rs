use std::fmt::Write as _;

use super::*;
use crate::select::GAP;
use crate::text::tokens;

fn fit(text: &str, tokens: usize) -> Fitted {
    let mut fitter = Fitter::new(None);
    fitter.extend(Line::parse_all(text));
    fitter.fit(tokens)
}

#[test]
fn a_rare_error_survives_ten_thousand_ordinary_lines() {
    let mut text = String::new();
    for i in 0..10_000 {
        let _ = writeln!(text, "INFO request {i} answered in {} us", i % 97);
        if i == 4_321 {
            text.push_str("ERROR checksum mismatch in shard 7\n");
        }
    }
    let fitted = fit(&text, 500);
    assert!(
        fitted.text.contains("4323: ERROR checksum mismatch in shard 7"),
        "{}",
        fitted.text
    );
    assert!(tokens(&fitted.text) <= 500, "{}", fitted.text);
    assert_eq!((fitted.lines, fitted.errors), (10_001, 1));
    assert!(fitted.templates <= 2 && fitted.kept < 30, "{fitted:?}");
    assert!(fitted.text.contains(" lines left out"));
}

#[test]
fn a_repeated_error_does_not_push_out_a_single_one() {
    let mut text = "ERROR upstream 10.0.0.1 refused the connection\n".repeat(5_000);
    text.push_str("ERROR cannot allocate tensor of 12884901888 bytes\n");
    text.push_str(&"ERROR upstream 10.0.0.1 refused the connection\n".repeat(5_000));
    let fitted = fit(&text, 200);
    assert!(
        fitted.text.contains("5001: ERROR cannot allocate tensor"),
        "{}",
        fitted.text
    );
    assert!(fitted.text.contains("refused the connection"));
}

#[test]
fn what_was_left_out_is_named() {
    let mut text = "DEBUG polled queue depth 3\n".repeat(50);
    text.push_str(&"FATAL model cannot be loaded from /mnt/models\n".repeat(2));
    let fitted = fit(&text, 40);
    assert!(fitted.text.contains("FATAL"), "{}", fitted.text);
    assert_eq!(fitted.left_out, [("DEBUG polled queue depth <*>".to_owned(), 50)]);
}

#[test]
fn a_huge_line_is_clipped_and_says_so() {
    let text = format!(
        "{}\nERROR true cause: checksum mismatch in shard 7\n",
        "A".repeat(1 << 20)
    );
    let fitted = fit(&text, 1_000);
    assert!(fitted.text.contains("[cut 1047976 bytes]"), "{}", fitted.text);
    assert!(fitted.text.contains("checksum mismatch in shard 7"));
}

#[test]
fn an_empty_log_is_empty() {
    let fitted = fit("", 1_000);
    assert_eq!((fitted.text.as_str(), fitted.lines, fitted.kept), ("", 0, 0));
}

#[test]
fn what_good_runs_have_too_gives_way_to_what_is_new() {
    let usual = "ERROR cache of shard 3 cannot be read, built anew\n";
    let log = format!(
        "{}ERROR schema of table users is missing\n{}",
        usual.repeat(3),
        usual.repeat(3)
    );
    let good: Vec<Line> = Line::parse_all(&usual.replace('3', "7")).collect();
    let mut fitter = Fitter::new(Some(good.iter().collect()));
    fitter.extend(Line::parse_all(&log));
    // The end has its part of the room in any case.
    let fitted = fitter.fit(60);
    assert!(
        fitted.text.contains("4: ERROR schema of table users"),
        "{}",
        fitted.text
    );
    assert!(!fitted.text.contains("1: ERROR cache"), "{}", fitted.text);
}

#[test]
fn the_step_that_failed_comes_before_those_that_did_not() {
    let step = |name: &str, error: &str| {
        format!("##[group]Run {name}\nError: {name} cannot find its cache\n{error}")
    };
    let log = step("first", "done\n")
        + &step("second", "##[error]Process completed with exit code 1.\n")
        + "Post job cleanup.\nError: no state\n";
    let worth = {
        let mut fitter = Fitter::new(None);
        fitter.extend(Line::parse_all(&log));
        weigh(&fitter.entries, &fitter.counts)
    };
    assert!(worth[4] > 2.0 * worth[1], "{worth:?}");
    assert!(worth[5] > worth[4], "the verdict: {worth:?}");
    assert!(worth[7] < worth[4], "after it: {worth:?}");
}

#[test]
fn a_time_is_told_where_the_second_changes() {
    let log = "2026-08-21T10:14:03.1Z error: one\n2026-08-21T10:14:03.2Z error: two\n2026-08-21T10:14:04.1Z error: three\n";
    assert_eq!(
        fit(log, 1_000).text,
        "1: 2026-08-21T10:14:03.1Z error: one\n2: error: two\n3: 2026-08-21T10:14:04.1Z error: three\n"
    );
}

#[test]
fn the_text_is_never_longer_than_its_budget() {
    let mut seed = 7_u64;
    let mut next = |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let words = [
        "error:",
        "ok",
        "FAILED",
        "a.rs:3",
        "größer",
        "warning",
        "2026-08-21T10:14:03Z",
        "##[error]",
    ];
    for lines in [1, 7, 300] {
        let mut log = String::new();
        for line in 0..lines {
            let _ = write!(log, "2026-08-21T10:{:02}:{:02}Z", line % 60, next(60));
            for _ in 0..next(9) {
                let _ = write!(log, " {}", words[next(8) as usize]);
            }
            log.push('\n');
        }
        for budget in [0, 1, 10, 40, 100, 1_000] {
            let fitted = fit(&log, budget);
            assert!(
                fitted.text.len() <= (budget * BYTES_PER_TOKEN).max(GAP),
                "{budget}: {}",
                fitted.text
            );
        }
    }
}

#[test]
fn a_log_that_is_longer_than_what_is_held_keeps_its_errors() {
    let mut fitter = Fitter::new(None);
    let mut number = 0;
    let mut add = |text: &str| {
        number += 1;
        fitter.add(Line::parse(number, text, text.len()));
    };
    for line in 0..250_000 {
        add(&format!(
            "copied object {line} of the bucket to its new place, nothing to see"
        ));
        if line == 60_000 {
            add("java.io.IOException: checksum of part 12 differs");
        }
    }
    assert!(fitter.held <= MAX_HELD, "{}", fitter.held);
    let fitted = fitter.fit(300);
    assert!(
        fitted.text.contains("60002: java.io.IOException: checksum"),
        "{}",
        fitted.text
    );
    assert_eq!((fitted.lines, fitted.errors), (250_001, 1));
}
