use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Profile, ProfileError};
use crate::SubjectBuilder;

const EXAMPLE: &str = include_str!("../../schema/example.profile.json");
const SCHEMA: &str = include_str!("../../schema/profile.schema.json");
const GOLDEN: &str = include_str!("../../tests/golden/profile_golden.json");

fn example() -> Value {
    serde_json::from_str(EXAMPLE).expect("the example is JSON")
}

fn read(value: &Value) -> Result<Profile, ProfileError> {
    Profile::from_json(value.to_string().as_bytes())
}

type Change = fn(&mut Value);

/// The problems of the example after `change`.
fn problems_after(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut value = example();
    change(&mut value);
    match read(&value) {
        Err(ProfileError::Invalid(problems)) => problems.into_iter().map(|p| p.path).collect(),
        other => panic!("expected problems, found {other:?}"),
    }
}

#[test]
fn the_example_survives_a_round_trip_bit_for_bit() {
    let profile = Profile::from_json(EXAMPLE.as_bytes()).expect("the example is valid");
    let written: Value = serde_json::from_str(&profile.to_json()).expect("JSON");
    assert_eq!(written, example());
}

/// Every object definition of the schema, with the serde type of the same name in its most complete form.
#[test]
fn the_schema_lists_exactly_the_fields_that_serde_reads() {
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    let mut seen = BTreeSet::new();
    check_fields::<Profile>(&schema, "profile", &mut seen);
    check_fields::<super::Generator>(&schema["$defs"]["generator"], "generator", &mut seen);
    check_fields::<super::ModelInfo>(&schema["$defs"]["model"], "model", &mut seen);
    check_fields::<super::DataInfo>(&schema["$defs"]["data"], "data", &mut seen);
    check_fields::<super::Target>(&schema["$defs"]["target"], "target", &mut seen);
    check_fields::<super::Training>(&schema["$defs"]["training"], "training", &mut seen);
    check_fields::<super::Importance>(&schema["$defs"]["importance"], "importance", &mut seen);
    check_fields::<super::Calibration>(&schema["$defs"]["calibration"], "calibration", &mut seen);
    check_fields::<super::CalibrationBin>(&schema["$defs"]["calibration_bin"], "calibration_bin", &mut seen);
    check_fields::<super::Seasonality>(&schema["$defs"]["seasonality"], "seasonality", &mut seen);
    check_fields::<super::SeasonalCounts>(&schema["$defs"]["seasonal_counts"], "seasonal_counts", &mut seen);
    check_fields::<super::Segmentation>(&schema["$defs"]["segments"], "segments", &mut seen);
    check_fields::<super::Segment>(&schema["$defs"]["segment"], "segment", &mut seen);
    check_fields::<super::Subject>(&schema["$defs"]["subject"], "subject", &mut seen);
    check_fields::<super::Numeric>(&schema["$defs"]["numeric"], "numeric", &mut seen);
    check_fields::<super::Quantile>(&schema["$defs"]["quantile"], "quantile", &mut seen);
    check_fields::<super::Categorical>(&schema["$defs"]["categorical"], "categorical", &mut seen);
    check_fields::<super::Category>(&schema["$defs"]["category"], "category", &mut seen);
    check_fields::<super::Boolean>(&schema["$defs"]["boolean"], "boolean", &mut seen);
    let defined = schema["$defs"].as_object().expect("definitions");
    assert_eq!(
        seen.len(),
        defined.len() + 1,
        "a definition of the schema is not compared"
    );
}

/// serde tells a type's fields when it refuses an unknown one: "unknown field `?`, expected one of `a`, `b`".
fn check_fields<T: serde::de::DeserializeOwned>(
    schema: &Value,
    name: &'static str,
    seen: &mut BTreeSet<&'static str>,
) {
    let message = match serde_json::from_value::<T>(json!({"?": 0})) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{name} takes unknown fields"),
    };
    let (_, list) = message
        .split_once("expected")
        .expect("serde lists what it expects");
    let fields: BTreeSet<&str> = list.split('`').skip(1).step_by(2).collect();
    let properties: BTreeSet<&str> = schema["properties"]
        .as_object()
        .expect("properties")
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(fields, properties, "{name}");
    assert_eq!(schema["additionalProperties"], json!(false), "{name}");

    // What the schema requires is what serde cannot do without; the nullable numbers are the exception.
    for required in schema["required"].as_array().expect("required") {
        assert!(
            properties.contains(required.as_str().expect("text")),
            "{name}: {required}"
        );
    }
    assert!(seen.insert(name));
}

