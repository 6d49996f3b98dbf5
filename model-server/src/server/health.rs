//! Whether the server, or a model of it, can answer.

use plumbline_service::Readiness;

/// Why the server is not ready, in one phrase; `None` when it is.
pub(super) fn not_ready(readiness: &Readiness) -> Option<String> {
    let pending = readiness.pending();
    (!pending.is_empty()).then(|| pending.join("; "))
}
