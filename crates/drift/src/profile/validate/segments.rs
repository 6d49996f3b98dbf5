//! What the segments of a profile must fulfil.

use std::collections::HashSet;

use super::super::{Kind, MAX_SEGMENTS, OTHER, Profile, Segment, Segmentation, Subject};
use super::{Content, Problems};

pub(super) fn check(p: &mut Problems, segmentation: &Segmentation, profile: &Profile) {
    let Segmentation { feature, parts } = segmentation;
    let kind = profile
        .features
        .iter()
        .find(|subject| subject.name == *feature)
        .map(|subject| subject.kind);
    p.expect(kind.is_some(), "segments.feature", || {
        format!("expected the name of a feature, found \"{feature}\"")
    });
    let with_value = parts.iter().filter(|part| part.value.is_some()).count();
    p.expect((1..=MAX_SEGMENTS).contains(&with_value), "segments.parts", || {
        format!("expected 1 to {MAX_SEGMENTS} segments with a value, found {with_value}")
    });
    let rows = parts
        .iter()
        .fold(0_u64, |sum, part| sum.saturating_add(part.rows));
    p.expect(rows <= profile.data.rows, "segments.parts", || {
        format!(
            "expected at most data.rows = {} rows in all, found {rows}",
            profile.data.rows
        )
    });
    let mut values = HashSet::new();
    for (i, part) in parts.iter().enumerate() {
        let path = format!("segments.parts[{i}]");
        check_value(p, &format!("{path}.value"), part, kind, i + 1 == parts.len());
        let is_first = match (kind, part.numbers()) {
            (Some(Kind::Numeric), Some([number, _])) => values.insert(number.to_string()),
            _ => values.insert(part.name().to_owned()),
        };
        p.expect(is_first, &format!("{path}.value"), || {
            format!("expected a value of its own, found \"{}\" again", part.name())
        });
        for (list, own, whole) in [
            ("features", &part.features, &profile.features),
            ("outputs", &part.outputs, &profile.outputs),
        ] {
            check_subjects(p, &format!("{path}.{list}"), own, whole);
        }
        Content {
            rows: (part.rows, "rows"),
            features: &part.features,
            outputs: &part.outputs,
            seasonality: part.seasonality.as_ref(),
        }
        .check(p, &format!("{path}."));
    }
}

fn check_value(p: &mut Problems, path: &str, part: &Segment, kind: Option<Kind>, is_last: bool) {
    let Some(value) = &part.value else {
        p.expect(is_last, path, || {
            "expected a value; only the last segment may go without, for all other rows".to_owned()
        });
        return;
    };
    let (fits, expected) = match kind {
        Some(Kind::Numeric) => (
            value.parse().is_ok_and(f64::is_finite),
            "a number, as the feature is numeric",
        ),
        Some(Kind::Boolean) => (
            matches!(value.as_str(), "true" | "false"),
            "true or false, as the feature is boolean",
        ),
        Some(Kind::Categorical | Kind::TextLength) | None => (
            !value.is_empty() && value != OTHER,
            "a text that is neither empty nor \"other\"",
        ),
    };
    p.expect(fits, path, || format!("expected {expected}, found \"{value}\""));
}

/// The subjects of a segment are the profile's, each over fewer rows. A text may have few enough values there to be categorical.
fn check_subjects(p: &mut Problems, path: &str, own: &[Subject], whole: &[Subject]) {
    p.expect(own.len() == whole.len(), path, || {
        format!("expected the {} of the whole, found {}", whole.len(), own.len())
    });
    for (i, (own, whole)) in own.iter().zip(whole).enumerate() {
        let is_same = own.name == whole.name
            && own.tensor == whole.tensor
            && own.column == whole.column
            && own.datatype == whole.datatype
            && own.role == whole.role
            && own.class == whole.class;
        p.expect(is_same, &format!("{path}[{i}]"), || {
            format!(
                "expected `{}` of tensor `{}`, column {}, as in the whole",
                whole.name, whole.tensor, whole.column
            )
        });
    }
}