#[test]
fn a_wrong_shape_is_told_with_its_path_and_what_was_expected() {
    let cases: [(Change, &str, &str); 6] = [
        (
            |v| v["features"][0]["numeric"]["edges"][2] = json!("x"),
            "features[0].numeric.edges[2]",
            "expected f64",
        ),
        (
            |v| v["features"][1]["kind"] = json!("ordinal"),
            "features[1].kind",
            "expected one of `numeric`",
        ),
        (
            |v| v["features"][1]["colour"] = json!(1),
            "features[1].colour",
            "unknown field `colour`",
        ),
        (
            |v| v["outputs"][0]["count"] = json!(-1),
            "outputs[0].count",
            "expected u64",
        ),
        (
            |v| _ = v["data"].as_object_mut().expect("object").remove("rows"),
            "data",
            "missing field `rows`",
        ),
        (|v| v["model"] = json!([]), "model", ""),
    ];
    for (change, path, reason) in cases {
        let mut value = example();
        change(&mut value);
        let error = read(&value).expect_err("refused").to_string();
        assert!(
            error.starts_with(&format!("`{path}")) && error.contains(reason),
            "{error}"
        );
    }
    let error = Profile::from_json(b"{\"format\": ")
        .expect_err("refused")
        .to_string();
    assert!(error.contains("line 1") && error.contains("EOF"), "{error}");
    assert!(
        Profile::from_json(&[EXAMPLE.as_bytes(), b"{}"].concat()).is_err(),
        "trailing text is refused"
    );
}

#[test]
fn every_contradiction_is_found() {
    let cases: [(Change, &str); 20] = [
        (|v| v["format"] = json!("other"), "format"),
        (|v| v["format_version"] = json!(2), "format_version"),
        (|v| v["created_at"] = json!("yesterday"), "created_at"),
        (|v| v["model"]["digest"] = json!("sha256:12"), "model.digest"),
        (|v| v["features"][1]["name"] = json!("tenure"), "features[1].name"),
        (|v| v["features"][0]["missing"] = json!(7), "features[0].count"),
        (|v| v["features"][0]["role"] = json!("value"), "features[0].role"),
        (
            |v| v["features"][0]["kind"] = json!("boolean"),
            "features[0].numeric",
        ),
        (
            |v| v["features"][0]["numeric"]["edges"][1] = json!(-1e9),
            "features[0].numeric.edges",
        ),
        (
            |v| v["features"][0]["numeric"]["counts"][0] = json!(3),
            "features[0].numeric.counts",
        ),
        (
            |v| v["features"][0]["numeric"]["means"][1] = json!(null),
            "features[0].numeric.means[1]",
        ),
        (
            |v| v["features"][0]["numeric"]["min"] = json!(1e9),
            "features[0].numeric.min",
        ),
        (
            |v| v["features"][0]["numeric"]["quantiles"][1]["level"] = json!(0.0),
            "features[0].numeric.quantiles",
        ),
        (
            |v| v["features"][1]["categorical"]["other"] = json!(1),
            "features[1].categorical",
        ),
        (
            |v| v["features"][1]["categorical"]["categories"][0]["count"] = json!(1),
            "features[1].categorical.categories[1]",
        ),
        (|v| v["outputs"][0]["class"] = json!("1"), "outputs[0].class"),
        (
            |v| v["outputs"][1]["numeric"]["max"] = json!(1.5),
            "outputs[1].numeric.min",
        ),
        (
            |v| v["target"]["positive_class"] = json!("yes"),
            "target.positive_class",
        ),
        (
            |v| v["importances"][0]["feature"] = json!("nobody"),
            "importances[0].feature",
        ),
        (
            |v| v["calibration"][0]["bins"][0]["upper"] = json!(0.6),
            "calibration[0].bins",
        ),
    ];
    for (change, path) in cases {
        let found = problems_after(change);
        assert!(
            found.iter().any(|p| p == path),
            "expected {path}, found {found:?}"
        );
    }
    let several = problems_after(|v| {
        v["format"] = json!("other");
        v["training"]["auc"] = json!(1.5);
    });
    assert_eq!(several, ["format", "training.auc"]);
}

