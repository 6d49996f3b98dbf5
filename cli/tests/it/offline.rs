//! Commands that need no server.

use serde_json::Value;

use crate::support::{Model, rows, run};

#[test]
fn profile_drift_and_check_say_in_their_status_what_they_found() {
    let model = Model::new();
    std::fs::write(
        model.path("moved.csv"),
        rows(13, 1_500, false).replace("free", "trial"),
    )
    .expect("written");
    let (rows, moved) = (model.text("rows.csv"), model.text("moved.csv"));
    let reference = model.text("reference.csv");

    let same = run(&["drift", &reference, &rows]);
    assert_eq!(same.status, Some(0), "{}{}", same.out, same.err);
    assert!(
        same.out
            .ends_with(" of 2 columns drifted, 0 with a warning (p-values below 2.5e-3 count)\n"),
        "{}",
        same.out
    );
    assert!(
        same.out.contains("only in") && !same.out.contains('\u{1b}'),
        "{}",
        same.out
    );

    let drifted = run(&["drift", &reference, &moved, "--format", "json"]);
    assert_eq!(drifted.status, Some(1));
    let found: Value = serde_json::from_str(&drifted.out).expect("JSON");
    let verdict = |name: &str| {
        let columns = found["columns"].as_array().expect("columns");
        columns
            .iter()
            .find(|column| column["name"] == name)
            .map(|column| column["verdict"].clone())
    };
    assert_eq!(verdict("amount"), Some("stable".into()));
    assert_eq!(verdict("plan"), Some("drift".into()));

    let check = run(&["check", &model.text("tiny/model.onnx")]);
    assert_eq!(check.status, Some(0), "{}", check.out);
    assert!(
        check.out.contains("amount  FP32      [-1, 1]") && check.out.contains("It will serve"),
        "{}",
        check.out
    );
    let check = run(&["check", &rows]);
    assert_eq!(check.status, Some(1));
    assert!(check.out.contains("It will not serve:"), "{}", check.out);
}

#[test]
fn bad_rows_are_told_in_one_line_with_their_place() {
    let model = Model::new();
    let file = |name: &str, text: &str| {
        std::fs::write(model.path(name), text).expect("written");
        model.text(name)
    };
    let rows = model.text("rows.csv");
    let problem = |arguments: &[&str], status: i32| {
        let done = run(arguments);
        assert_eq!(done.status, Some(status), "{done:?}");
        assert_eq!(done.out, "");
        assert_eq!(done.err.lines().count(), 1, "{}", done.err);
        done.err.trim_end().to_owned()
    };
    let ragged = file("ragged.csv", "amount,plan\n1,free\n2\n");
    assert_eq!(
        problem(&["drift", &rows, &ragged], 2),
        format!("plumbline: {ragged}:3: 1 cells where the header has 2")
    );
    assert_eq!(
        problem(&["profile", &ragged], 1),
        format!("plumbline: {ragged}:3: 1 cells where the header has 2")
    );
    let parquet = file("rows.parquet", "PAR1");
    assert!(
        problem(&["profile", &parquet], 1)
            .starts_with(&format!("plumbline: {parquet}: cannot read the Parquet file: "))
    );
    let excel = file("rows.xlsx", "PK\u{3}\u{4}");
    assert_eq!(
        problem(&["profile", &excel], 1),
        format!(
            "plumbline: {excel} is a zip or Excel file; rows are read from CSV, NDJSON and Parquet: convert it first"
        )
    );
    let lines = file("rows.ndjson", "{\"amount\": 1}\n{\"amount\": [2]}\n");
    assert_eq!(
        problem(&["profile", &lines], 1),
        format!(
            "plumbline: {lines}:2: column `amount`: expected a number, a truth value or a text, found an array"
        )
    );
    let missing = model.text("missing.csv");
    assert_eq!(
        problem(&["drift", &missing, &rows], 2),
        format!("plumbline: cannot read {missing}: No such file or directory (os error 2)")
    );
    let other = file("other.csv", "a,b\n1,2\n");
    assert_eq!(
        problem(&["drift", &rows, &other], 2),
        format!("plumbline: {rows} and {other} have no column in common")
    );
    assert!(problem(&["drift", &rows, &rows, "--exclude", "plam"], 2).contains("has no column `plam`"));
}

#[test]
fn every_command_has_help_with_examples() {
    for command in ["up", "demo", "replay", "feedback", "profile", "drift", "check"] {
        let help = run(&[command, "--help"]);
        assert_eq!(help.status, Some(0), "{command}");
        assert!(
            help.out.contains("Examples:\n  ") && help.out.contains("Usage: plumbline "),
            "{}",
            help.out
        );
    }
    assert_eq!(
        run(&["--version"]).out,
        format!("plumbline {}\n", env!("CARGO_PKG_VERSION"))
    );
    let unknown = run(&["replay", "rows.csv", "--model", "x", "--shift", "amount"]);
    assert_eq!(unknown.status, Some(2));
    assert!(unknown.err.contains("expected COLUMN=VALUE"), "{}", unknown.err);
}
