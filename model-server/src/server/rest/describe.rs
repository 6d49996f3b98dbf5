//! Everything that is answered over HTTP without running a model.

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use hyper::body::Incoming;
use plumbline_inference_protocol::grpc::proto;
use plumbline_inference_protocol::{ModelRef, ProtocolError, Route, SharedMemory, metadata};
use serde_json::{Value, json};

use crate::repository::Served;
use crate::server::reply::{self, WholeReply};
use crate::server::{State, body, compress, model_config, openapi, repository_api, settings, v1_status};
use crate::statistics;

/// What needs no body to be answered.
pub(super) fn describe(state: &State, route: &Route) -> Result<WholeReply, ProtocolError> {
    let ok = |body: Bytes| Ok(reply::json(StatusCode::OK, body));
    match route {
        Route::V1Alive => ok(metadata::v1_alive()),
        Route::V1List => ok(metadata::v1_list(&state.repository.names())),
        Route::V1Model(model) => match v1_status::status(state, model) {
            Ok(status) => Ok(told(&status)),
            Err(error) => unready(model, error),
        },
        Route::ModelReady(model) => match state.repository.find(model) {
            Ok(served) => ok(metadata::model_ready(&served.model.name, true, None)),
            Err(error) => unready(model, error),
        },
        Route::V1Metadata(model) => Ok(told(&v1_status::metadata(&state.repository.find(model)?))),
        Route::V1Label { model, label } => {
            // A name that is wrong is told first.
            state.repository.find(model)?;
            Err(ProtocolError::UnknownVersion {
                model: model.name.as_str().into(),
                version: format!(
                    "label `{}`",
                    label
                        .chars()
                        .filter(|c| !c.is_control())
                        .take(64)
                        .collect::<String>()
                )
                .into(),
            })
        }
        Route::ServerMetadata => ok(state.server_metadata.clone()),
        Route::ServerLive => ok(metadata::health(true, state.readiness.is_ready())),
        Route::ServerReady => {
            let ready = state.readiness.is_ready();
            let status = if ready {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            Ok(reply::json(status, metadata::health(true, ready)))
        }
        Route::ModelMetadata(model) => ok(state.repository.find(model)?.metadata),
        Route::ModelOpenApi(model) => openapi::model(state, model),
        Route::OpenApi => Ok(openapi::server(state)),
        Route::Docs => Ok(openapi::page(state)),
        Route::ModelConfig(model) => {
            let served = state.repository.find(model)?;
            let config = model_config::config(&served, state.limits.max_body_bytes);
            Ok(told(&model_config::to_json(&config)))
        }
        Route::ModelStats(model) => Ok(told(&statistics::to_json(&all_statistics(state, Some(model))?))),
        Route::AllStats => Ok(told(&statistics::to_json(&all_statistics(state, None)?))),
        Route::TraceSetting { model, access } => {
            if let Some(model) = model {
                state.repository.find(model)?;
            }
            Ok(told(&settings::trace(*access)?))
        }
        Route::Logging(access) => Ok(told(&settings::logging(*access)?)),
        Route::SharedMemory { region, action } => {
            settings::shared_memory(region.as_deref(), *action)?;
            match action {
                SharedMemory::Status => Ok(told(&json!([]))),
                SharedMemory::Register | SharedMemory::Unregister => ok(Bytes::new()),
            }
        }
        Route::V1Explain(model) => {
            state.repository.find(model)?;
            Err(ProtocolError::Unsupported {
                what: "V1 explain".into(),
            })
        }
        // Without the content type of gRPC there is nobody to read such an answer.
        Route::Grpc(_) => Err(ProtocolError::InvalidArgument {
            reason: "an RPC needs the content type application/grpc".into(),
        }),
        // Answered elsewhere.
        Route::Infer(_)
        | Route::V1Predict(_)
        | Route::RepositoryIndex { .. }
        | Route::RepositoryLoad { .. }
        | Route::RepositoryUnload { .. } => Err(ProtocolError::Internal),
    }
}

/// The extension `model_repository`.
pub(super) async fn repository(
    state: &State,
    route: &Route,
    head: &Parts,
    body: Incoming,
) -> Result<WholeReply, ProtocolError> {
    let coding = compress::of_request(&head.headers)?;
    let body = body::read(&head.headers, body, &state.limits).await?;
    let body = compress::expand(coding, body, state.limits.max_body_bytes).await?;
    let value = match route {
        Route::RepositoryIndex { repository } => repository_api::index(state, repository.as_deref(), &body)?,
        Route::RepositoryLoad { repository, model } => {
            repository_api::load(state, repository.as_deref(), model, &body).await?
        }
        Route::RepositoryUnload { repository, model } => {
            repository_api::unload(state, repository.as_deref(), model, &body).await?
        }
        _ => return Err(ProtocolError::Internal), // see the caller
    };
    Ok(told(&value))
}

fn told(value: &Value) -> WholeReply {
    reply::json(StatusCode::OK, value.to_string().into())
}

/// A model that is known and not ready says so in the words of a readiness probe.
fn unready(model: &ModelRef, error: ProtocolError) -> Result<WholeReply, ProtocolError> {
    if !matches!(error, ProtocolError::ModelNotReady { .. }) {
        return Err(error);
    }
    let body = metadata::model_ready(&model.name, false, Some(&error.to_string()));
    Ok(reply::unready(error.http_status(), body))
}

/// The statistics of one version, of all versions of a model, or of everything that is served.
pub(in crate::server) fn all_statistics(
    state: &State,
    model: Option<&ModelRef>,
) -> Result<Vec<proto::ModelStatistics>, ProtocolError> {
    let of = |served: Served| {
        let model = &served.model;
        statistics::of(&model.name, &model.version, &model.metrics)
    };
    if let Some(model) = model.filter(|model| model.version.is_some()) {
        return Ok(vec![of(state.repository.find(model)?)]);
    }
    let names = match model {
        Some(model) => vec![model.name.clone()],
        None => state.repository.names(),
    };
    let mut all = Vec::new();
    for name in names {
        let newest = match state.repository.find(&ModelRef::new(&name)) {
            Ok(served) => served,
            // One that has gone since its name was read.
            Err(_) if model.is_none() => continue,
            Err(error) => return Err(error),
        };
        let versions = newest.versions.iter().map(|version| ModelRef {
            name: name.clone(),
            version: Some(version.clone()),
        });
        all.extend(
            versions
                .filter_map(|version| state.repository.find(&version).ok())
                .map(of),
        );
    }
    Ok(all)
}
