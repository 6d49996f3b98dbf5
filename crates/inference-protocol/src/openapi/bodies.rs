//! What one model takes and gives, as schemas.

use serde_json::{Map, Value, json};

use super::{
    DocumentedModel,
    schema::{
        Needed::{Always, Sometimes},
        content, data, loose, nested, object, reference, shape, value,
    },
};
use crate::{
    Datatype, TensorSpec,
    rest::{JSON, OCTET_STREAM},
};

/// Description of V2 inference.
pub(super) const V2: &str = "`data` is nested by `shape` or flat, row-major; the number of values is the product of \
    `shape`. Every input is given once. Variable first dimensions of inputs that share rows are equal. Values may follow \
    the JSON part as binary data: then `parameters.binary_data_size` of the input replaces `data`, and the header \
    `Inference-Header-Content-Length` tells the length of the JSON part; with the value 0 the whole body is the only \
    input's. FP16 and BF16 exist as binary data only.";

/// Description of V1 inference.
pub(super) const V1: &str = "Exactly one of `instances` (row by row) and `inputs` (whole tensors). A row of a model with \
    one input is the bare value or an object by name; with several inputs it is an object by name.";

/// Schemas of a model's bodies.
pub(super) struct Bodies<'a> {
    model: &'a DocumentedModel<'a>,
}

impl<'a> Bodies<'a> {
    pub(super) fn of(model: &'a DocumentedModel<'a>) -> Bodies<'a> {
        Bodies { model }
    }

    fn inputs(&self) -> &'a [TensorSpec] {
        &self.model.signature.inputs
    }

    /// The inputs, then those that may be left out.
    fn all_inputs(&self) -> Vec<TensorSpec> {
        [self.inputs(), &self.model.signature.optional_inputs].concat()
    }

    fn outputs(&self) -> &'a [TensorSpec] {
        &self.model.signature.outputs
    }

    /// Body of the metadata.
    pub(super) fn metadata(&self) -> Value {
        let tensors = |specs: &[TensorSpec]| {
            let tensor = |spec: &TensorSpec| {
                object(&[
                    ("name", json!({"const": spec.name}), Always),
                    ("datatype", json!({"const": spec.datatype.as_str()}), Always),
                    ("shape", json!({"const": spec.shape.dimensions()}), Always),
                ])
            };
            let all: Vec<Value> = specs.iter().map(tensor).collect();
            let count = all.len();
            list(all, count)
        };
        object(&[
            ("name", json!({"const": self.model.signature.model}), Always),
            (
                "versions",
                json!({"type": "array", "items": {"type": "string"}}),
                Always,
            ),
            ("platform", json!({"type": "string"}), Always),
            ("inputs", tensors(&self.all_inputs()), Always),
            ("outputs", tensors(self.outputs()), Always),
            (
                "properties",
                json!({"type": "object", "additionalProperties": {"type": "string"}}),
                Sometimes,
            ),
        ])
    }

    /// Content of a V2 request.
    pub(super) fn v2_request(&self) -> Value {
        let inputs: Option<Vec<Value>> = self.all_inputs().iter().map(input).collect();
        let Some(inputs) = inputs else {
            // An input without a JSON form: the JSON part alone is no request.
            return json!({OCTET_STREAM: {"schema": {"type": "string", "format": "binary"}}});
        };
        let names: Vec<&str> = self.outputs().iter().map(|spec| spec.name.as_str()).collect();
        let output = object(&[
            ("name", json!({"enum": names}), Always),
            ("parameters", reference("OutputParameters"), Sometimes),
        ]);
        let schema = object(&[
            ("id", json!({"type": ["string", "null"]}), Sometimes),
            ("parameters", reference("RequestParameters"), Sometimes),
            ("inputs", list(inputs, self.inputs().len()), Always),
            (
                "outputs",
                json!({"type": ["array", "null"], "items": output, "maxItems": names.len()}),
                Sometimes,
            ),
        ]);
        content(&schema)
    }

    /// Content of a V2 reply.
    pub(super) fn v2_response(&self) -> Value {
        let output = |spec: &TensorSpec| {
            let mut members = vec![
                ("name", json!({"const": spec.name}), Always),
                ("datatype", json!({"type": "string"}), Always),
                (
                    "shape",
                    json!({"type": "array", "items": {"type": "integer", "minimum": 0}}),
                    Always,
                ),
                ("parameters", reference("Parameters"), Sometimes),
            ];
            let values = value(spec.datatype, true).unwrap_or_else(|| json!({}));
            // Classification makes any output one of texts.
            let values = json!({"type": "array", "items": {"anyOf": [values, {"type": "string"}]}});
            members.push(("data", values, Sometimes));
            let required: Vec<&str> = members.iter().filter(|m| m.2 == Always).map(|m| m.0).collect();
            let properties: Map<String, Value> =
                members.iter().map(|m| (m.0.to_owned(), m.1.clone())).collect();
            json!({"type": "object", "properties": properties, "required": required})
        };
        let outputs: Vec<Value> = self.outputs().iter().map(output).collect();
        let schema = object(&[
            ("model_name", json!({"const": self.model.signature.model}), Always),
            ("model_version", json!({"type": "string"}), Sometimes),
            ("id", json!({"type": "string"}), Sometimes),
            ("parameters", reference("Parameters"), Sometimes),
            (
                "outputs",
                json!({"type": "array", "items": {"anyOf": outputs}}),
                Always,
            ),
        ]);
        json!({
            JSON: {"schema": schema},
            OCTET_STREAM: {"schema": {
                "type": "string",
                "format": "binary",
                "description": "The JSON part, as long as `Inference-Header-Content-Length` says, then the values of the \
                                outputs with `binary_data_size`, in their order.",
            }},
        })
    }

    /// Content of a V1 request; nothing for a model with an input that has no JSON form.
    pub(super) fn v1_request(&self) -> Option<Value> {
        let values = |spec: &TensorSpec| v1_value(spec.datatype);
        let fits = |spec: &TensorSpec, dimensions: &[i64]| {
            let values = values(spec)?;
            Some(if spec.any_rank {
                json!({})
            } else {
                loose(dimensions, &values)
            })
        };
        let whole = |spec: &TensorSpec| fits(spec, spec.shape.dimensions());
        let columns = by_name(&self.all_inputs(), self.inputs().len(), whole)?;
        let inputs = match self.inputs() {
            // A tensor of objects cannot be: an object is by name.
            [only] => json!({"anyOf": [whole(only)?, columns]}),
            _ => columns,
        };
        let mut properties = Map::new();
        properties.insert("inputs".to_owned(), inputs);
        let mut forms = vec![json!({"required": ["inputs"]})];
        // Rows are the first dimension, which every input needs for this form.
        if self.all_inputs().iter().all(|spec| spec.shape.rank() > 0) {
            let row = |spec: &TensorSpec| fits(spec, spec.shape.dimensions().get(1..)?);
            let rows = by_name(&self.all_inputs(), self.inputs().len(), row)?;
            let items = match self.inputs() {
                [only] => json!({"anyOf": [row(only)?, rows]}),
                _ => rows,
            };
            let mut fixed = self
                .inputs()
                .iter()
                .filter_map(|spec| spec.shape.rows().filter(|&rows| rows >= 0));
            let instances = match fixed.next() {
                Some(rows) => {
                    json!({"type": "array", "items": items, "minItems": rows.max(1), "maxItems": rows})
                }
                None => json!({"type": "array", "items": items, "minItems": 1}),
            };
            properties.insert("instances".to_owned(), instances);
            forms.push(json!({"required": ["instances"]}));
        }
        let schema = json!({"type": "object", "properties": properties, "oneOf": forms});
        Some(content(&schema))
    }

    /// Content of a V1 reply: in the request's form.
    pub(super) fn v1_response(&self) -> Value {
        let schema = json!({
            "type": "object",
            "properties": {
                "predictions": {"type": "array", "items": self.v1_row()},
                "outputs": {},
            },
            "oneOf": [{"required": ["predictions"]}, {"required": ["outputs"]}],
        });
        content(&schema)
    }

    fn v1_row(&self) -> Value {
        if let Some(classes) = self.model.classes {
            let probabilities: Map<String, Value> = classes
                .iter()
                .map(|class| (class.clone(), json!({"type": ["number", "null"]})))
                .collect();
            return object(&[
                ("label", json!({"type": ["string", "integer"]}), Always),
                (
                    "probabilities",
                    json!({"type": "object", "properties": probabilities, "required": classes}),
                    Always,
                ),
            ]);
        }
        let row = |spec: &TensorSpec| {
            let values = value(spec.datatype, true).unwrap_or_else(|| json!({}));
            // The last dimensions of an output may depend on its input in ways that its shape does not tell.
            let dimensions = spec.shape.dimensions().get(1..).unwrap_or_default();
            Some(nested(dimensions, values))
        };
        match self.outputs() {
            [only] => row(only).unwrap_or_default(),
            several => by_name(several, several.len(), row).unwrap_or_default(),
        }
    }
}

