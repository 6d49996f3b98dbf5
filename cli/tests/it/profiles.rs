//! `plumbline profile` on each format, with the truth beside the answers.

use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, FloatType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::Value;

use crate::support::{Model, run};

/// Rows of a classifier, seeded: every type, values missing.
struct Rows(Vec<Row>);

struct Row {
    amount: Option<f64>,
    visits: i64,
    plan: Option<&'static str>,
    paid: bool,
    left: bool,
    /// As the model answers.
    score: f32,
    /// Seconds since 1970.
    at: Option<i64>,
}

impl Rows {
    fn new(count: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(17);
        let row = |i| {
            let score = random.f32();
            Row {
                amount: Some(random.f64() * 100.0).filter(|x| *x > 5.0),
                visits: random.i64(0..40),
                plan: [Some("free"), Some("home"), Some("7"), None][random.usize(..4)],
                paid: random.bool(),
                left: random.f32() < score,
                score,
                // Half an hour apart; Saturday, the 31st of January 2026, is the first.
                at: Some(1_769_817_600 + 1_800 * i as i64).filter(|_| i % 100 != 50),
            }
        };
        Self((0..count).map(row).collect())
    }

    fn csv(&self) -> String {
        let line = |row: &Row| {
            let amount = row.amount.map_or_else(String::new, |x| x.to_string());
            let (visits, plan, paid) = (row.visits, row.plan.unwrap_or(""), row.paid);
            format!(
                "{amount},{visits},{plan},{paid},{},{},{},{}\n",
                row.left,
                row.label(),
                row.score,
                row.at.map_or_else(String::new, |at| at.to_string())
            )
        };
        let header = "amount,visits,plan,paid,left,label,score,at\n".to_owned();
        header + &self.0.iter().map(line).collect::<String>()
    }

    fn ndjson(&self) -> String {
        let line = |row: &Row| {
            let amount = row.amount.map_or_else(|| "null".to_owned(), |x| x.to_string());
            // A key that is not there is a missing value too.
            let plan = row
                .plan
                .map_or_else(String::new, |plan| format!("\"plan\": \"{plan}\", "));
            let (visits, paid, left) = (row.visits, row.paid, row.left);
            let at = row
                .at
                .map_or_else(|| "null".to_owned(), |at| at.to_string() + "000");
            format!(
                "{{\"amount\": {amount}, \"visits\": {visits}, {plan}\"paid\": {paid}, \"left\": {left}, \
                 \"label\": \"{}\", \"score\": {}, \"at\": {at}}}\n",
                row.label(),
                row.score
            )
        };
        self.0.iter().map(line).collect()
    }

    /// Two row groups, a dictionary of texts, nulls, and the compression that is asked for.
    fn parquet(&self, path: &Path, compression: Compression) {
        let schema = "message rows { optional double amount; required int64 visits; optional binary plan (utf8); \
                      required boolean paid; required boolean left; required binary label (utf8); required float score; \
                      optional int64 at (timestamp(NANOS,true)); }";
        let schema = Arc::new(parse_message_type(schema).expect("a schema"));
        let properties = WriterProperties::builder().set_compression(compression).build();
        let file = std::fs::File::create(path).expect("created");
        let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).expect("a writer");
        for rows in self.0.chunks(self.0.len().div_ceil(2)) {
            let levels = |present: &dyn Fn(&Row) -> bool| -> Vec<i16> {
                rows.iter().map(|row| i16::from(present(row))).collect()
            };
            let mut group = writer.next_row_group().expect("a row group");
            macro_rules! column {
                ($type:ty, $values:expr, $levels:expr) => {
                    let mut column = group.next_column().expect("a column").expect("one more");
                    let values: Vec<_> = $values;
                    let written = column.typed::<$type>().write_batch(&values, $levels, None);
                    written.expect("written");
                    column.close().expect("closed");
                };
            }
            let amounts = levels(&|row| row.amount.is_some());
            let plans = levels(&|row| row.plan.is_some());
            column!(
                DoubleType,
                rows.iter().filter_map(|row| row.amount).collect(),
                Some(&amounts)
            );
            column!(Int64Type, rows.iter().map(|row| row.visits).collect(), None);
            column!(
                ByteArrayType,
                rows.iter()
                    .filter_map(|row| row.plan.map(ByteArray::from))
                    .collect(),
                Some(&plans)
            );
            column!(BoolType, rows.iter().map(|row| row.paid).collect(), None);
            column!(BoolType, rows.iter().map(|row| row.left).collect(), None);
            column!(
                ByteArrayType,
                rows.iter().map(|row| ByteArray::from(row.label())).collect(),
                None
            );
            column!(FloatType, rows.iter().map(|row| row.score).collect(), None);
            let times = levels(&|row| row.at.is_some());
            column!(
                Int64Type,
                rows.iter()
                    .filter_map(|row| Some(row.at? * 1_000_000_000))
                    .collect(),
                Some(&times)
            );
            group.close().expect("closed");
        }
        writer.close().expect("closed");
    }
}

