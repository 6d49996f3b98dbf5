//! The classes of a classifier that has no `ZipMap`: converters leave their names in the nodes that make the label.
//!
//! A label is made by a classifier of `ai.onnx.ml`, which lists its classes, or by picking from a list of them
//! (`ArrayFeatureExtractor`, `Gather`, `LabelEncoder`). Only what hands values through unchanged may lie between it
//! and the graph's output. The probabilities are the other output, made of the same values as the label, with as many
//! columns as there are classes; or, as `zipmap="columns"` writes them, an output for each column.

use std::collections::{BTreeMap, HashSet};

use super::graph::{Graph, Node};
use super::types::{ClassLabels, Dimension, ValueInfo, ValueType};

/// Outputs of a classifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Classes {
    /// The output with a label for each row.
    pub(crate) label: String,
    pub(crate) probabilities: Probabilities,
    /// In the order of the probabilities.
    pub(crate) labels: ClassLabels,
}

/// Where a classifier's probabilities are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Probabilities {
    /// In one output, a column for each class.
    Matrix(String),
    /// In an output for each class.
    Columns(Vec<String>),
}

/// Nodes between a label and what makes it; converters need three.
const MAX_STEPS: usize = 16;

/// The classifier whose outputs are the graph's, if they are those of one and the graph tells its classes.
pub(super) fn classes_of(graph: &Graph<'_>) -> Option<Classes> {
    let is_label = |output: &&ValueInfo| matches!(element_of(output), Some(7 | 8));
    let mut labels = graph.outputs.iter().filter(is_label);
    let label = labels.next().filter(|_| labels.next().is_none())?;
    let others: Vec<&ValueInfo> = graph
        .outputs
        .iter()
        .filter(|other| other.name != label.name)
        .collect();
    if others.is_empty()
        || !others
            .iter()
            .all(|other| matches!(element_of(other), Some(1 | 11)))
    {
        return None;
    }
    let Source::Labels { labels, made_of } = source_of(graph, label.name.as_bytes(), MAX_STEPS)? else {
        return None;
    };
    let is_of_label = |value: &[u8]| comes_from(graph, value, &made_of);
    let probabilities = match others.as_slice() {
        [matrix] if columns(matrix, labels.len()) && is_of_label(matrix.name.as_bytes()) => {
            Probabilities::Matrix(matrix.name.clone())
        }
        columns if columns.len() == labels.len() && columns.len() > 1 => {
            let slices: Vec<(&[u8], i64)> = columns
                .iter()
                .map(|column| slice_of(graph, column.name.as_bytes(), MAX_STEPS))
                .collect::<Option<_>>()?;
            let (matrix, _) = *slices.first()?;
            let in_order = slices
                .iter()
                .enumerate()
                .all(|(index, slice)| *slice == (matrix, index as i64));
            if !in_order || !is_of_label(matrix) {
                return None;
            }
            Probabilities::Columns(columns.iter().map(|column| column.name.clone()).collect())
        }
        _ => return None,
    };
    Some(Classes {
        label: label.name.clone(),
        probabilities,
        labels,
    })
}

fn element_of(info: &ValueInfo) -> Option<i64> {
    match &info.value_type {
        ValueType::Tensor { element, .. } => Some(*element),
        _ => None,
    }
}

/// Whether an output can have `count` columns: as far as its file tells.
fn columns(info: &ValueInfo, count: usize) -> bool {
    match &info.value_type {
        ValueType::Tensor {
            shape: Some(shape), ..
        } => match shape.as_slice() {
            [_, Dimension::Fixed(columns)] => *columns == count as i64,
            [_, Dimension::Named(_) | Dimension::Unknown] => true,
            _ => false,
        },
        ValueType::Tensor { shape: None, .. } => true,
        _ => false,
    }
}

/// What a label is made of.
enum Source<'a> {
    /// One of these, picked by `made_of`.
    Labels {
        labels: ClassLabels,
        /// The values that the pick depends on: other outputs of the classifier, or what was searched for a maximum.
        made_of: Vec<&'a [u8]>,
    },
    /// The position of a maximum.
    Position { made_of: Vec<&'a [u8]> },
}

