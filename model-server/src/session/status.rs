//! What ONNX Runtime says about a call, told in the client's terms where the client can change it.

use ort::sys;

use super::RunError;

pub(super) fn check(status: sys::OrtStatusPtr) -> Result<(), RunError> {
    // SAFETY: a status that a call just returned, passed on once.
    let result = unsafe { ort::Error::result_from_status(status) };
    result.map_err(|error| classify(error.message(), error.code()))
}

/// A model that has run with zeros and does not run with these values is given the wrong ones, whatever status its
/// operators choose: `MatMul` says `FAIL` for dimensions that do not match, `Gather` says `INVALID_ARGUMENT` for an
/// index out of range.
fn classify(message: &str, code: ort::ErrorCode) -> RunError {
    match message.split_once("Non-zero status code returned while running ") {
        Some((_, rest)) => {
            let operator = rest.split(' ').next().unwrap_or_default();
            let cause = cause(
                rest.split_once("Status Message: ")
                    .map_or(rest, |(_, cause)| cause),
            );
            RunError::Unsuitable {
                reason: format!("operator {operator}: {cause}"),
            }
        }
        None if code == ort::ErrorCode::InvalidArgument => RunError::Unsuitable {
            reason: cause(message).to_owned(),
        },
        None => RunError::Failed {
            reason: message.trim().to_owned(),
        },
    }
}

/// What an operator says, without the place in ONNX Runtime's sources where it says so.
fn cause(message: &str) -> &str {
    let message = message.trim();
    // A failed check prints file, function, condition, "was false." and its sentence.
    if let Some((_, sentence)) = message.split_once(" was false. ") {
        return sentence;
    }
    // Others print file, function and sentence.
    let place = message
        .split_once(' ')
        .filter(|(file, _)| file.contains(".h:") || file.contains(".cc:"));
    place
        .and_then(|(_, rest)| rest.split_once(' '))
        .map_or(message, |(_function, sentence)| sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_operators_say_is_told_without_their_sources() {
        let node = |message: &str| {
            format!(
                "Non-zero status code returned while running MatMul node. Name:'' Status Message: {message}"
            )
        };
        for (message, told) in [
            (
                node("matmul_helper.h:59 Compute MatMul dimension mismatch"),
                "operator MatMul: MatMul dimension mismatch",
            ),
            (
                node(
                    "/onnxruntime_src/onnxruntime/core/reshape_helper.h:91 onnxruntime::ReshapeHelper(const X&, bool) \
                     a == b was false. The input tensor cannot be reshaped.\n",
                ),
                "operator MatMul: The input tensor cannot be reshaped.",
            ),
            (
                node("indices element out of data bounds"),
                "operator MatMul: indices element out of data bounds",
            ),
        ] {
            let error = classify(&message, ort::ErrorCode::GenericFailure);
            assert_eq!(
                error,
                RunError::Unsuitable {
                    reason: told.to_owned()
                }
            );
        }
        let failed = classify("out of threads", ort::ErrorCode::GenericFailure);
        assert_eq!(
            failed,
            RunError::Failed {
                reason: "out of threads".to_owned()
            }
        );
    }
}
