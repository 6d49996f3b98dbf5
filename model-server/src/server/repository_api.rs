//! The extension `model_repository`: what is known, load, unload.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use plumbline_inference_protocol::ProtocolError;
use plumbline_inference_protocol::grpc::proto;
use proto::ModelRepositoryParameter;
use proto::model_repository_parameter::ParameterChoice;
use proto::repository_index_response::ModelIndex;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::State;
use crate::repository::{IndexEntry, LoadParameters, ModelState};

/// Parameter with a model configuration.
const CONFIG: &str = "config";
/// Before the name of a parameter with a file.
const FILE: &str = "file:";
/// Parameter of an unload.
const UNLOAD_DEPENDENTS: &str = "unload_dependents";

#[derive(Default, Deserialize)]
struct IndexBody {
    #[serde(default)]
    ready: bool,
}

#[derive(Default, Deserialize)]
struct OrderBody {
    #[serde(default)]
    parameters: Map<String, Value>,
}

/// `POST /v2/repository[/{repository}]/index`.
pub(super) fn index(state: &State, repository: Option<&str>, body: &Bytes) -> Result<Value, ProtocolError> {
    let IndexBody { ready } = parse(body)?;
    let line = |entry: IndexEntry| {
        let mut line = json!({"name": entry.name, "state": entry.state.name(), "reason": entry.reason});
        if let Some(version) = entry.version {
            line["version"] = version.into();
        }
        line
    };
    Ok(entries(state, repository, ready)?.map(line).collect())
}

/// The RPC `RepositoryIndex`.
pub(super) fn index_message(
    state: &State,
    request: &proto::RepositoryIndexRequest,
) -> Result<proto::RepositoryIndexResponse, ProtocolError> {
    let line = |entry: IndexEntry| ModelIndex {
        name: entry.name,
        version: entry.version.unwrap_or_default(),
        state: entry.state.name().to_owned(),
        reason: entry.reason,
    };
    let entries = entries(state, Some(&request.repository_name), request.ready)?;
    Ok(proto::RepositoryIndexResponse {
        models: entries.map(line).collect(),
    })
}

fn entries(
    state: &State,
    repository: Option<&str>,
    ready: bool,
) -> Result<impl Iterator<Item = IndexEntry>, ProtocolError> {
    check_repository(repository)?;
    let wanted = move |entry: &IndexEntry| !ready || entry.state == ModelState::Ready;
    Ok(state.repository.index().into_iter().filter(wanted))
}

/// There is one repository, and it has no name.
fn check_repository(repository: Option<&str>) -> Result<(), ProtocolError> {
    match repository {
        None | Some("") => Ok(()),
        Some(name) => Err(ProtocolError::InvalidArgument {
            reason: format!(
                "unknown repository `{}`: this server has one, which has no name",
                name.chars()
                    .filter(|c| !c.is_control())
                    .take(64)
                    .collect::<String>()
            )
            .into(),
        }),
    }
}

/// `POST /v2/repository[/{repository}]/models/{m}/load`. The reply is KServe's; Triton's clients do not look at it.
pub(super) async fn load(
    state: &State,
    repository: Option<&str>,
    model: &str,
    body: &Bytes,
) -> Result<Value, ProtocolError> {
    check_repository(repository)?;
    let OrderBody { parameters } = parse(body)?;
    let mut load = LoadParameters::default();
    for (name, value) in parameters {
        let Value::String(text) = value else {
            return Err(wrong(&name, "a string", &value.to_string()));
        };
        if name == CONFIG {
            load.config = Some(text);
        } else if let Some(file) = name.strip_prefix(FILE) {
            let bytes = STANDARD
                .decode(&text)
                .map_err(|error| wrong(&name, "base64 text", &error.to_string()))?;
            load.files.push((file.to_owned(), bytes.into()));
        } else {
            return Err(unknown(&name));
        }
    }
    state.repository.load(model, load).await?;
    Ok(json!({"name": model, "load": true}))
}

