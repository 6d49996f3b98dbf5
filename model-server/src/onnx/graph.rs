//! A graph's nodes and constants as slices of its file, for whoever follows a value back to what makes it.

use std::collections::HashMap;

use super::types::{ClassLabels, ValueInfo};
use super::wire::{WireError, fields};

/// Field number of `GraphProto` that is edited, too.
pub(super) const GRAPH_NODE: u32 = 1;
/// Field number of `GraphProto` that is edited, too.
pub(super) const GRAPH_OUTPUT: u32 = 12;

/// Subgraphs in subgraphs; a file that goes deeper is not worth the stack.
const MAX_GRAPH_DEPTH: usize = 16;

/// A `GraphProto`.
#[derive(Debug, Default)]
pub(super) struct Graph<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    /// All of them, with and without an initializer.
    pub(super) inputs: Vec<ValueInfo>,
    pub(super) outputs: Vec<ValueInfo>,
    /// `TensorProto`s by name; empty for sparse ones.
    initializers: HashMap<&'a [u8], &'a [u8]>,
    /// Position of the node that makes a value, by name.
    makers: HashMap<&'a [u8], usize>,
}

/// A `NodeProto`.
#[derive(Debug, Default)]
pub(super) struct Node<'a> {
    pub(super) op: &'a [u8],
    pub(super) inputs: Vec<&'a [u8]>,
    pub(super) outputs: Vec<&'a [u8]>,
    attributes: Vec<&'a [u8]>,
}

impl<'a> Graph<'a> {
    pub(super) fn read(message: &'a [u8]) -> Result<Graph<'a>, WireError> {
        let mut graph = Graph::default();
        for field in fields(message) {
            let field = field?;
            match field.number {
                GRAPH_NODE => {
                    let node = Node::read(field.bytes()?)?;
                    for &output in node.outputs.iter().filter(|output| !output.is_empty()) {
                        graph.makers.insert(output, graph.nodes.len());
                    }
                    graph.nodes.push(node);
                }
                5 => {
                    let tensor = field.bytes()?;
                    if let Some(name) = field_of(tensor, 8)? {
                        graph.initializers.insert(name, tensor);
                    }
                }
                11 => graph.inputs.push(ValueInfo::read(field.bytes()?)?),
                GRAPH_OUTPUT => graph.outputs.push(ValueInfo::read(field.bytes()?)?),
                // A `SparseTensorProto`: its values have its name.
                15 => {
                    if let Some(values) = field_of(field.bytes()?, 1)?
                        && let Some(name) = field_of(values, 8)?
                    {
                        graph.initializers.insert(name, &[]);
                    }
                }
                _ => {}
            }
        }
        Ok(graph)
    }

    /// The node that makes the value.
    pub(super) fn maker(&self, value: &[u8]) -> Option<&Node<'a>> {
        self.nodes.get(*self.makers.get(value)?)
    }

    pub(super) fn is_initialized(&self, value: &[u8]) -> bool {
        self.initializers.contains_key(value)
    }

    /// Whether a node reads the value, one of a subgraph included.
    pub(super) fn reads(&self, value: &[u8]) -> bool {
        self.nodes.iter().any(|node| {
            node.inputs.contains(&value)
                || node
                    .attributes
                    .iter()
                    .any(|attribute| attribute_reads(attribute, value, MAX_GRAPH_DEPTH))
        })
    }

    /// The integers of an initializer or of a `Constant`; `None` for anything else.
    pub(super) fn constant_ints(&self, value: &[u8]) -> Option<Vec<i64>> {
        match self.constant(value)? {
            ClassLabels::Ints(ints) => Some(ints),
            ClassLabels::Strings(_) => None,
        }
    }

    /// The integers or strings of an initializer or of a `Constant`; `None` for anything else.
    pub(super) fn constant(&self, value: &[u8]) -> Option<ClassLabels> {
        let tensor = if let Some(tensor) = self.initializers.get(value) {
            tensor
        } else {
            let node = self.maker(value).filter(|node| node.op == b"Constant")?;
            field_of(node.attribute(b"value")?, 5).ok()??
        };
        labels_of(tensor).ok()?
    }
}

