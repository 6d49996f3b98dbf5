//! What an ONNX file says about itself.

use super::classes::{Classes, classes_of};
use super::graph::{Graph, Node};
use super::types::{ClassLabels, ValueInfo};
use super::wire::{Field, Value, WireError, fields};

/// A file that is not a whole ONNX model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// No bytes.
    #[error("the file is empty")]
    Empty,
    /// The model ends in the middle.
    #[error("the file is truncated: its last field ends after the file does ({bytes} bytes)")]
    Truncated {
        /// Size of the file.
        bytes: usize,
    },
    /// Something else.
    #[error("the file is not an ONNX model: {reason}")]
    NotOnnx {
        /// How one sees it.
        reason: &'static str,
    },
}

/// A version of an operator set that a model is written in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opset {
    /// `ai.onnx` (written as an empty name in files), `ai.onnx.ml`, …
    pub domain: String,
    /// Its version.
    pub version: i64,
}

/// The parts of a model file that decide how it is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OnnxModel {
    pub(crate) ir_version: i64,
    /// Name and version of the converter.
    pub(crate) producer: String,
    pub(crate) opsets: Vec<Opset>,
    /// Inputs that a request must have: those without an initializer.
    pub(crate) inputs: Vec<ValueInfo>,
    /// Inputs with an initializer, which a request may leave out from version 4 of the format on; before it, every
    /// initializer is listed among the inputs and none can be given.
    pub(crate) optional_inputs: Vec<ValueInfo>,
    pub(crate) outputs: Vec<ValueInfo>,
    /// Number of nodes, without those of subgraphs.
    pub(crate) nodes: usize,
    /// The classes of a classifier without `ZipMap`.
    pub(crate) classes: Option<Classes>,
    /// `ZipMap` nodes whose output is an output of the graph and nothing else.
    pub(crate) zip_maps: Vec<ZipMap>,
}

/// A node that turns a tensor of probabilities `[N, C]` into N maps from class to probability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ZipMap {
    /// Position among the graph's nodes.
    pub(super) node: usize,
    /// The tensor that goes in.
    pub(crate) input: String,
    /// The graph output that comes out.
    pub(crate) output: String,
    pub(crate) classes: ClassLabels,
}

/// Field number of `onnx.ModelProto` that is read and edited.
pub(super) const MODEL_GRAPH: u32 = 7;

/// The first version of the format in which a request can give a value for an initializer.
const OVERRIDABLE_SINCE: i64 = 4;

/// Reads what the file says.
///
/// # Errors
/// [`FileError`]: empty, truncated, not ONNX.
pub(crate) fn describe(file: &[u8]) -> Result<OnnxModel, FileError> {
    if file.is_empty() {
        return Err(FileError::Empty);
    }
    if file.starts_with(b"version https://git-lfs") {
        let reason = "it is a Git LFS pointer; fetch the file with `git lfs pull`";
        return Err(FileError::NotOnnx { reason });
    }
    let plausible = looks_like_a_model(file);
    match read_model(file) {
        Ok(Some(model)) => Ok(model),
        Ok(None) => Err(FileError::NotOnnx {
            reason: "it has no ir_version or no graph",
        }),
        Err(WireError::Truncated) if plausible => Err(FileError::Truncated { bytes: file.len() }),
        Err(WireError::Truncated | WireError::Malformed) => Err(FileError::NotOnnx {
            reason: "it is not a protobuf message",
        }),
    }
}

/// Whether the first field is one of `ModelProto` with its wire type, so that an early end means "truncated".
fn looks_like_a_model(file: &[u8]) -> bool {
    match fields(file).next() {
        Some(Ok(Field { number, value, .. })) => match value {
            Value::Varint(_) => matches!(number, 1 | 5),
            Value::Bytes(_) => matches!(number, 2..=4 | 6..=8 | 14),
            Value::Fixed64(_) | Value::Fixed32(_) => false,
        },
        // The graph is the bulk of a file and may be what was cut.
        Some(Err(WireError::Truncated)) => matches!(file[0], 0x08 | 0x12 | 0x1a | 0x22 | 0x32 | 0x3a | 0x42),
        Some(Err(WireError::Malformed)) | None => false,
    }
}

