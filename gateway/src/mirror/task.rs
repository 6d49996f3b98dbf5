//! Sends a copy and takes its answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::request::Parts;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use super::Slot;
use super::capture::{Answer, Keep, Pending};
use super::compare::compare;
use crate::balance::choose;
use crate::body::RequestBody;
use crate::call::{Family, Ledger};
use crate::forward::Attempt;
use crate::layers::resolve_model::Kind;

/// A request to be sent once more.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) slot: Arc<Slot>,
    pub(super) head: Parts,
    pub(super) family: Family,
    /// For the copy's answer, and for the client's when they are compared.
    pub(super) timeout: Duration,
    /// What the client gets, if the two are compared.
    pub(super) answer: Option<Pending>,
}

impl Copy {
    /// Sends it from a task of its own, of which there are at most `max_in_flight` and which ends after `timeout`.
    pub(super) fn spawn(self, frames: Vec<Bytes>) {
        tokio::spawn(self.send(frames));
    }

    async fn send(self, frames: Vec<Bytes>) {
        let Self {
            slot,
            head,
            family,
            timeout,
            answer,
        } = self;
        let deadline = Instant::now() + timeout;
        let ledger = Arc::new(Ledger::new());
        ledger.body_ended();
        let _set_once = ledger.deadline.set(deadline);
        let request = Request::from_parts(head, RequestBody::recorded(frames, None, None, family, &ledger));
        let exchanged = exchange(&slot, family, &ledger, request, answer.is_some());
        let exchanged = timeout_at(deadline, exchanged).await;
        let mirrored = exchanged.ok().flatten();
        let metrics = slot.metrics();
        if mirrored.is_some() {
            metrics.answered.inc();
        } else {
            metrics.failed.inc();
        }
        let Some(answer) = answer else { return };
        let answered = timeout_at(deadline, answer).await;
        let pair = answered.ok().and_then(Result::ok).zip(mirrored.flatten());
        let Some((answered, mirrored)) = pair else {
            metrics.uncompared.inc();
            return;
        };
        // Megabytes of tensors: not for a network thread.
        let compared = tokio::task::spawn_blocking(move || compare(family, &answered, &mirrored)).await;
        match compared {
            Ok(Some(rows)) => {
                metrics.agreeing_rows.inc_by(rows.agree);
                metrics.disagreeing_rows.inc_by(rows.disagree);
            }
            Ok(None) | Err(_) => metrics.uncompared.inc(),
        }
    }
}

/// Nothing when there is no answer; an answer that is not kept, or too large to be, is one without content.
async fn exchange(
    slot: &Arc<Slot>,
    family: Family,
    ledger: &Arc<Ledger>,
    request: Request<RequestBody>,
    keep: bool,
) -> Option<Option<Answer>> {
    let now = Instant::now();
    // A new endpoint need not be spared: nobody waits for its first answers.
    let choice = choose(slot.mirror.endpoints.of(family), &[], Duration::ZERO, now)?;
    let attempt = Attempt::begin(None, choice, (family, Kind::Infer), ledger, now);
    let (response, _outcome) = attempt.send(request).await.ok()?;
    let (head, mut body) = response.into_parts();
    let mut kept = keep.then(|| Keep::new(family, Arc::clone(slot)));
    if let Some(kept) = &mut kept {
        kept.head(head.status, &head.headers);
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.ok()?;
        if let Some(kept) = &mut kept {
            kept.frame(&frame);
        }
    }
    Some(kept.and_then(Keep::finish))
}