/// A V2 input tensor; nothing for datatypes without a JSON form.
fn input(spec: &TensorSpec) -> Option<Value> {
    Some(object(&[
        ("name", json!({"const": spec.name}), Always),
        ("datatype", json!({"const": spec.datatype.as_str()}), Always),
        ("shape", shape(spec), Always),
        ("parameters", reference("Parameters"), Sometimes),
        ("data", data(spec, value(spec.datatype, false)?), Always),
    ]))
}

/// V1 has bytes as base64, too.
fn v1_value(datatype: Datatype) -> Option<Value> {
    if datatype == Datatype::Bytes {
        let base64 = json!({
            "type": "object",
            "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
            "required": ["b64"],
            "additionalProperties": false,
        });
        return Some(json!({"anyOf": [{"type": "string"}, base64]}));
    }
    value(datatype, false)
}

/// An object with a member for each tensor and no other; those after `required` may be missing.
fn by_name(
    specs: &[TensorSpec],
    required: usize,
    schema: impl Fn(&TensorSpec) -> Option<Value>,
) -> Option<Value> {
    let members: Option<Map<String, Value>> = specs
        .iter()
        .map(|spec| Some((spec.name.clone(), schema(spec)?)))
        .collect();
    let names: Vec<&str> = specs[..required].iter().map(|spec| spec.name.as_str()).collect();
    Some(json!({"type": "object", "properties": members?, "required": names, "additionalProperties": false}))
}

/// An array of these elements, `least` of them at least.
fn list(elements: Vec<Value>, least: usize) -> Value {
    let most = elements.len();
    let items = match <[Value; 1]>::try_from(elements) {
        Ok([only]) => only,
        Err(none) if none.is_empty() => json!({}),
        Err(several) => json!({"anyOf": several}),
    };
    json!({"type": "array", "items": items, "minItems": least, "maxItems": most})
}
