//! Schemas of values and of what all models share.

use serde_json::{Map, Value, json};

use crate::{Datatype, TensorSpec};

pub(super) fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

/// The content of a JSON body.
pub(super) fn content(schema: &Value) -> Value {
    json!({"application/json": {"schema": schema}})
}

/// One value of a tensor; nothing for datatypes without a JSON form. A reply may have `null` for NaN and infinities.
pub(super) fn value(datatype: Datatype, in_reply: bool) -> Option<Value> {
    let integer = |minimum: i128, maximum: i128| {
        // As text, since numbers beyond 64 bits are not needed but both of their ends are.
        let number = |value: i128| serde_json::from_str::<Value>(&value.to_string()).unwrap_or_default();
        json!({"type": "integer", "minimum": number(minimum), "maximum": number(maximum)})
    };
    // A bound would not be exact: what lies beyond the largest number by less than half a place is rounded to it.
    let float = |format: &str| {
        if in_reply {
            json!({"type": ["number", "null"], "format": format})
        } else {
            json!({"type": "number", "format": format})
        }
    };
    Some(match datatype {
        Datatype::Bool if in_reply => json!({"type": "boolean"}),
        Datatype::Bool => json!({"enum": [true, false, 0, 1]}),
        Datatype::Uint8 => integer(0, u8::MAX.into()),
        Datatype::Uint16 => integer(0, u16::MAX.into()),
        Datatype::Uint32 => integer(0, u32::MAX.into()),
        Datatype::Uint64 => integer(0, u64::MAX.into()),
        Datatype::Int8 => integer(i8::MIN.into(), i8::MAX.into()),
        Datatype::Int16 => integer(i16::MIN.into(), i16::MAX.into()),
        Datatype::Int32 => integer(i32::MIN.into(), i32::MAX.into()),
        Datatype::Int64 => integer(i64::MIN.into(), i64::MAX.into()),
        Datatype::Fp32 => float("float"),
        Datatype::Fp64 => float("double"),
        Datatype::Bytes => json!({"type": "string"}),
        Datatype::Fp16 | Datatype::Bf16 => return None,
    })
}

/// Arrays in arrays around `value`, one for each dimension; `value` itself for none.
pub(super) fn nested(dimensions: &[i64], value: Value) -> Value {
    dimensions.iter().rev().fold(value, |items, &dimension| {
        if dimension < 0 {
            json!({"type": "array", "items": items})
        } else {
            json!({"type": "array", "items": items, "minItems": dimension, "maxItems": dimension})
        }
    })
}

/// A V1 tensor or row: nested, but dimensions of one element may be left out: all of them, or all but the first.
pub(super) fn loose(dimensions: &[i64], value: &Value) -> Value {
    let ones = |dimensions: &[i64]| dimensions.iter().all(|dimension| matches!(dimension, -1 | 1));
    let mut forms = vec![nested(dimensions, value.clone())];
    if dimensions.len() > 1 && ones(&dimensions[1..]) {
        forms.push(nested(&dimensions[..1], value.clone()));
    }
    if !dimensions.is_empty() && ones(dimensions) {
        forms.push(value.clone());
    }
    match <[Value; 1]>::try_from(forms) {
        Ok([only]) => only,
        Err(forms) => json!({"anyOf": forms}),
    }
}

/// `data` of a tensor: nested by its shape, or one flat array.
pub(super) fn data(spec: &TensorSpec, value: Value) -> Value {
    if spec.any_rank {
        return json!({});
    }
    let shape = &spec.shape;
    let dimensions = shape.dimensions();
    let flat = if shape.is_variable() {
        json!({"type": "array", "items": value})
    } else {
        let count: i64 = dimensions.iter().product();
        json!({"type": "array", "items": value, "minItems": count, "maxItems": count})
    };
    match dimensions {
        [] => json!({"anyOf": [value, flat]}),
        [_] => flat,
        several => json!({"anyOf": [nested(several, value), flat]}),
    }
}

/// `shape` of a tensor: the model's own where that is fixed.
pub(super) fn shape(spec: &TensorSpec) -> Value {
    let size = json!({"type": "integer", "minimum": 0});
    if spec.any_rank {
        return json!({"type": "array", "items": size});
    }
    let dimensions: Vec<Value> = spec
        .shape
        .dimensions()
        .iter()
        .map(|&dimension| match dimension {
            ..0 => size.clone(),
            fixed => json!({"const": fixed}),
        })
        .collect();
    let rank = dimensions.len();
    json!({"type": "array", "items": {"type": "integer"}, "prefixItems": dimensions, "minItems": rank, "maxItems": rank})
}