/// `None` when the message is well-formed but lacks what every model has.
fn read_model(file: &[u8]) -> Result<Option<OnnxModel>, WireError> {
    let mut model = OnnxModel::default();
    let (mut producer, mut producer_version, mut has_graph) = (String::new(), String::new(), false);
    for field in fields(file) {
        let field = field?;
        match field.number {
            1 => model.ir_version = field.int()?,
            2 => producer = field.text()?,
            3 => producer_version = field.text()?,
            MODEL_GRAPH => {
                has_graph = true;
                read_graph(field.bytes()?, &mut model)?;
            }
            8 => model.opsets.push(read_opset(field.bytes()?)?),
            _ => {}
        }
    }
    if model.ir_version < OVERRIDABLE_SINCE {
        model.optional_inputs.clear();
    }
    model.producer = if producer_version.is_empty() {
        producer
    } else {
        format!("{producer} {producer_version}")
    };
    Ok((has_graph && model.ir_version > 0).then_some(model))
}

fn read_opset(message: &[u8]) -> Result<Opset, WireError> {
    let mut opset = Opset {
        domain: "ai.onnx".to_owned(),
        version: 0,
    };
    for field in fields(message) {
        let field = field?;
        match field.number {
            1 if !field.bytes()?.is_empty() => opset.domain = field.text()?,
            2 => opset.version = field.int()?,
            _ => {}
        }
    }
    Ok(opset)
}

fn read_graph(message: &[u8], model: &mut OnnxModel) -> Result<(), WireError> {
    let graph = Graph::read(message)?;
    model.zip_maps = zip_maps_of(&graph);
    model.classes = classes_of(&graph);
    model.nodes = graph.nodes.len();
    let (optional, required) = graph
        .inputs
        .iter()
        .cloned()
        .partition(|input| graph.is_initialized(input.name.as_bytes()));
    model.inputs = required;
    model.optional_inputs = optional;
    model.outputs = graph.outputs;
    Ok(())
}

/// The name is the operator's in `ai.onnx.ml` only; no other domain of a converter has it.
fn zip_maps_of(graph: &Graph<'_>) -> Vec<ZipMap> {
    let zip_map = |(at, node): (usize, &Node<'_>)| {
        let (&[input], &[output]) = (node.inputs.as_slice(), node.outputs.as_slice()) else {
            return None;
        };
        let is_output = graph.outputs.iter().any(|info| info.name.as_bytes() == output);
        if node.op != b"ZipMap" || !is_output || graph.reads(output) {
            return None;
        }
        let (ints, strings) = (
            node.ints(b"classlabels_int64s"),
            node.strings(b"classlabels_strings"),
        );
        let classes = match (ints.is_empty(), strings.is_empty()) {
            (false, _) => ClassLabels::Ints(ints),
            (true, false) => ClassLabels::Strings(strings),
            (true, true) => return None,
        };
        Some(ZipMap {
            node: at,
            input: text(input),
            output: text(output),
            classes,
        })
    };
    graph.nodes.iter().enumerate().filter_map(zip_map).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::wire::{put_bytes, put_int};
    use super::*;

    #[test]
    fn bad_files_are_told_apart() {
        assert_eq!(describe(b""), Err(FileError::Empty));
        let problem = |bytes: &[u8]| describe(bytes).unwrap_err().to_string();
        assert!(problem(b"just some text\n").contains("not a protobuf message"));
        assert!(problem(b"version https://git-lfs.github.com/spec/v1\noid ...").contains("git lfs pull"));
        assert!(problem(&[0x89, b'P', b'N', b'G']).contains("not an ONNX model"));
        let mut no_graph = Vec::new();
        put_int(&mut no_graph, 1, 8);
        assert!(problem(&no_graph).contains("no graph"));
        let mut model = no_graph;
        put_bytes(&mut model, 7, &[0; 0]);
        assert_eq!(describe(&model).unwrap().ir_version, 8);
        put_bytes(&mut model, 8, &[0x10, 13]);
        let cut = &model[..model.len() - 1];
        assert_eq!(describe(cut), Err(FileError::Truncated { bytes: cut.len() }));
    }
}