impl<'a> Node<'a> {
    fn read(message: &'a [u8]) -> Result<Node<'a>, WireError> {
        let mut node = Node::default();
        for field in fields(message) {
            let field = field?;
            match field.number {
                1 => node.inputs.push(field.bytes()?),
                2 => node.outputs.push(field.bytes()?),
                4 => node.op = field.bytes()?,
                5 => node.attributes.push(field.bytes()?),
                _ => {}
            }
        }
        Ok(node)
    }

    /// The first input, where there is one.
    pub(super) fn input(&self) -> Option<&'a [u8]> {
        self.inputs.first().copied()
    }

    /// The `AttributeProto` of this name.
    fn attribute(&self, name: &[u8]) -> Option<&'a [u8]> {
        let is_named = |attribute: &&&'a [u8]| matches!(field_of(attribute, 1), Ok(Some(own)) if own == name);
        self.attributes.iter().find(is_named).copied()
    }

    /// The integers of an attribute, none where there is no such one.
    pub(super) fn ints(&self, name: &[u8]) -> Vec<i64> {
        let mut ints = Vec::new();
        for field in fields(self.attribute(name).unwrap_or_default()).flatten() {
            if field.number == 8 && field.ints(&mut ints).is_err() {
                return Vec::new();
            }
        }
        ints
    }

    /// The one integer of an attribute.
    pub(super) fn int(&self, name: &[u8]) -> Option<i64> {
        let mut fields = fields(self.attribute(name)?).flatten();
        fields.find(|field| field.number == 3)?.int().ok()
    }

    /// The strings of an attribute, none where there is no such one.
    pub(super) fn strings(&self, name: &[u8]) -> Vec<String> {
        fields(self.attribute(name).unwrap_or_default())
            .flatten()
            .filter(|field| field.number == 9)
            .filter_map(|field| field.text().ok())
            .collect()
    }
}

/// Whether a node of the attribute's graphs reads the value.
fn attribute_reads(attribute: &[u8], value: &[u8], depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else {
        return true; // whatever is down there: the value is left alone
    };
    let graphs = fields(attribute)
        .flatten()
        .filter(|field| matches!(field.number, 6 | 11));
    let mut nodes = graphs
        .filter_map(|graph| graph.bytes().ok())
        .flat_map(|graph| fields(graph).flatten())
        .filter(|field| field.number == GRAPH_NODE)
        .filter_map(|node| Node::read(node.bytes().ok()?).ok());
    nodes.any(|node| {
        node.inputs.contains(&value)
            || node
                .attributes
                .iter()
                .any(|attribute| attribute_reads(attribute, value, depth))
    })
}

/// Integers or strings of a `TensorProto`, in typed fields or raw.
fn labels_of(tensor: &[u8]) -> Result<Option<ClassLabels>, WireError> {
    let (mut data_type, mut ints, mut strings, mut raw) = (0, Vec::new(), Vec::new(), None);
    for field in fields(tensor) {
        let field = field?;
        match field.number {
            2 => data_type = field.int()?,
            5 | 7 => field.ints(&mut ints)?,
            6 => strings.push(field.text()?),
            9 => raw = Some(field.bytes()?),
            _ => {}
        }
    }
    Ok(match (data_type, raw) {
        (6, Some(raw)) => {
            let values = raw.as_chunks().0.iter();
            Some(ClassLabels::Ints(
                values
                    .map(|&bytes| i64::from(i32::from_le_bytes(bytes)))
                    .collect(),
            ))
        }
        (7, Some(raw)) => {
            let values = raw.as_chunks().0.iter();
            Some(ClassLabels::Ints(
                values.map(|&bytes| i64::from_le_bytes(bytes)).collect(),
            ))
        }
        (6 | 7, None) => Some(ClassLabels::Ints(ints)),
        (8, None) => Some(ClassLabels::Strings(strings)),
        _ => None,
    })
}

/// The bytes of the first field of this number.
fn field_of(message: &[u8], number: u32) -> Result<Option<&[u8]>, WireError> {
    for field in fields(message) {
        let field = field?;
        if field.number == number {
            return field.bytes().map(Some);
        }
    }
    Ok(None)
}
