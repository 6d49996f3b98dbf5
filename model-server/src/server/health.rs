//! `grpc.health.v1`: the server as a whole under the empty name and the inference service's, a model under its own.

use std::sync::Arc;

use plumbline_inference_protocol::grpc::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListResponse, health_check_response::ServingStatus,
};
use plumbline_inference_protocol::grpc::{Method, encode_frame};
use plumbline_inference_protocol::{ModelRef, ProtocolError};

use super::State;
use super::reply_body::{Item, Messages};
use super::stream::late;
use crate::scheduler::Deadline;

const INFERENCE: &str = "inference.GRPCInferenceService";

/// The RPC `Check`.
///
/// # Errors
/// [`ProtocolError::UnknownModel`] for a service that is none.
pub(super) fn check(
    state: &State,
    request: &HealthCheckRequest,
) -> Result<HealthCheckResponse, ProtocolError> {
    status(state, &request.service).map(response)
}

/// The RPC `List`: the server and every model that is served or should be.
pub(super) fn list(state: &State) -> HealthListResponse {
    let mut models: Vec<String> = state
        .repository
        .index()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    models.dedup();
    let services = ["", INFERENCE].into_iter().map(str::to_owned).chain(models);
    let one = |service: String| {
        let status = status(state, &service).unwrap_or(ServingStatus::NotServing);
        (service, response(status))
    };
    HealthListResponse {
        statuses: services.map(one).collect(),
    }
}

/// The RPC `Watch`: the status now, and again each time that it is another. Ends with the server.
pub(super) fn watch(state: &Arc<State>, request: HealthCheckRequest, deadline: Option<Deadline>) -> Messages {
    let state = Arc::clone(state);
    Messages::produced_by(1, |out| async move {
        let mut readiness = state.readiness.watch();
        let mut models = state.repository.watch();
        let mut told = None;
        let error = loop {
            // What changes from here on wakes the wait below.
            readiness.mark_unchanged();
            models.mark_unchanged();
            let status = status(&state, &request.service).unwrap_or(ServingStatus::ServiceUnknown);
            if told.replace(status) != Some(status) {
                let frame = encode_frame(&response(status));
                if out.send(Item::Message(frame)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                _ = readiness.changed() => {}
                _ = models.changed() => {}
                () = state.shutdown.stop_accepting() => break ProtocolError::Draining,
                error = late(deadline) => break error,
            }
        };
        let _client_left = out.send(Item::Failed(error)).await;
    })
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

fn status(state: &State, service: &str) -> Result<ServingStatus, ProtocolError> {
    let is_own = |method: Method| method.path()[1..].split('/').next() == Some(service);
    if service.is_empty() || Method::ALL.into_iter().any(is_own) {
        return Ok(if state.readiness.is_ready() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        });
    }
    match state.repository.find(&ModelRef::new(service)) {
        Ok(_) if state.shutdown.has_begun() => Ok(ServingStatus::NotServing),
        Ok(_) => Ok(ServingStatus::Serving),
        Err(ProtocolError::ModelNotReady { .. }) => Ok(ServingStatus::NotServing),
        Err(error) => Err(error),
    }
}
