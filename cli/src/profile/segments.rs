//! What `--segment-column` adds to a profile: parts of the rows with a reference of their own.

use std::collections::HashMap;

use anyhow::Context as _;
use plumbline_drift::SubjectBuilder;
use plumbline_drift::profile::{OTHER, Segment, Segmentation, Subject};

use super::Args;
use super::season::Times;
use crate::column::{Column, Value, known};
use crate::table::Table;

/// Rows that a segment needs, as many as a window of the default length has: what is compared with it must not be surer of itself.
const MIN_ROWS: usize = 500;

/// The segments, and what their author should know.
#[derive(Debug, Default)]
pub(super) struct Segments {
    pub(super) segmentation: Option<Segmentation>,
    pub(super) warnings: Vec<String>,
}

/// Describes the rows of the most frequent values, and all others; nothing without `--segment-column`.
///
/// `subjects`: the profile's features and outputs; `columns`: one for each of them.
pub(super) fn describe(
    args: &Args,
    table: &Table,
    (features, outputs): (&[Subject], &[Subject]),
    columns: &[Column],
    times: Option<&Times>,
) -> anyhow::Result<Segments> {
    let Some(name) = &args.segment_column else {
        return Ok(Segments::default());
    };
    known(table, "--segment-column", std::iter::once(name.as_str()))?;
    let feature = columns
        .iter()
        .take(features.len())
        .find(|column| column.name == *name);
    let feature = feature.with_context(|| {
        format!("--segment-column {name}: not a feature; the sidecar reads it from the model's inputs")
    })?;
    let values = feature.values(table).collect::<Result<Vec<_>, _>>()?;
    let texts: Vec<Option<String>> = values.into_iter().map(text).collect();
    let named = most_frequent(&texts, args.segments.into());
    let (large, small): (Vec<_>, Vec<_>) = named.into_iter().partition(|(_, rows)| *rows >= MIN_ROWS);
    let list = |values: &[(&str, usize)]| {
        let each = values
            .iter()
            .map(|(value, rows)| format!("`{value}` ({rows} rows)"));
        each.collect::<Vec<_>>().join(", ")
    };
    anyhow::ensure!(
        !large.is_empty(),
        "--segment-column {name}: expected a value with {MIN_ROWS} rows, found {}",
        if small.is_empty() {
            "none".to_owned()
        } else {
            list(&small)
        }
    );
    let mut warnings = Vec::new();
    if !small.is_empty() {
        warnings.push(format!(
            "less than {MIN_ROWS} rows for a segment of `{name}`, so that they belong to `{OTHER}`: {}",
            list(&small)
        ));
    }
    let mut parts: Vec<(Option<&str>, Vec<usize>)> = large
        .iter()
        .map(|(value, _)| (Some(*value), Vec::new()))
        .collect();
    parts.push((None, Vec::new()));
    let other = parts.len() - 1;
    for (row, text) in texts.iter().enumerate() {
        let own = parts
            .iter()
            .position(|(value, _)| value.is_some() && *value == text.as_deref());
        parts[own.unwrap_or(other)].1.push(row);
    }
    let rest = parts[other].1.len();
    if rest < MIN_ROWS {
        parts.pop();
        if rest > 0 {
            warnings.push(format!(
                "{rest} rows have none of the segments of `{name}`; with less than {MIN_ROWS} there is no segment \
                 `{OTHER}`, and rows like them are compared with the whole alone"
            ));
        }
    }
    let segments = parts.into_iter().map(|(value, rows)| {
        let described: Vec<_> = features
            .iter()
            .chain(outputs)
            .zip(columns)
            .map(|(whole, column)| {
                let rows = rows.iter().copied();
                super::describe(empty_like(whole, column), column, table, times, rows)
            })
            .collect::<Result<_, _>>()?;
        let (mut subjects, seasons): (Vec<Subject>, Vec<_>) = described.into_iter().unzip();
        let outputs = subjects.split_off(features.len());
        Ok(Segment {
            value: value.map(str::to_owned),
            rows: rows.len() as u64,
            features: subjects,
            outputs,
            seasonality: super::seasonality(times, seasons),
        })
    });
    Ok(Segments {
        segmentation: Some(Segmentation {
            feature: name.clone(),
            parts: segments.collect::<anyhow::Result<_>>()?,
        }),
        warnings,
    })
}

/// Values by their rows, the first of equals in the order of texts. Missing ones are no value, and `other` is the name of the rest.
fn most_frequent(texts: &[Option<String>], most: usize) -> Vec<(&str, usize)> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for text in texts.iter().flatten().filter(|text| *text != OTHER) {
        *counts.entry(text).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    counts.truncate(most);
    counts
}

/// A value as a segment names it: a number in the fewest digits that tell it apart.
fn text(value: Value<'_>) -> Option<String> {
    match value {
        Value::Missing => None,
        Value::Number(number) if !plumbline_drift::is_usable(number) => None,
        // -0 is 0.
        Value::Number(number) if f64::from(number as f32) == number => {
            Some((number as f32 + 0.0).to_string())
        }
        Value::Number(number) => Some(number.to_string()),
        Value::Integer(integer) => Some(integer.to_string()),
        Value::Truth(truth) => Some(truth.to_string()),
        Value::Text(text) => Some(text.to_owned()),
    }
}