/// An object with these members.
pub(super) fn object<const N: usize>(members: &[(&str, Value, Needed); N]) -> Value {
    let required: Vec<&str> = members
        .iter()
        .filter(|(_, _, needed)| *needed == Needed::Always)
        .map(|(name, _, _)| *name)
        .collect();
    let properties: Map<String, Value> = members
        .iter()
        .map(|(name, schema, _)| ((*name).to_owned(), schema.clone()))
        .collect();
    json!({"type": "object", "properties": properties, "required": required})
}

/// Whether a member has to be there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Needed {
    Always,
    Sometimes,
}

/// Schemas that all models share.
pub(super) fn shared() -> Value {
    use Needed::{Always, Sometimes};
    let text = || json!({"type": "string"});
    let texts = || json!({"type": "array", "items": {"type": "string"}});
    let boolean = || json!({"type": "boolean"});
    json!({
        "Error": object(&[
            ("error", json!({"type": "string", "description": "What is wrong, expected and got."}), Always),
            ("code", json!({"type": "string", "description": "The same for machines."}), Always),
        ]),
        "Alive": object(&[("status", json!({"const": "alive"}), Always)]),
        "Health": object(&[("live", boolean(), Always), ("ready", boolean(), Always)]),
        "ServerMetadata": object(&[("name", text(), Always), ("version", text(), Always), ("extensions", texts(), Always)]),
        "ModelNames": object(&[("models", texts(), Always)]),
        "ModelReady": object(&[("name", text(), Always), ("ready", boolean(), Always), ("error", text(), Sometimes)]),
        "Statistics": object(&[("model_stats", json!({"type": "array", "items": {"type": "object"}}), Always)]),
        "Parameters": {
            "description": "Parameters of the protocol and of the user's own.",
            "type": ["object", "null"],
            "additionalProperties": {"type": ["string", "number", "boolean"]},
            "maxProperties": 256,
        },
        "RequestParameters": {
            "description": "`binary_data_output`: whether outputs are binary where they do not say themselves. \
                            `timeout`: microseconds that the request may wait. `priority`: 1 is the highest.",
            "type": ["object", "null"],
            "properties": {"binary_data_output": {"type": "boolean"}},
            "additionalProperties": {"type": ["string", "number", "boolean"]},
            "maxProperties": 256,
        },
        "OutputParameters": {
            "description": "`binary_data`: whether this output is binary. `classification`: only so many classes, each \
                            as `value:index[:label]`.",
            "type": ["object", "null"],
            "properties": {"binary_data": {"type": "boolean"}},
            "additionalProperties": {"type": ["string", "number", "boolean"]},
            "maxProperties": 256,
        },
    })
}

/// Shared responses: name, status, meaning.
const RESPONSES: [(&str, u16, &str); 11] = [
    (
        "BadRequest",
        400,
        "Something in the request is not as the protocol or the model has it.",
    ),
    ("NotFound", 404, "No such model or version."),
    ("Timeout", 408, "The body took too long to arrive."),
    (
        "TooLarge",
        413,
        "The body is larger than the limit, before or after decompression.",
    ),
    (
        "UnsupportedMediaType",
        415,
        "The body has a content coding other than gzip and deflate.",
    ),
    (
        "Overloaded",
        429,
        "Too many requests wait for the model; `Retry-After` tells when to come back.",
    ),
    ("Internal", 500, "The server failed; its log says why."),
    (
        "Unsupported",
        501,
        "A part of the protocol that this server does not have.",
    ),
    (
        "Unavailable",
        503,
        "The model is not ready, or the server ends; `Retry-After` tells when to come back.",
    ),
    (
        "DeadlineExceeded",
        504,
        "The request's time was over before it ran.",
    ),
    ("NotReady", 503, "Models are loading, or the server ends."),
];

/// Status of a shared response.
pub(super) fn status(name: &str) -> u16 {
    let found = RESPONSES.iter().find(|(known, _, _)| *known == name);
    found.map_or(500, |(_, status, _)| *status)
}

pub(super) fn responses() -> Value {
    let all: Map<String, Value> = RESPONSES
        .iter()
        .map(|(name, _, meaning)| {
            let schema = match *name {
                "NotReady" => reference("Health"),
                "Unavailable" => json!({"anyOf": [reference("Error"), reference("ModelReady")]}),
                _ => reference("Error"),
            };
            (
                (*name).to_owned(),
                json!({"description": meaning, "content": content(&schema)}),
            )
        })
        .collect();
    all.into()
}
