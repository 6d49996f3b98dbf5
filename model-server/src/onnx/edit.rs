//! Graph surgery: a terminal `ZipMap` gives way to the tensor that goes into it.

use super::describe::{MODEL_GRAPH, OnnxModel, ZipMap};
use super::graph::{GRAPH_NODE, GRAPH_OUTPUT};
use super::wire::{WireError, fields, put_bytes, put_int};

/// `file` with each terminal `ZipMap` replaced by an Identity, so that the graph output of that name is the tensor of
/// probabilities, FP32 `[-1, C]`.
///
/// An Identity instead of a renamed tensor leaves every other node as it is, even one that reads the same tensor;
/// ONNX Runtime removes it again when it optimizes. Everything that is not understood is copied.
///
/// `model` must be what [`super::describe`] read from `file`.
pub(crate) fn without_zip_maps(file: &[u8], model: &OnnxModel) -> Vec<u8> {
    if model.zip_maps.is_empty() {
        return file.to_vec();
    }
    // `describe` has walked the same fields, so that the walk cannot fail; should it, the file stays as it is and
    // ONNX Runtime says what is wrong with it.
    let mut edited = edit_model(file, &model.zip_maps).unwrap_or_else(|_| file.to_vec());
    if model.opsets.iter().all(|opset| opset.domain != "ai.onnx") {
        put_bytes(&mut edited, MODEL_OPSET, &[0x10, IDENTITY_OPSET]);
    }
    edited
}

/// Field number of `ModelProto.opset_import`.
const MODEL_OPSET: u32 = 8;
/// An opset that every ONNX Runtime of the last years knows, for a file that imports `ai.onnx.ml` alone.
const IDENTITY_OPSET: u8 = 13;

fn edit_model(file: &[u8], zip_maps: &[ZipMap]) -> Result<Vec<u8>, WireError> {
    let mut edited = Vec::with_capacity(file.len() + 64);
    for field in fields(file) {
        let field = field?;
        if field.number == MODEL_GRAPH {
            let graph = edit_graph(field.bytes()?, zip_maps)?;
            put_bytes(&mut edited, MODEL_GRAPH, &graph);
        } else {
            edited.extend_from_slice(&file[field.range]);
        }
    }
    Ok(edited)
}

fn edit_graph(graph: &[u8], zip_maps: &[ZipMap]) -> Result<Vec<u8>, WireError> {
    let mut edited = Vec::with_capacity(graph.len() + 64);
    let mut node = 0;
    for field in fields(graph) {
        let field = field?;
        match field.number {
            GRAPH_NODE => {
                match zip_maps.iter().find(|zip_map| zip_map.node == node) {
                    Some(zip_map) => put_bytes(&mut edited, GRAPH_NODE, &identity(zip_map)),
                    None => edited.extend_from_slice(&graph[field.range]),
                }
                node += 1;
            }
            GRAPH_OUTPUT => {
                let name = output_name(field.bytes()?)?;
                match zip_maps.iter().find(|zip_map| zip_map.output.as_bytes() == name) {
                    Some(zip_map) => put_bytes(&mut edited, GRAPH_OUTPUT, &probabilities(zip_map)),
                    None => edited.extend_from_slice(&graph[field.range]),
                }
            }
            _ => edited.extend_from_slice(&graph[field.range]),
        }
    }
    Ok(edited)
}

fn output_name(value_info: &[u8]) -> Result<&[u8], WireError> {
    for field in fields(value_info) {
        let field = field?;
        if field.number == 1 {
            return field.bytes();
        }
    }
    Ok(b"")
}

/// A `NodeProto`: Identity of `ai.onnx`, which every opset has.
fn identity(zip_map: &ZipMap) -> Vec<u8> {
    let mut node = Vec::new();
    put_bytes(&mut node, 1, zip_map.input.as_bytes());
    put_bytes(&mut node, 2, zip_map.output.as_bytes());
    put_bytes(&mut node, 4, b"Identity");
    node
}