/// The same subject without rows.
fn empty_like(whole: &Subject, column: &Column) -> SubjectBuilder {
    let builder = SubjectBuilder::new(
        &whole.name,
        &whole.tensor,
        whole.column,
        column.datatype,
        column.kind,
    );
    match whole.role {
        Some(role) => builder.role(role, whole.class.as_deref()),
        None => builder,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::profile::tests::args;
    use crate::profile::{Described, subjects};
    use crate::table::tests::table;

    /// Rows with these many of each value in the column `by`, and what is said of them.
    fn described(counts: &[(&str, usize)], arguments: &[&str]) -> anyhow::Result<Segments> {
        let mut text = "by,amount,score\n".to_owned();
        let values = counts
            .iter()
            .flat_map(|(value, count)| std::iter::repeat_n(value, *count));
        for (i, value) in values.enumerate() {
            writeln!(text, "{value},{},{}", i % 50, i % 7).expect("written");
        }
        let (table, args) = (
            table(&text),
            args(&[&["--output-columns=score"], arguments].concat()),
        );
        let Described {
            features,
            outputs,
            columns,
            ..
        } = subjects(&args, &table, None)?;
        let described = describe(&args, &table, (&features, &outputs), &columns, None)?;
        for part in described.segmentation.iter().flat_map(|s| &s.parts) {
            assert_eq!(
                (part.features.len(), part.outputs.len()),
                (features.len(), outputs.len())
            );
            let mut all = part.features.iter().chain(&part.outputs);
            assert!(all.all(|s| s.count + s.missing == part.rows), "{part:?}");
        }
        Ok(described)
    }

    /// Name and rows of each segment.
    fn sizes(segments: &Segments) -> Vec<(&str, u64)> {
        let parts = segments.segmentation.iter().flat_map(|s| &s.parts);
        parts.map(|part| (part.name(), part.rows)).collect()
    }

    #[test]
    fn the_most_frequent_values_are_segments_and_the_rest_is_other() {
        let counts = [
            ("de", 900),
            ("fr", 700),
            ("", 200),
            ("it", 600),
            ("other", 300),
            ("at", 40),
        ];
        let found = described(&counts, &["--segment-column=by", "--segments=2"]).expect("segments");
        assert_eq!(sizes(&found), [("de", 900), ("fr", 700), ("other", 1_140)]);
        assert!(found.warnings.is_empty(), "{:?}", found.warnings);
        let found = described(&counts, &["--segment-column=by"]).expect("segments");
        assert_eq!(
            sizes(&found),
            [("de", 900), ("fr", 700), ("it", 600), ("other", 540)]
        );
        assert_eq!(
            found.warnings,
            ["less than 500 rows for a segment of `by`, so that they belong to `other`: `at` (40 rows)"]
        );
        let found = described(&[("de", 500), ("fr", 499)], &["--segment-column=by"]).expect("segments");
        assert_eq!(sizes(&found), [("de", 500)]);
        assert!(
            found.warnings[1].starts_with("499 rows have none of the segments of `by`"),
            "{:?}",
            found.warnings
        );
        assert!(
            described(&counts, &[])
                .expect("none asked for")
                .segmentation
                .is_none()
        );
    }

    #[test]
    fn numbers_and_truth_values_tell_segments_apart_too() {
        let by_number = [("0.1", 600), ("7", 500)];
        let found = described(&by_number, &["--segment-column=by"]).expect("numbers");
        assert_eq!(sizes(&found), [("0.1", 600), ("7", 500)]);
        let found =
            described(&by_number, &["--segment-column=by", "--datatype=by=FP64"]).expect("larger numbers");
        assert_eq!(sizes(&found), [("0.1", 600), ("7", 500)]);
        let by_class = [("1", 600), ("2", 500)];
        let found = described(&by_class, &["--segment-column=by", "--kind=by=categorical"]).expect("classes");
        assert_eq!(sizes(&found), [("1", 600), ("2", 500)]);
        let found = described(
            &[("true", 600), ("0", 500)],
            &["--segment-column=by", "--kind=by=boolean"],
        )
        .expect("flags");
        assert_eq!(sizes(&found), [("true", 600), ("false", 500)]);
    }

    #[test]
    fn a_column_that_cannot_tell_segments_apart_is_refused() {
        let problem = |counts: &[(&str, usize)], arguments: &[&str]| {
            described(counts, arguments).expect_err("refused").to_string()
        };
        assert_eq!(
            problem(&[("de", 499), ("fr", 3)], &["--segment-column=by"]),
            "--segment-column by: expected a value with 500 rows, found `de` (499 rows), `fr` (3 rows)"
        );
        assert_eq!(
            problem(&[("", 600)], &["--segment-column=by"]),
            "--segment-column by: expected a value with 500 rows, found none"
        );
        assert_eq!(
            problem(&[("de", 600)], &["--segment-column=score"]),
            "--segment-column score: not a feature; the sidecar reads it from the model's inputs"
        );
        assert!(problem(&[("de", 600)], &["--segment-column=By"]).contains("has no column `By`"));
    }
}
