//! Denials in the log: few enough that an attack does not fill it.

use std::sync::atomic::{AtomicU64, Ordering};

use plumbline_service::REQUEST_ID;

use crate::access::now;
use crate::call::Call;

/// Lines in a second.
const MAX_LINES: u64 = 10;

/// Writes denials.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// The present second, and the lines written in it.
    second: AtomicU64,
    lines: AtomicU64,
    /// Denials since the last line that had none.
    unwritten: AtomicU64,
}

impl Audit {
    /// Writes one denial, or counts it for the next line. Credentials are never written.
    pub(crate) fn denied(&self, call: &Call, model: &str, decision: &'static str, reason: &'static str) {
        if !self.may_write(now() as u64) {
            self.unwritten.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let id = call.request.headers().get(REQUEST_ID);
        tracing::warn!(
            target: "plumbline_gateway::audit",
            decision,
            reason,
            principal = call.principal.as_ref().map(|principal| &*principal.name),
            client.address = %call.address,
            model.name = model,
            verb = call.verb.name(),
            request.id = id.and_then(|id| id.to_str().ok()),
            unwritten = self.unwritten.swap(0, Ordering::Relaxed),
            "access denied"
        );
    }

    /// A second that changes between two loads gives a line more or less.
    fn may_write(&self, second: u64) -> bool {
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.lines.store(0, Ordering::Relaxed);
        }
        self.lines.fetch_add(1, Ordering::Relaxed) < MAX_LINES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_a_bounded_number_of_lines() {
        let audit = Audit::default();
        let written = |second| (0..1_000).filter(|_| audit.may_write(second)).count() as u64;
        assert_eq!(written(7), MAX_LINES);
        assert_eq!(written(8), MAX_LINES);
    }
}
