//! What an ONNX file says about itself.

use std::collections::HashSet;

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
    pub(crate) outputs: Vec<ValueInfo>,
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

/// Field numbers of `onnx.ModelProto` that are read, and of `GraphProto` that are edited.
pub(super) const MODEL_GRAPH: u32 = 7;
pub(super) const GRAPH_NODE: u32 = 1;
pub(super) const GRAPH_OUTPUT: u32 = 12;

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
    let mut zip_maps = Vec::new();
    let mut consumed = HashSet::new();
    let mut initialized = HashSet::new();
    let mut node = 0;
    for field in fields(message) {
        let field = field?;
        match field.number {
            GRAPH_NODE => {
                read_node(field.bytes()?, node, &mut consumed, &mut zip_maps)?;
                node += 1;
            }
            5 => {
                initialized.extend(tensor_name(field.bytes()?, 8)?);
            }
            11 => model.inputs.push(ValueInfo::read(field.bytes()?)?),
            GRAPH_OUTPUT => model.outputs.push(ValueInfo::read(field.bytes()?)?),
            _ => {}
        }
    }
    model
        .inputs
        .retain(|input| !initialized.contains(input.name.as_str()));
    zip_maps.retain(|zip_map: &ZipMap| {
        model.outputs.iter().any(|output| output.name == zip_map.output)
            && !consumed.contains(zip_map.output.as_bytes())
    });
    model.zip_maps = zip_maps;
    Ok(())
}

fn read_node<'a>(
    message: &'a [u8],
    node: usize,
    consumed: &mut HashSet<&'a [u8]>,
    zip_maps: &mut Vec<ZipMap>,
) -> Result<(), WireError> {
    let (mut input, mut output, mut op_type) = (&b""[..], &b""[..], &b""[..]);
    let mut attributes = Vec::new();
    for field in fields(message) {
        let field = field?;
        match field.number {
            1 => {
                input = field.bytes()?;
                consumed.insert(input);
            }
            2 => output = field.bytes()?,
            4 => op_type = field.bytes()?,
            5 => attributes.push(field.bytes()?),
            _ => {}
        }
    }
    // The name is the operator's in `ai.onnx.ml` only; no other domain of a converter has it.
    if op_type != b"ZipMap" {
        return Ok(());
    }
    if let Some(classes) = class_labels(&attributes)? {
        let (input, output) = (text(input), text(output));
        zip_maps.push(ZipMap {
            node,
            input,
            output,
            classes,
        });
    }
    Ok(())
}

/// Of a `ZipMap`: exactly one of `classlabels_int64s` and `classlabels_strings`.
fn class_labels(attributes: &[&[u8]]) -> Result<Option<ClassLabels>, WireError> {
    for attribute in attributes {
        let (mut name, mut ints, mut strings) = (&b""[..], Vec::new(), Vec::new());
        for field in fields(attribute) {
            let field = field?;
            match field.number {
                1 => name = field.bytes()?,
                8 => field.ints(&mut ints)?,
                9 => strings.push(field.text()?),
                _ => {}
            }
        }
        match name {
            b"classlabels_int64s" if !ints.is_empty() => return Ok(Some(ClassLabels::Ints(ints))),
            b"classlabels_strings" if !strings.is_empty() => return Ok(Some(ClassLabels::Strings(strings))),
            _ => {}
        }
    }
    Ok(None)
}

/// The name of a `TensorProto`, found without reading its data.
fn tensor_name(message: &[u8], number: u32) -> Result<Option<String>, WireError> {
    for field in fields(message) {
        let field = field?;
        if field.number == number {
            return Ok(Some(field.text()?));
        }
    }
    Ok(None)
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
