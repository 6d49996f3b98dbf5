//! The extensions for traces, logging and shared memory, as far as they are true here: nothing is traced, no memory is
//! shared, and how much is logged is fixed at start. Clients that look get the truth, those that change get a clear no.

use plumbline_inference_protocol::grpc::proto;
use plumbline_inference_protocol::{Access, ProtocolError, SharedMemory};
use proto::log_settings_response::{SettingValue as LogValue, setting_value::ParameterChoice};
use proto::trace_setting_response::SettingValue as TraceValue;
use serde_json::{Value, json};
use tracing::Level;

/// `/v2/trace/setting` and that of a model.
pub(super) fn trace(access: Access) -> Result<Value, ProtocolError> {
    match access {
        Access::Show => Ok(json!({"trace_level": ["OFF"]})),
        Access::Change => Err(unsupported("changing trace settings")),
    }
}

/// The RPC `TraceSetting`.
pub(super) fn trace_message(
    request: &proto::TraceSettingRequest,
) -> Result<proto::TraceSettingResponse, ProtocolError> {
    trace(access(request.settings.is_empty()))?;
    let off = TraceValue {
        value: vec!["OFF".to_owned()],
    };
    Ok(proto::TraceSettingResponse {
        settings: [("trace_level".to_owned(), off)].into(),
    })
}

/// `/v2/logging`.
pub(super) fn logging(access: Access) -> Result<Value, ProtocolError> {
    match access {
        Access::Show => Ok(json!({
            "log_file": "",
            "log_info": tracing::enabled!(Level::INFO),
            "log_warning": tracing::enabled!(Level::WARN),
            "log_error": tracing::enabled!(Level::ERROR),
            "log_verbose_level": u8::from(tracing::enabled!(Level::DEBUG)),
            "log_format": "default",
        })),
        Access::Change => Err(unsupported("changing log settings")),
    }
}

/// The RPC `LogSettings`.
pub(super) fn logging_message(
    request: &proto::LogSettingsRequest,
) -> Result<proto::LogSettingsResponse, ProtocolError> {
    let shown = logging(access(request.settings.is_empty()))?;
    let settings = shown.as_object().into_iter().flatten();
    let settings = settings.map(|(name, value)| {
        let choice = match value {
            Value::Bool(value) => ParameterChoice::BoolParam(*value),
            Value::Number(value) => {
                ParameterChoice::Uint32Param(u32::try_from(value.as_u64().unwrap_or(0)).unwrap_or(0))
            }
            other => ParameterChoice::StringParam(other.as_str().unwrap_or_default().to_owned()),
        };
        let parameter_choice = Some(choice);
        (name.clone(), LogValue { parameter_choice })
    });
    Ok(proto::LogSettingsResponse {
        settings: settings.collect(),
    })
}

/// Shared memory, of the system or of CUDA: there is none, so its status is empty and there is nothing to remove.
pub(super) fn shared_memory(region: Option<&str>, action: SharedMemory) -> Result<(), ProtocolError> {
    match (action, region) {
        (SharedMemory::Register, _) => Err(unsupported("shared memory")),
        (SharedMemory::Status | SharedMemory::Unregister, None) => Ok(()),
        (SharedMemory::Status | SharedMemory::Unregister, Some(region)) => {
            Err(ProtocolError::InvalidArgument {
                reason: format!(
                    "unable to find shared memory region `{}`: none is registered, shared memory is not supported",
                    region.chars().filter(|c| !c.is_control()).take(64).collect::<String>()
                )
                .into(),
            })
        }
    }
}

fn access(is_empty: bool) -> Access {
    if is_empty { Access::Show } else { Access::Change }
}

fn unsupported(what: &str) -> ProtocolError {
    ProtocolError::Unsupported { what: what.into() }
}