impl Row {
    fn label(&self) -> &'static str {
        if self.score > 0.5 { "true" } else { "false" }
    }
}

/// What is said of the rows that have no time.
const TIMELESS: &str = "warning: 12 of 1200 rows have no time: they count for no hour of the week\n";

/// The profile of a file, without what differs between files and moments; and what was said about it.
fn profile(path: &str, more: &[&str]) -> (Value, String) {
    let arguments = [
        "profile",
        path,
        "--target=left",
        "--output-columns=label,score",
        "--class=score=true",
        "--kind=paid=boolean",
        "--time-column=at",
    ];
    let done = run(&[&arguments, more].concat());
    assert_eq!(done.status, Some(0), "{}", done.err);
    let mut profile: Value = serde_json::from_str(&done.out).expect("JSON");
    assert!(
        profile["data"]["digest"]
            .as_str()
            .is_some_and(|digest| digest.starts_with("sha256:"))
    );
    profile["data"]["digest"] = Value::Null;
    profile["created_at"] = Value::Null;
    (profile, done.err)
}

#[test]
fn the_same_rows_in_every_format_make_the_same_profile() {
    let (model, rows) = (Model::new(), Rows::new(1_200));
    std::fs::write(model.path("scored.csv"), rows.csv()).expect("written");
    std::fs::write(model.path("scored.ndjson"), rows.ndjson()).expect("written");
    let (expected, said) = profile(&model.text("scored.csv"), &[]);
    assert_eq!(said, TIMELESS);
    let features = expected["features"].as_array().expect("features");
    let described: Vec<_> = features
        .iter()
        .map(|s| (s["name"].as_str(), s["datatype"].as_str(), s["kind"].as_str()))
        .collect();
    assert_eq!(
        described,
        [
            (Some("amount"), Some("FP32"), Some("numeric")),
            (Some("visits"), Some("FP32"), Some("numeric")),
            (Some("plan"), Some("BYTES"), Some("categorical")),
            (Some("paid"), Some("BOOL"), Some("boolean")),
        ],
        "the target is no feature"
    );
    assert!(features[0]["missing"].as_u64() > Some(0) && features[2]["missing"].as_u64() > Some(0));
    assert_eq!(
        expected["target"]["classes"],
        serde_json::json!(["true", "false"])
    );
    assert_eq!(expected["target"]["positive_class"], "true");
    assert_eq!(
        expected["calibration"][0]["bins"].as_array().map(Vec::len),
        Some(10)
    );
    // Leaving happens with the probability that the score says.
    let auc = expected["training"]["auc"].as_f64().expect("an AUC");
    assert!((0.8..0.87).contains(&auc), "{auc}");
    assert_eq!(expected["training"]["rows"], 1_200);

    // Every feature and output has a season.
    let seasons = expected["seasonality"]["hour_of_week"]
        .as_array()
        .expect("seasons");
    let named: Vec<_> = seasons.iter().map(|season| &season["subject"]).collect();
    assert_eq!(named, ["amount", "visits", "plan", "paid", "label", "score"]);
    for (season, subject) in seasons.iter().zip(features) {
        let rows = |counts: &Value| -> u64 {
            let counts = counts.as_array().expect("counts");
            counts.iter().filter_map(Value::as_u64).sum()
        };
        let hours = season["counts"].as_array().expect("hours");
        assert_eq!(hours.len(), 168);
        assert_eq!(
            hours.iter().map(rows).sum::<u64>(),
            1_200 - 12,
            "those with a time"
        );
        assert_eq!(rows(&hours[5 * 24]), 8, "Saturday at midnight, of four weeks");
        assert_eq!(
            subject["count"]
                .as_u64()
                .zip(subject["missing"].as_u64())
                .map(|(a, b)| a + b),
            Some(1_200)
        );
    }

    assert_eq!(profile(&model.text("scored.ndjson"), &[]).0, expected);
    for (name, compression) in [
        ("plain", Compression::UNCOMPRESSED),
        ("snappy", Compression::SNAPPY),
        ("zstd", Compression::ZSTD(ZstdLevel::default())),
    ] {
        let path = model.path(name);
        rows.parquet(&path, compression);
        assert_eq!(profile(&path.display().to_string(), &[]).0, expected, "{name}");
    }
}

