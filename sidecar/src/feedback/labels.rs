//! The body of a feedback request.

use serde::de::{Deserialize, Deserializer, Visitor};

/// The truth about one row.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Label {
    /// Id of the request: its `x-request-id`, or else the `id` in its body.
    pub(crate) id: String,
    /// Row of the request, from 0.
    #[serde(default)]
    pub(crate) row: u32,
    /// The class that turned out to be right.
    #[serde(rename = "label")]
    pub(crate) truth: Truth,
    /// The model that was asked; may be left out while only one is observed.
    #[serde(default)]
    pub(crate) model: Option<String>,
}

/// A class as the profile writes it: a text, a number in decimal, `true` or `false`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Truth(pub(crate) String);

/// A body of which nothing is used.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {source}; expected {expected}")]
pub(crate) struct BadLabels {
    place: String,
    source: serde_json::Error,
    expected: &'static str,
}

/// Several labels in one document.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    model: Option<String>,
    labels: Vec<Label>,
}

/// Reads a JSON document: `{"model": …, "labels": [LABEL, …]}`.
///
/// # Errors
/// Where it is not as expected.
pub(super) fn read_document(body: &[u8]) -> Result<Vec<Label>, BadLabels> {
    let document = serde_json::from_slice(body).map_err(|source| BadLabels {
        place: "the body".to_owned(),
        source,
        expected: r#"{"model": "churn", "labels": [{"id": "order-17", "row": 0, "label": "yes"}]}"#,
    });
    let Document { model, mut labels } = document?;
    for label in &mut labels {
        if label.model.is_none() {
            label.model.clone_from(&model);
        }
    }
    Ok(labels)
}

/// Reads one label per line; empty lines are left out.
///
/// # Errors
/// The first line that is not as expected.
pub(super) fn read_lines(body: &[u8]) -> Result<Vec<Label>, BadLabels> {
    let lines = body.split(|byte| *byte == b'\n').enumerate();
    lines
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .map(|(at, line)| {
            serde_json::from_slice(line).map_err(|source| BadLabels {
                place: format!("line {}", at + 1),
                source,
                expected: r#"{"id": "order-17", "row": 0, "label": "yes"}"#,
            })
        })
        .collect()
}

impl<'de> Deserialize<'de> for Truth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TruthVisitor)
    }
}

struct TruthVisitor;

impl Visitor<'_> for TruthVisitor {
    type Value = Truth;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a class: a text, a number, true or false")
    }

    fn visit_str<E>(self, text: &str) -> Result<Truth, E> {
        Ok(Truth(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Truth, E> {
        Ok(Truth(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Truth, E> {
        Ok(Truth(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Truth, E> {
        Ok(Truth(value.to_string()))
    }

    /// 1.0 is 1, as in tables that hold every number as a float.
    fn visit_f64<E>(self, value: f64) -> Result<Truth, E> {
        Ok(Truth((value + 0.0).to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(id: &str, row: u32, truth: &str, model: Option<&str>) -> Label {
        Label {
            id: id.to_owned(),
            row,
            truth: Truth(truth.to_owned()),
            model: model.map(str::to_owned),
        }
    }

    #[test]
    fn a_document_names_the_model_once_or_with_each_label() {
        let body = br#"{"model": "churn", "labels": [
            {"id": "a", "row": 3, "label": "yes"}, {"id": "b", "label": true, "model": "other"}]}"#;
        let expected = [
            label("a", 3, "yes", Some("churn")),
            label("b", 0, "true", Some("other")),
        ];
        assert_eq!(read_document(body).expect("labels"), expected);
    }

    #[test]
    fn lines_are_labels_and_numbers_are_classes() {
        let body = b"{\"id\": \"a\", \"label\": 1}\n\n{\"id\": \"a\", \"row\": 1, \"label\": 1.0}\r\n{\"id\": \"b\", \"label\": -0.5}";
        let expected = [
            label("a", 0, "1", None),
            label("a", 1, "1", None),
            label("b", 0, "-0.5", None),
        ];
        assert_eq!(read_lines(body).expect("labels"), expected);
    }

    #[test]
    fn a_mistake_is_told_with_its_place_and_an_example() {
        let error = read_lines(b"{\"id\": \"a\", \"label\": 1}\n{\"id\": \"a\", \"lable\": 1}")
            .expect_err("misspelt");
        let text = error.to_string();
        assert!(text.starts_with("line 2: unknown field `lable`"), "{text}");
        assert!(text.contains(r#"expected {"id": "order-17""#), "{text}");
        for bad in [
            &b"{}"[..],
            b"[]",
            b"{\"labels\": [{\"id\": 7, \"label\": 1}]}",
            b"{\"labels\": [{\"id\": \"a\"}]}",
        ] {
            let text = read_document(bad).expect_err("refused").to_string();
            assert!(text.starts_with("the body: "), "{text}");
        }
        assert!(read_document(br#"{"labels": [{"id": "a", "label": [1]}]}"#).is_err());
    }
}