/// The RPC `RepositoryModelLoad`.
pub(super) async fn load_message(
    state: &State,
    request: proto::RepositoryModelLoadRequest,
) -> Result<proto::RepositoryModelLoadResponse, ProtocolError> {
    let model_name = model_of(request.repository_name, request.model_name)?;
    let mut load = LoadParameters::default();
    for (name, ModelRepositoryParameter { parameter_choice }) in request.parameters {
        match (name.strip_prefix(FILE), parameter_choice) {
            (None, Some(ParameterChoice::StringParam(text))) if name == CONFIG => load.config = Some(text),
            (Some(file), Some(ParameterChoice::BytesParam(bytes))) => {
                load.files.push((file.to_owned(), bytes));
            }
            (None, _) if name == CONFIG => return Err(wrong(&name, "string_param", "another value")),
            (Some(_), _) => return Err(wrong(&name, "bytes_param", "another value")),
            (None, _) => return Err(unknown(&name)),
        }
    }
    state.repository.load(&model_name, load).await?;
    Ok(proto::RepositoryModelLoadResponse {
        model_name,
        is_loaded: true,
    })
}

/// `POST /v2/repository[/{repository}]/models/{m}/unload`.
pub(super) async fn unload(
    state: &State,
    repository: Option<&str>,
    model: &str,
    body: &Bytes,
) -> Result<Value, ProtocolError> {
    check_repository(repository)?;
    let OrderBody { parameters } = parse(body)?;
    let mut dependents = false;
    for (name, value) in parameters {
        match (name.as_str(), value) {
            (UNLOAD_DEPENDENTS, Value::Bool(value)) => dependents = value,
            (UNLOAD_DEPENDENTS, value) => return Err(wrong(&name, "a boolean", &value.to_string())),
            _ => return Err(unknown(&name)),
        }
    }
    state.repository.unload(model, dependents).await?;
    Ok(json!({"name": model, "unload": true}))
}

/// The RPC `RepositoryModelUnload`.
pub(super) async fn unload_message(
    state: &State,
    request: proto::RepositoryModelUnloadRequest,
) -> Result<proto::RepositoryModelUnloadResponse, ProtocolError> {
    let model_name = model_of(request.repository_name, request.model_name)?;
    let mut dependents = false;
    for (name, ModelRepositoryParameter { parameter_choice }) in request.parameters {
        match (name.as_str(), parameter_choice) {
            (UNLOAD_DEPENDENTS, Some(ParameterChoice::BoolParam(value))) => dependents = value,
            (UNLOAD_DEPENDENTS, _) => return Err(wrong(&name, "bool_param", "another value")),
            _ => return Err(unknown(&name)),
        }
    }
    state.repository.unload(&model_name, dependents).await?;
    Ok(proto::RepositoryModelUnloadResponse {
        model_name,
        is_unloaded: true,
    })
}

/// KServe's clients have the model in the first field, Triton's in the second.
fn model_of(first: String, second: String) -> Result<String, ProtocolError> {
    if second.is_empty() {
        return Ok(first);
    }
    check_repository(Some(&first))?;
    Ok(second)
}

/// A body that may be left out.
fn parse<'a, T: Default + Deserialize<'a>>(body: &'a Bytes) -> Result<T, ProtocolError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| ProtocolError::InvalidArgument {
        reason: format!("the body is not what this endpoint takes: {error}").into(),
    })
}

fn wrong(name: &str, expected: &'static str, got: &str) -> ProtocolError {
    ProtocolError::Field {
        field: format!("parameters.{}", shortened(name)).into(),
        expected,
        got: format!("`{}`", shortened(got)).into(),
    }
}

fn unknown(name: &str) -> ProtocolError {
    ProtocolError::InvalidArgument {
        reason: format!("unknown parameter `{}`", shortened(name)).into(),
    }
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_in_the_field_of_either_client() {
        let model = |first: &str, second: &str| model_of(first.to_owned(), second.to_owned());
        assert_eq!(model("churn", ""), Ok("churn".to_owned()));
        assert_eq!(model("", "churn"), Ok("churn".to_owned()));
        assert!(model("other", "churn").is_err());
    }

    #[test]
    fn a_body_may_be_left_out_but_not_be_wrong() {
        let ready =
            |body: &'static str| parse::<IndexBody>(&Bytes::from_static(body.as_bytes())).map(|b| b.ready);
        assert_eq!(ready(""), Ok(false));
        assert_eq!(ready(" \n"), Ok(false));
        assert_eq!(ready("{}"), Ok(false));
        assert_eq!(ready("{\"ready\": true, \"other\": 1}"), Ok(true));
        assert_eq!(ready("{\"ready\": 1}").unwrap_err().http_status(), 400);
        assert_eq!(ready("{").unwrap_err().http_status(), 400);
    }
}
