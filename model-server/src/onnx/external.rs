//! Files that a model keeps its weights in.

use std::collections::BTreeSet;

use super::wire::{WireError, fields};

/// Names of the files that hold external data, as the model gives them: relative to its own directory.
///
/// Nothing for bytes that are no ONNX model; [`describe`](super::describe) tells what is wrong with those.
pub(crate) fn external_files(file: &[u8]) -> Vec<String> {
    let mut locations = Locations::default();
    // What was found before the fault is of no use: the file cannot be loaded.
    if in_model(file, &mut locations).is_err() {
        return Vec::new();
    }
    locations.names.into_iter().collect()
}

/// Graphs within graphs; ONNX Runtime reads fewer.
const DEEPEST: usize = 100;

#[derive(Default)]
struct Locations {
    names: BTreeSet<String>,
    depth: usize,
}

/// `ModelProto`: its graph and its functions' nodes.
fn in_model(message: &[u8], locations: &mut Locations) -> Result<(), WireError> {
    for field in fields(message) {
        let field = field?;
        match field.number {
            7 => in_graph(field.bytes()?, locations)?,
            25 => in_function(field.bytes()?, locations)?,
            _ => {}
        }
    }
    Ok(())
}

fn in_function(message: &[u8], locations: &mut Locations) -> Result<(), WireError> {
    for field in fields(message) {
        let field = field?;
        if field.number == 7 {
            in_node(field.bytes()?, locations)?;
        }
    }
    Ok(())
}

/// `GraphProto`: nodes, initializers, sparse initializers.
fn in_graph(message: &[u8], locations: &mut Locations) -> Result<(), WireError> {
    if locations.depth == DEEPEST {
        return Err(WireError::Malformed);
    }
    locations.depth += 1;
    for field in fields(message) {
        let field = field?;
        match field.number {
            1 => in_node(field.bytes()?, locations)?,
            5 => in_tensor(field.bytes()?, locations)?,
            15 => {
                for part in fields(field.bytes()?) {
                    let part = part?;
                    if matches!(part.number, 1 | 2) {
                        in_tensor(part.bytes()?, locations)?;
                    }
                }
            }
            _ => {}
        }
    }
    locations.depth -= 1;
    Ok(())
}

/// `NodeProto`: attributes that are tensors or graphs.
fn in_node(message: &[u8], locations: &mut Locations) -> Result<(), WireError> {
    for field in fields(message) {
        let field = field?;
        if field.number != 5 {
            continue;
        }
        for part in fields(field.bytes()?) {
            let part = part?;
            match part.number {
                5 | 10 => in_tensor(part.bytes()?, locations)?,
                6 | 11 => in_graph(part.bytes()?, locations)?,
                // The numbers of a tree ensemble are many, and an attribute with numbers has nothing else.
                7..=9 => break,
                _ => {}
            }
        }
    }
    Ok(())
}

/// `TensorProto`: the entry `location` of its external data.
fn in_tensor(message: &[u8], locations: &mut Locations) -> Result<(), WireError> {
    for field in fields(message) {
        let field = field?;
        if field.number != 13 {
            continue;
        }
        let (mut key, mut value) = (String::new(), String::new());
        for part in fields(field.bytes()?) {
            let part = part?;
            match part.number {
                1 => key = part.text()?,
                2 => value = part.text()?,
                _ => {}
            }
        }
        if key == "location" {
            locations.names.insert(value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::wire::put_bytes;
    use super::*;

    fn message(parts: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, bytes) in parts {
            put_bytes(&mut out, *number, bytes);
        }
        out
    }

    #[test]
    fn weights_are_found_wherever_a_tensor_can_be() {
        let entry = |key: &str, value: &str| message(&[(1, key.into()), (2, value.into())]);
        let tensor = |file: &str| message(&[(13, entry("offset", "0")), (13, entry("location", file))]);
        let constant = message(&[(5, message(&[(1, b"value".to_vec()), (5, tensor("b.bin"))]))]);
        let body = message(&[(5, tensor("c.bin"))]);
        let branch = message(&[(5, message(&[(6, body)]))]);
        let graph = message(&[
            (1, constant.clone()),
            (1, branch),
            (5, tensor("a.bin")),
            (5, tensor("a.bin")),
        ]);
        let function = message(&[(7, constant)]);
        let model = message(&[(7, graph), (25, function)]);
        assert_eq!(external_files(&model), ["a.bin", "b.bin", "c.bin"]);
        assert!(external_files(&model[..model.len() - 1]).is_empty());
        assert!(external_files(b"").is_empty());
    }
}