/// A `ValueInfoProto`: `tensor(float)` of shape `[?, C]`; `ZipMap` takes nothing else.
fn probabilities(zip_map: &ZipMap) -> Vec<u8> {
    let mut classes = Vec::new();
    put_int(&mut classes, 1, zip_map.classes.len() as i64);
    let mut shape = Vec::new();
    put_bytes(&mut shape, 1, b"");
    put_bytes(&mut shape, 1, &classes);
    let mut tensor = Vec::new();
    put_int(&mut tensor, 1, 1);
    put_bytes(&mut tensor, 2, &shape);
    let mut value_type = Vec::new();
    put_bytes(&mut value_type, 1, &tensor);
    let mut info = Vec::new();
    put_bytes(&mut info, 1, zip_map.output.as_bytes());
    put_bytes(&mut info, 2, &value_type);
    info
}

#[cfg(test)]
mod tests {
    use super::super::describe::describe;
    use super::super::types::ClassLabels;
    use super::*;

    fn message(parts: &[(u32, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, bytes) in parts {
            put_bytes(&mut out, *number, bytes);
        }
        out
    }

    /// `probabilities` goes through a `ZipMap` into the output `p`; fields that no version of ONNX has stand around.
    fn classifier(extra_consumer: bool) -> Vec<u8> {
        let labels = message(&[(1, b"classlabels_strings"), (9, b"no"), (9, b"yes")]);
        let zip_map = message(&[
            (1, b"probabilities"),
            (2, b"p"),
            (4, b"ZipMap"),
            (5, &labels),
            (7, b"ai.onnx.ml"),
        ]);
        let other = message(&[(1, b"p"), (2, b"q"), (4, b"SequenceLength")]);
        let before = message(&[
            (1, b"x"),
            (2, b"probabilities"),
            (4, b"Softmax"),
            (777, b"kept in a node"),
        ]);
        let output = message(&[(1, b"p")]);
        let mut parts = vec![
            (1, &before[..]),
            (1, &zip_map),
            (999, b"kept in the graph"),
            (12, &output),
        ];
        if extra_consumer {
            parts.push((1, &other));
        }
        let graph = message(&parts);
        let mut file = Vec::new();
        put_int(&mut file, 1, 9);
        put_bytes(&mut file, 7, &graph);
        put_bytes(&mut file, 888, b"kept in the model");
        file
    }

    fn contains(file: &[u8], part: &[u8]) -> bool {
        file.windows(part.len()).any(|window| window == part)
    }

    #[test]
    fn a_terminal_zip_map_becomes_a_tensor_and_all_else_stays() {
        let file = classifier(false);
        let model = describe(&file).unwrap();
        assert_eq!(model.zip_maps.len(), 1);
        let classes = ClassLabels::Strings(vec!["no".to_owned(), "yes".to_owned()]);
        assert_eq!(model.zip_maps[0].classes, classes);
        let edited = without_zip_maps(&file, &model);
        let again = describe(&edited).unwrap();
        assert!(again.zip_maps.is_empty());
        let spec = again.outputs[0].spec().unwrap();
        assert_eq!(
            (
                spec.name.as_str(),
                spec.datatype.as_str(),
                spec.shape.dimensions()
            ),
            ("p", "FP32", &[-1, 2][..])
        );
        for part in [
            &b"kept in the model"[..],
            b"kept in the graph",
            b"kept in a node",
            b"Softmax",
            b"Identity",
        ] {
            assert!(contains(&edited, part), "{}", part.escape_ascii());
        }
        assert!(!contains(&edited, b"ZipMap"));
    }

    #[test]
    fn no_damage_to_a_file_is_more_than_an_error() {
        let file = classifier(false);
        let survive = |bytes: &[u8]| {
            if let Ok(model) = describe(bytes) {
                let edited = without_zip_maps(bytes, &model);
                assert!(describe(&edited).is_ok_and(|model| model.zip_maps.is_empty()));
            }
        };
        for end in 0..file.len() {
            survive(&file[..end]);
        }
        for (at, bit) in (0..file.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << bit;
            survive(&damaged);
        }
    }

    #[test]
    fn a_zip_map_that_something_reads_is_left_alone() {
        let file = classifier(true);
        let model = describe(&file).unwrap();
        assert!(model.zip_maps.is_empty());
        assert_eq!(without_zip_maps(&file, &model), file);
    }
}