fn source_of<'a>(graph: &Graph<'a>, value: &[u8], steps: usize) -> Option<Source<'a>> {
    let steps = steps.checked_sub(1)?;
    let node = graph.maker(value)?;
    match node.op {
        b"Identity" | b"Cast" | b"Reshape" | b"Squeeze" | b"Unsqueeze" | b"Flatten" => {
            source_of(graph, node.input()?, steps)
        }
        b"TreeEnsembleClassifier" | b"LinearClassifier" | b"SVMClassifier" => {
            let is_label = node.outputs.first() == Some(&value);
            let labels = [&b"classlabels_int64s"[..], b"classlabels_ints"]
                .iter()
                .map(|name| node.ints(name))
                .find(|labels| !labels.is_empty())
                .map(ClassLabels::Ints)
                .or_else(|| Some(ClassLabels::Strings(node.strings(b"classlabels_strings"))))
                .filter(|labels| is_label && labels.len() > 0)?;
            let made_of = node.outputs.get(1..)?.to_vec();
            Some(Source::Labels { labels, made_of })
        }
        b"ArrayFeatureExtractor" | b"Gather" => {
            let labels = graph.constant(node.input()?)?;
            match source_of(graph, node.inputs.get(1)?, steps)? {
                Source::Position { made_of } => Some(Source::Labels { labels, made_of }),
                Source::Labels { .. } => None,
            }
        }
        b"LabelEncoder" => encoded(node, source_of(graph, node.input()?, steps)?),
        b"ArgMax" => Some(Source::Position {
            made_of: vec![node.input()?],
        }),
        _ => None,
    }
}

/// What a `LabelEncoder` makes of labels or positions: a class by number gets a name, or another number.
fn encoded<'a>(node: &Node<'_>, source: Source<'a>) -> Option<Source<'a>> {
    let (numbers, made_of) = match source {
        Source::Labels {
            labels: ClassLabels::Ints(numbers),
            made_of,
        } => (Some(numbers), made_of),
        Source::Labels { .. } => return None,
        Source::Position { made_of } => (None, made_of),
    };
    let keys = node.ints(b"keys_int64s");
    let strings = node.strings(b"values_strings");
    let ints = node.ints(b"values_int64s");
    let count = strings.len().max(ints.len());
    let at: BTreeMap<i64, usize> = keys.iter().copied().zip(0..count).collect();
    let numbers = numbers.unwrap_or_else(|| (0..at.len() as i64).collect());
    let places: Vec<usize> = numbers
        .iter()
        .map(|number| at.get(number).copied())
        .collect::<Option<_>>()?;
    let labels = if strings.is_empty() {
        ClassLabels::Ints(
            places
                .iter()
                .map(|&place| ints.get(place).copied())
                .collect::<Option<_>>()?,
        )
    } else {
        ClassLabels::Strings(
            places
                .iter()
                .map(|&place| strings.get(place).cloned())
                .collect::<Option<_>>()?,
        )
    };
    Some(Source::Labels { labels, made_of })
}

/// The matrix and the column of it that a value is.
fn slice_of<'a>(graph: &Graph<'a>, value: &[u8], steps: usize) -> Option<(&'a [u8], i64)> {
    let steps = steps.checked_sub(1)?;
    let node = graph.maker(value)?;
    let constant = |at: usize| graph.constant_ints(node.inputs.get(at)?);
    match node.op {
        b"Identity" | b"Cast" | b"Reshape" | b"Squeeze" | b"Unsqueeze" | b"Flatten" => {
            slice_of(graph, node.input()?, steps)
        }
        b"Slice" => match (
            constant(1)?.as_slice(),
            constant(2)?.as_slice(),
            constant(3)?.as_slice(),
        ) {
            (&[start], &[end], &[1 | -1]) if start >= 0 && end == start + 1 => Some((node.input()?, start)),
            _ => None,
        },
        b"ArrayFeatureExtractor" => match constant(1)?.as_slice() {
            &[column] => Some((node.input()?, column)),
            _ => None,
        },
        b"Gather" if matches!(node.int(b"axis"), Some(1 | -1)) => match constant(1)?.as_slice() {
            &[column] => Some((node.input()?, column)),
            _ => None,
        },
        _ => None,
    }
}

/// Whether `value` is one of `sources`, is made of one, or is what one is made of next: probabilities may be the
/// exponential of what was searched for the maximum, or the other way around.
fn comes_from(graph: &Graph<'_>, value: &[u8], sources: &[&[u8]]) -> bool {
    reaches(graph, value, sources) || sources.iter().any(|source| reaches(graph, source, &[value]))
}

/// Whether one of `targets` is among the values that `value` is made of, itself included.
fn reaches<'a>(graph: &Graph<'a>, value: &[u8], targets: &[&[u8]]) -> bool {
    let mut seen: HashSet<&'a [u8]> = HashSet::new();
    if targets.contains(&value) {
        return true;
    }
    let mut open: Vec<&'a [u8]> = graph
        .maker(value)
        .map_or_else(Vec::new, |node| node.inputs.clone());
    while let Some(next) = open.pop() {
        if targets.contains(&next) {
            return true;
        }
        if seen.insert(next)
            && let Some(node) = graph.maker(next)
        {
            open.extend_from_slice(&node.inputs);
        }
    }
    false
}