#[test]
fn few_rows_are_warned_about_with_what_they_can_show() {
    let model = Model::new();
    std::fs::write(model.path("few.csv"), Rows::new(300).csv()).expect("written");
    let (_, said) = profile(&model.text("few.csv"), &[]);
    let (said, others) = said.split_once('\n').expect("lines");
    assert!(
        others.starts_with("warning: 3 of 300 rows have no time: "),
        "{others}"
    );
    assert!(
        others.contains("warning: the rows span 6.2 days; with less than 14, "),
        "{others}"
    );
    assert!(
        others.contains(" hours of the week have no rows, the first is Fri 06:00 UTC: "),
        "{others}"
    );
    let (start, rest) = said.split_once("effects of ").expect("an effect");
    assert_eq!(
        start,
        "warning: 300 rows; with less than 1000, a window of 500 rows shows only "
    );
    let effect: f64 = rest
        .split(' ')
        .next()
        .and_then(|text| text.parse().ok())
        .expect("a number");
    assert!(
        (0.15..0.3).contains(&effect) && rest.ends_with(" and more, where 0.1 is drift"),
        "{said}"
    );
}

#[test]
fn segments_have_the_rows_of_their_value_and_hold_for_them() {
    let (model, rows) = (Model::new(), Rows::new(1_200));
    std::fs::write(model.path("scored.csv"), rows.csv()).expect("written");
    let by = |column: &str| vec![format!("--segment-column={column}"), "--segments=3".to_owned()];
    let with = |flags: &[String]| {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        profile(&model.text("scored.csv"), &flags)
    };
    let (made, said) = with(&by("paid"));
    let paid = rows.0.iter().filter(|row| row.paid).count();
    let mut expected = [("true", paid), ("false", 1_200 - paid)];
    expected.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
    assert_eq!(
        (made["segments"]["feature"].as_str(), said.as_str()),
        (Some("paid"), TIMELESS)
    );
    let parts = made["segments"]["parts"].as_array().expect("parts");
    let found: Vec<_> = parts
        .iter()
        .map(|part| (part["value"].as_str(), part["rows"].as_u64()))
        .collect();
    assert_eq!(
        found,
        expected.map(|(value, rows)| (Some(value), Some(rows as u64)))
    );
    for part in parts {
        let names = |list: &Value| {
            list.as_array()
                .map(|l| l.iter().map(|s| s["name"].clone()).collect::<Vec<_>>())
        };
        assert_eq!(names(&part["features"]), names(&made["features"]));
        assert_eq!(names(&part["outputs"]), names(&made["outputs"]));
    }
    let monday_noon = |whole: &Value| {
        let seasons = whole["seasonality"]["hour_of_week"].as_array().expect("seasons");
        let rows = |season: &Value| -> u64 {
            let bins = season["counts"][12].as_array().expect("bins");
            bins.iter().filter_map(Value::as_u64).sum()
        };
        (seasons.len(), seasons.iter().map(rows).sum::<u64>())
    };
    let ((subjects, rows), parts) = (monday_noon(&made), [&parts[0], &parts[1]].map(monday_noon));
    assert!(rows > 0);
    assert_eq!([parts[0].0, parts[1].0], [subjects; 2]);
    assert_eq!(parts[0].1 + parts[1].1, rows);
    assert!(with(&[]).0.get("segments").is_none());

    let refused = run(&["profile", &model.text("scored.csv"), "--segment-column=plan"]);
    assert_eq!(refused.status, Some(1));
    assert!(
        refused
            .err
            .contains("--segment-column plan: expected a value with 500 rows, found `"),
        "{}",
        refused.err
    );
}

