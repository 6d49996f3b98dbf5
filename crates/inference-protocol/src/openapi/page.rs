//! The document for people: one page without anything from elsewhere.

use std::fmt::Write as _;

use bytes::Bytes;

use super::DocumentedModel;
use crate::TensorSpec;

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport \
    content='width=device-width'><style>body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    table{border-collapse:collapse}td,th{text-align:left;padding:.2rem 1rem .2rem 0;border-bottom:1px solid #ccc}\
    pre,code{font:13px ui-monospace,monospace}pre{background:#f4f4f4;padding:.8rem;overflow:auto}</style>";

/// Page of the server: `GET /v2/docs`. Every model with its tensors and a request to try.
pub fn page(server: &str, version: &str, models: &[DocumentedModel<'_>]) -> Bytes {
    let mut out = String::with_capacity(2_048 * (models.len() + 1));
    out.push_str(HEAD);
    let title = format!("{} {}", escaped(server), escaped(version));
    let _ = write!(out, "<title>{title}</title><h1>{title}</h1>");
    out.push_str(
        "<p>Open Inference Protocol V1 and V2 over HTTP, V2 over gRPC on the same port. For machines: ",
    );
    out.push_str("<a href=/v2/openapi.json>openapi.json</a>.</p>");
    for model in models {
        let name = escaped(&model.signature.model);
        let path =
            percent_encoding::utf8_percent_encode(&model.signature.model, percent_encoding::NON_ALPHANUMERIC);
        let _ = write!(out, "<h2>{name}</h2><p><a href=/v2/models/{path}>metadata</a> ");
        let _ = write!(out, "<a href=/v2/models/{path}/openapi.json>openapi.json</a></p>");
        out.push_str("<table><tr><th>tensor<th>name<th>datatype<th>shape");
        rows(&mut out, "input", &model.signature.inputs);
        rows(&mut out, "optional input", &model.signature.optional_inputs);
        rows(&mut out, "output", &model.signature.outputs);
        out.push_str("</table>");
        if let Some(classes) = model.classes {
            let _ = write!(out, "<p>classes: {}</p>", escaped(&classes.join(", ")));
        }
        let body = escaped(&example(model));
        let _ = write!(
            out,
            "<pre>curl -X POST $SERVER/v2/models/{path}/infer -d '{body}'</pre>"
        );
    }
    out.into_bytes().into()
}

fn rows(out: &mut String, role: &str, specs: &[TensorSpec]) {
    for spec in specs {
        let name = escaped(&spec.name);
        let _ = write!(
            out,
            "<tr><td>{role}<td><code>{name}</code><td>{}<td><code>{}</code>",
            spec.datatype, spec.shape
        );
    }
}

/// A request of zeros: one row, one of every variable dimension.
fn example(model: &DocumentedModel<'_>) -> String {
    const LONGEST: i64 = 64;
    let inputs: Vec<serde_json::Value> = model
        .signature
        .inputs
        .iter()
        .map(|spec| {
            let shape: Vec<i64> = spec.shape.dimensions().iter().map(|&dimension| dimension.abs()).collect();
            let count = shape.iter().product::<i64>();
            let zero = match spec.datatype {
                crate::Datatype::Bytes => serde_json::json!(""),
                crate::Datatype::Bool => serde_json::json!(false),
                _ => serde_json::json!(0),
            };
            let data = if count <= LONGEST {
                serde_json::Value::from(vec![zero; usize::try_from(count).unwrap_or_default()])
            } else {
                format!("{count} values").into()
            };
            serde_json::json!({"name": spec.name, "datatype": spec.datatype.as_str(), "shape": shape, "data": data})
        })
        .collect();
    serde_json::json!({ "inputs": inputs }).to_string()
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}
