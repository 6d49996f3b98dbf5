//! `OpenAPI` 3.1 documents of a server and its models: what clients may send and will get, from the signatures.
//!
//! What JSON Schema cannot say stands in the descriptions: the number of values is the product of `shape`, names of
//! inputs and requested outputs are given once, and variable first dimensions agree.

mod bodies;
mod page;
mod schema;

use bytes::Bytes;
use serde_json::{Map, Value, json};

pub use self::page::page;
use self::{bodies::Bodies, schema::reference};
use crate::ModelSignature;

/// A model as the document needs it.
#[derive(Clone, Copy, Debug)]
pub struct DocumentedModel<'a> {
    /// Inputs, outputs and name.
    pub signature: &'a ModelSignature,
    /// The version, where the document is about one: its paths then name it.
    pub version: Option<&'a str>,
    /// Classes of a classifier, whose V1 answers have a label and a probability by class.
    pub classes: Option<&'a [String]>,
}

/// Document of the server: `GET /v2/openapi.json`.
pub fn server(name: &str, version: &str, models: &[DocumentedModel<'_>]) -> Bytes {
    let mut paths = Map::new();
    server_paths(&mut paths);
    for model in models {
        model_paths(&mut paths, model);
    }
    document(name, version, &paths)
}

/// Document of one model: `GET /v2/models/{m}[/versions/{v}]/openapi.json`.
pub fn model(server_version: &str, model: &DocumentedModel<'_>) -> Bytes {
    let mut paths = Map::new();
    model_paths(&mut paths, model);
    document(
        &model.signature.model,
        model.version.unwrap_or(server_version),
        &paths,
    )
}

fn document(title: &str, version: &str, paths: &Map<String, Value>) -> Bytes {
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": version,
            "description": "Open Inference Protocol, V1 and V2, over HTTP. Bodies may be compressed (`Content-Encoding`: \
                            gzip, deflate). The same port speaks V2 over gRPC.",
        },
        "paths": paths,
        "components": {"schemas": schema::shared(), "responses": schema::responses()},
    });
    document.to_string().into()
}

fn server_paths(paths: &mut Map<String, Value>) {
    let mut get = |path: &str, id: &str, summary: &str, ok: Value, others: &[&str]| {
        let responses = responses(&ok, others);
        let operation =
            json!({"operationId": id, "summary": summary, "tags": ["server"], "responses": responses});
        paths.insert(path.to_owned(), json!({"get": operation}));
    };
    let all = |schema: &str| schema::content(&reference(schema));
    get("/", "v1_alive", "V1 liveness.", all("Alive"), &[]);
    get(
        "/v2",
        "server_metadata",
        "Name, version and extensions of the server.",
        all("ServerMetadata"),
        &[],
    );
    get(
        "/v2/health/live",
        "server_live",
        "Whether the process can answer.",
        all("Health"),
        &[],
    );
    get(
        "/v2/health/ready",
        "server_ready",
        "Whether requests should be sent here.",
        all("Health"),
        &["NotReady"],
    );
    get(
        "/v1/models",
        "v1_models",
        "Names of all models.",
        all("ModelNames"),
        &[],
    );
    get(
        "/v2/models/stats",
        "all_statistics",
        "Statistics of all models.",
        all("Statistics"),
        &[],
    );
}

fn model_paths(paths: &mut Map<String, Value>, model: &DocumentedModel<'_>) {
    let name = &model.signature.model;
    let encoded = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
    let versions = model
        .version
        .map_or_else(String::new, |version| format!("/versions/{version}"));
    let (v1, v2) = (
        format!("/v1/models/{encoded}{versions}"),
        format!("/v2/models/{encoded}{versions}"),
    );
    let id = |action: &str| match model.version {
        Some(version) => format!("{name}/{version}/{action}"),
        None => format!("{name}/{action}"),
    };
    let get = |action: &str, summary: &str, schema: Value| {
        let responses = responses(&schema::content(&schema), &["NotFound", "Unavailable"]);
        json!({"get": {"operationId": id(action), "summary": summary, "tags": [name], "responses": responses}})
    };
    let bodies = Bodies::of(model);
    paths.insert(
        v2.clone(),
        get("metadata", "Inputs and outputs.", bodies.metadata()),
    );
    paths.insert(
        format!("{v2}/ready"),
        get("ready", "Whether the model answers.", reference("ModelReady")),
    );
    paths.insert(
        format!("{v2}/config"),
        get("config", "Configuration of the model.", json!({"type": "object"})),
    );
    paths.insert(
        format!("{v2}/stats"),
        get("stats", "Statistics of the model.", reference("Statistics")),
    );
    paths.insert(
        v1.clone(),
        get(
            "v1_ready",
            "Whether the model answers (V1).",
            reference("ModelReady"),
        ),
    );
    let post = |action: &str, summary: &str, description: &str, request: Value, ok: Value| {
        json!({"post": {
            "operationId": id(action),
            "summary": summary,
            "description": description,
            "tags": [name],
            "requestBody": {"required": true, "content": request},
            "responses": responses(&ok, &INFERENCE_FAULTS),
        }})
    };
    paths.insert(
        format!("{v2}/infer"),
        post(
            "infer",
            "Predicts (V2).",
            bodies::V2,
            bodies.v2_request(),
            bodies.v2_response(),
        ),
    );
    if let Some(request) = bodies.v1_request() {
        let path = format!("{v1}:predict");
        paths.insert(
            path,
            post(
                "predict",
                "Predicts (V1).",
                bodies::V1,
                request,
                bodies.v1_response(),
            ),
        );
    }
}

/// Names of the shared responses that an inference may get besides 200.
const INFERENCE_FAULTS: [&str; 10] = [
    "BadRequest",
    "NotFound",
    "Timeout",
    "TooLarge",
    "UnsupportedMediaType",
    "Overloaded",
    "Internal",
    "Unsupported",
    "Unavailable",
    "DeadlineExceeded",
];

fn responses(ok: &Value, others: &[&str]) -> Value {
    let mut all = Map::new();
    all.insert(
        "200".to_owned(),
        json!({"description": "As asked.", "content": ok}),
    );
    for name in others {
        let status = schema::status(name).to_string();
        all.insert(status, json!({"$ref": format!("#/components/responses/{name}")}));
    }
    all.into()
}

#[cfg(test)]
mod tests;