/// The example with one segment of its feature `Contract`, which has all rows.
fn segmented() -> Value {
    let mut value = example();
    let part = json!({
        "value": "Two year", "rows": value["data"]["rows"], "features": value["features"], "outputs": value["outputs"]
    });
    value["segments"] = json!({"feature": "Contract", "parts": [part]});
    value
}

#[test]
fn segments_are_read_and_written_like_the_rest() {
    let profile = read(&segmented()).expect("valid");
    let written: Value = serde_json::from_str(&profile.to_json()).expect("JSON");
    assert_eq!(written, segmented());
    let mut misspelt = segmented();
    misspelt["segments"]["parts"][0]["name"] = json!("Two year");
    let error = read(&misspelt).expect_err("refused").to_string();
    assert!(
        error.starts_with("`segments.parts[0].name`") && error.contains("unknown field"),
        "{error}"
    );
}

#[test]
fn every_contradiction_of_segments_is_found() {
    /// Another part like the first, with its rows.
    fn push(v: &mut Value, value: Value) {
        let mut part = v["segments"]["parts"][0].clone();
        part["value"] = value;
        v["segments"]["parts"].as_array_mut().expect("parts").push(part);
    }
    let cases: [(Change, &str, &str); 14] = [
        (
            |v| v["segments"]["feature"] = json!("label"),
            "segments.feature",
            "expected the name of a feature, found \"label\"",
        ),
        (
            |v| v["segments"]["parts"] = json!([]),
            "segments.parts",
            "expected 1 to 16 segments with a value, found 0",
        ),
        (
            |v| (0..16).for_each(|i| push(v, json!(i.to_string()))),
            "segments.parts",
            "expected 1 to 16 segments with a value, found 17",
        ),
        (
            |v| push(v, json!("One year")),
            "segments.parts",
            "expected at most data.rows = 400 rows in all, found 800",
        ),
        (
            |v| push(v, json!("Two year")),
            "segments.parts[1].value",
            "expected a value of its own, found \"Two year\" again",
        ),
        (
            |v| {
                push(v, Value::Null);
                push(v, json!("One year"));
            },
            "segments.parts[1].value",
            "expected a value; only the last segment may go without, for all other rows",
        ),
        (
            |v| v["segments"]["parts"][0]["value"] = json!("other"),
            "segments.parts[0].value",
            "expected a text that is neither empty nor \"other\", found \"other\"",
        ),
        (
            |v| v["segments"]["feature"] = json!("tenure"),
            "segments.parts[0].value",
            "expected a number, as the feature is numeric, found \"Two year\"",
        ),
        (
            |v| {
                v["segments"]["feature"] = json!("tenure");
                v["segments"]["parts"][0]["value"] = json!("1");
                push(v, json!("1.0"));
            },
            "segments.parts[1].value",
            "expected a value of its own, found \"1.0\" again",
        ),
        (
            |v| v["segments"]["parts"][0]["rows"] = json!(399),
            "segments.parts[0].features[0].count",
            "expected count + missing to be rows = 399, found 400 + 0",
        ),
        (
            |v| v["segments"]["parts"][0]["features"][0]["column"] = json!(1),
            "segments.parts[0].features[0]",
            "expected `tenure` of tensor `tenure`, column 0, as in the whole",
        ),
        (
            |v| {
                let outputs = v["segments"]["parts"][0]["outputs"].as_array_mut();
                outputs.expect("outputs").truncate(2);
            },
            "segments.parts[0].outputs",
            "expected the 3 of the whole, found 2",
        ),
        (
            |v| v["segments"]["parts"][0]["features"][0]["numeric"]["counts"][0] = json!(3),
            "segments.parts[0].features[0].numeric.counts",
            "expected counts that sum to count = 400, found 403",
        ),
        (
            |v| {
                let season = json!({"hour_of_week": [{"subject": "nobody", "counts": []}]});
                v["segments"]["parts"][0]["seasonality"] = season;
            },
            "segments.parts[0].seasonality.hour_of_week[0].subject",
            "expected the name of a feature or output, found \"nobody\"",
        ),
    ];
    for (change, path, reason) in cases {
        let mut value = segmented();
        change(&mut value);
        let Err(ProfileError::Invalid(problems)) = read(&value) else {
            panic!("expected a problem at {path}")
        };
        let found = problems.iter().any(|p| p.path == path && p.reason == reason);
        assert!(found, "expected `{path}`: {reason}; found {problems:?}");
    }
}

