//! Parameters of inference requests that would have no effect, or another than the client thinks.

use plumbline_inference_protocol::{ParameterValue, Parameters, ProtocolError};

/// Asks which response of a stream is the last: of the names that are kept for Triton, the one that clients send.
const ENABLE_FINAL: &str = "triton_enable_empty_final_response";

/// Refuses what would otherwise be ignored in silence: parameters of sequences, as models keep no state between
/// requests, and names that are kept for the server. Few requests have any parameter.
pub(super) fn check(parameters: &Parameters) -> Result<(), ProtocolError> {
    for (name, value) in parameters.iter() {
        match name {
            "sequence_id" | "sequence_start" | "sequence_end" if !is_none(value) => {
                return Err(field(
                    name,
                    "none, as models keep no state between requests",
                    value,
                ));
            }
            ENABLE_FINAL => {}
            _ if name.starts_with("triton_") => {
                return Err(field(
                    name,
                    "no name that begins with `triton_`, which is reserved",
                    value,
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// How a client says that there is no sequence.
fn is_none(value: &ParameterValue) -> bool {
    match value {
        ParameterValue::Bool(value) => !value,
        ParameterValue::Int(value) => *value == 0,
        ParameterValue::Uint(value) => *value == 0,
        ParameterValue::Double(value) => *value == 0.0,
        ParameterValue::String(value) => value.is_empty(),
    }
}

fn field(name: &str, expected: &'static str, value: &ParameterValue) -> ProtocolError {
    let got = match value {
        ParameterValue::Bool(value) => format!("`{value}`"),
        ParameterValue::Int(value) => format!("`{value}`"),
        ParameterValue::Uint(value) => format!("`{value}`"),
        ParameterValue::Double(value) => format!("`{value}`"),
        ParameterValue::String(_) => "text".to_owned(),
    };
    let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    ProtocolError::Field {
        field: format!("parameters.{shown}").into(),
        expected,
        got: got.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(name: &str, value: impl Into<ParameterValue>) -> bool {
        let parameters: Parameters = [(name, value)].into_iter().collect();
        check(&parameters).is_ok()
    }

    #[test]
    fn what_has_no_effect_is_refused() {
        for name in ["sequence_id", "sequence_start", "sequence_end"] {
            assert!(checked(name, 0), "{name}");
            assert!(checked(name, false), "{name}");
            assert!(checked(name, ""), "{name}");
            assert!(!checked(name, 7), "{name}");
            assert!(!checked(name, true), "{name}");
            assert!(!checked(name, "a"), "{name}");
        }
        assert!(checked("triton_enable_empty_final_response", true));
        assert!(!checked("triton_final_response", true));
        assert!(checked("mine", "anything"));
    }
}