#[test]
fn measures_come_from_the_held_out_rows_and_importances_from_their_file() {
    let model = Model::new();
    std::fs::write(model.path("scored.csv"), Rows::new(1_200).csv()).expect("written");
    let held_out = "left,label,score\ntrue,true,0.75\nfalse,true,0.75\nfalse,false,0.25\n";
    std::fs::write(model.path("held-out.csv"), held_out).expect("written");
    std::fs::write(
        model.path("importances.csv"),
        "feature,importance\nplan,0.5\namount,0.25\n",
    )
    .expect("written");
    let (held_out, importances) = (
        format!("--held-out={}", model.text("held-out.csv")),
        format!("--importances={}", model.text("importances.csv")),
    );
    let (profile, _) = profile(&model.text("scored.csv"), &[&held_out, &importances]);
    let measures = |name: &str| profile["training"][name].as_f64();
    assert_eq!(
        ["rows", "accuracy", "precision", "recall", "auc"].map(measures),
        [Some(3.0), Some(2.0 / 3.0), Some(0.5), Some(1.0), Some(0.75)]
    );
    assert_eq!(
        profile["importances"],
        serde_json::json!([{"feature": "plan", "importance": 0.5}, {"feature": "amount", "importance": 0.25}])
    );
    assert_eq!(
        profile["data"]["rows"], 1_200,
        "the profile is of the rows themselves"
    );

    std::fs::write(model.path("importances.csv"), "feature,importance\nplam,0.5\n").expect("written");
    let refused = run(&["profile", &model.text("scored.csv"), &importances]);
    assert_eq!(refused.status, Some(1));
    assert!(
        refused
            .err
            .contains("expected the name of a feature, found \"plam\""),
        "{}",
        refused.err
    );
}

#[test]
fn a_time_column_is_a_feature_only_where_it_is_named_as_one() {
    let model = Model::new();
    std::fs::write(model.path("scored.csv"), Rows::new(1_200).csv()).expect("written");
    let text = model.text("scored.csv");
    let (as_input, _) = profile(&text, &["--datatype=at=INT64"]);
    let last = |profile: &Value| {
        let features = profile["features"].as_array().expect("features");
        features.last().expect("one")["name"].clone()
    };
    assert_eq!(
        (last(&as_input), &as_input["features"][4]["missing"]),
        ("at".into(), &12.into())
    );
    assert_eq!(last(&profile(&text, &[]).0), "paid");

    let refused = |arguments: &[&str]| {
        let done = run(&[&["profile", &text], arguments].concat());
        assert_eq!(done.status, Some(1));
        done.err
    };
    assert!(
        refused(&["--time-column=when"]).contains("--time-column: "),
        "no such column"
    );
    assert!(
        refused(&["--time-column=at", "--output-columns=at"])
            .contains("--time-column at: also one of --output-columns; ")
    );
    assert!(refused(&["--time-column=at", "--target=at"]).contains("--time-column at: also --target; "));
    let message = refused(&["--time-column=plan"]);
    assert!(
        message.contains("scored.csv:")
            && message.contains(": column `plan`: `")
            && message.contains("` is not a time: expected "),
        "{message}"
    );
}