#[test]
fn bins_have_unique_names_in_the_order_of_the_counts() {
    let profile = Profile::from_json(EXAMPLE.as_bytes()).expect("valid");
    for subject in profile.subjects() {
        let names = subject.bin_names();
        assert_eq!(names.len(), subject.reference_counts().len(), "{}", subject.name);
        assert_eq!(
            names.iter().collect::<BTreeSet<_>>().len(),
            names.len(),
            "{}",
            subject.name
        );
        assert_eq!(subject.reference_counts().iter().sum::<u64>(), profile.data.rows);
    }
}

/// `make_profile_golden.py` is a writer of its own; every value of every subject has to be the same, to the last bit.
#[test]
fn subjects_equal_those_of_the_python_writer() {
    let golden: Value = serde_json::from_str(GOLDEN).expect("JSON");
    let columns = golden["columns"].as_array().expect("columns");
    assert_eq!(columns.len(), 26);
    for column in columns {
        let expected = &column["subject"];
        let datatype = serde_json::from_value(expected["datatype"].clone()).expect("datatype");
        let kind = match expected["kind"].as_str() {
            Some("text_length") => super::Kind::Categorical,
            _ => serde_json::from_value(expected["kind"].clone()).expect("kind"),
        };
        let name = expected["name"].as_str().expect("name");
        let values = column["values"].as_array().expect("values");
        // In two parts, the later one first: neither order nor grouping may show.
        let (early, late) = values.split_at(values.len() / 3);
        let mut builder = SubjectBuilder::new(name, "tensor", 0, datatype, kind);
        push(&mut builder, late);
        let mut rest = SubjectBuilder::new(name, "tensor", 0, datatype, kind);
        push(&mut rest, early);
        builder.merge(rest);
        let made = serde_json::to_value(builder.finish()).expect("JSON");
        if made != *expected {
            for key in ["count", "missing", "kind", "numeric", "categorical", "boolean"] {
                assert_eq!(made[key], expected[key], "{name}.{key}");
            }
        }
        assert_eq!(made, *expected, "{name}");
        assert_valid(serde_json::from_value(made).expect("a subject"));
    }
}

fn assert_valid(subject: super::Subject) {
    let mut profile = Profile::from_json(EXAMPLE.as_bytes()).expect("valid");
    profile.data.rows = subject.count + subject.missing;
    profile.features = vec![subject];
    profile.outputs.clear();
    profile.importances = None;
    profile.calibration = None;
    profile.validate().expect("what the builder makes is valid");
}

fn push(builder: &mut SubjectBuilder, values: &[Value]) {
    for value in values {
        match value {
            Value::Null => builder.push_missing(),
            Value::Bool(b) => builder.push_boolean(*b),
            Value::Number(n) => builder.push_number(n.as_f64().expect("a number")),
            Value::String(s) if s == "nan" => builder.push_number(f64::NAN),
            Value::String(s) if s == "inf" => builder.push_number(f64::INFINITY),
            Value::String(s) => builder.push_text(s),
            Value::Array(_) | Value::Object(_) => panic!("not a value: {value}"),
        }
    }
}
