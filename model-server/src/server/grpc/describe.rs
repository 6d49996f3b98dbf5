//! Every unary RPC but `ModelInfer`.

use bytes::Bytes;
use plumbline_inference_protocol::grpc::health::HealthCheckRequest;
use plumbline_inference_protocol::grpc::{Method, decode_frame, encode_frame, proto};
use plumbline_inference_protocol::{ProtocolError, SharedMemory};

use super::reference;
use crate::repository::Served;
use crate::server::rest::all_statistics;
use crate::server::{State, health, model_config, repository_api, settings};

/// Answers the call whose one message is `frame`.
pub(super) async fn answer(state: &State, method: Method, frame: &Bytes) -> Result<Bytes, ProtocolError> {
    Ok(match method {
        Method::ServerLive => encode_frame(&proto::ServerLiveResponse { live: true }),
        Method::ServerReady => encode_frame(&proto::ServerReadyResponse {
            ready: state.readiness.is_ready(),
        }),
        Method::ModelReady => {
            let proto::ModelReadyRequest { name, version } = decode_frame(frame)?;
            let reference = reference(name, version);
            let is_known = || {
                let index = state.repository.index();
                index.iter().any(|entry| entry.name == reference.name)
            };
            let ready = match state.repository.find(&reference) {
                Ok(_) => true,
                Err(ProtocolError::ModelNotReady { .. }) => false,
                // In the repository and not loaded: Triton's clients ask so whether an unload has worked.
                Err(ProtocolError::UnknownModel { .. }) if is_known() => false,
                Err(error) => return Err(error),
            };
            encode_frame(&proto::ModelReadyResponse { ready })
        }
        Method::ServerMetadata => encode_frame(&proto::ServerMetadataResponse {
            name: state.server_name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: state.extensions.iter().map(|name| (*name).to_owned()).collect(),
        }),
        Method::ModelMetadata => {
            let proto::ModelMetadataRequest { name, version } = decode_frame(frame)?;
            encode_frame(&metadata(&state.repository.find(&reference(name, version))?))
        }
        Method::ModelConfig => {
            let proto::ModelConfigRequest { name, version } = decode_frame(frame)?;
            let served = state.repository.find(&reference(name, version))?;
            let config = Some(model_config::config(&served, state.limits.max_body_bytes));
            encode_frame(&proto::ModelConfigResponse { config })
        }
        Method::ModelStatistics => {
            let proto::ModelStatisticsRequest { name, version } = decode_frame(frame)?;
            let model = (!name.is_empty()).then(|| reference(name, version));
            encode_frame(&proto::ModelStatisticsResponse {
                model_stats: all_statistics(state, model.as_ref())?,
            })
        }
        Method::RepositoryIndex => {
            encode_frame(&repository_api::index_message(state, &decode_frame(frame)?)?)
        }
        Method::RepositoryModelLoad => {
            encode_frame(&repository_api::load_message(state, decode_frame(frame)?).await?)
        }
        Method::RepositoryModelUnload => {
            encode_frame(&repository_api::unload_message(state, decode_frame(frame)?).await?)
        }
        Method::SystemSharedMemoryStatus
        | Method::SystemSharedMemoryRegister
        | Method::SystemSharedMemoryUnregister
        | Method::CudaSharedMemoryStatus
        | Method::CudaSharedMemoryRegister
        | Method::CudaSharedMemoryUnregister => shared_memory(method, frame)?,
        Method::TraceSetting => {
            let request: proto::TraceSettingRequest = decode_frame(frame)?;
            if !request.model_name.is_empty() {
                state
                    .repository
                    .find(&reference(request.model_name.clone(), String::new()))?;
            }
            encode_frame(&settings::trace_message(&request)?)
        }
        Method::LogSettings => encode_frame(&settings::logging_message(&decode_frame(frame)?)?),
        Method::HealthCheck => {
            let request: HealthCheckRequest = decode_frame(frame)?;
            encode_frame(&health::check(state, &request)?)
        }
        Method::HealthList => encode_frame(&health::list(state)),
        // Answered elsewhere.
        Method::ModelInfer
        | Method::ModelStreamInfer
        | Method::HealthWatch
        | Method::Reflection
        | Method::ReflectionAlpha => return Err(ProtocolError::Internal),
    })
}

fn shared_memory(method: Method, frame: &Bytes) -> Result<Bytes, ProtocolError> {
    let action = match method {
        Method::SystemSharedMemoryStatus | Method::CudaSharedMemoryStatus => SharedMemory::Status,
        Method::SystemSharedMemoryRegister | Method::CudaSharedMemoryRegister => SharedMemory::Register,
        _ => SharedMemory::Unregister,
    };
    // The region is the first field of all of these messages, and an answer about none is the same of all.
    let proto::SystemSharedMemoryStatusRequest { name } = decode_frame(frame)?;
    settings::shared_memory(Some(name.as_str()).filter(|name| !name.is_empty()), action)?;
    Ok(encode_frame(&proto::SystemSharedMemoryUnregisterResponse {}))
}

fn metadata(served: &Served) -> proto::ModelMetadataResponse {
    let mut message = served.model.metadata(served.versions.to_vec()).to_proto();
    message.properties = served
        .model
        .properties()
        .map(|(name, labels)| (name, labels.to_owned()))
        .collect();
    message
}
