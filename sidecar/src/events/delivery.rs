//! Sends what is in the outbox until it is taken.

use std::sync::Arc;
use std::time::Duration;

use plumbline_service::EventSink;
use tokio_util::sync::CancellationToken;

use super::outbox::{Numbered, Outbox};
use super::spool::Keeper;
use crate::metrics::EventMetrics;

/// At the end of the process, what waits gets this long, and the disk as long again.
const FAREWELL: Duration = Duration::from_secs(2);

/// The task that delivers.
#[derive(Debug)]
pub(crate) struct Delivery {
    worker: EventSink,
    outbox: Arc<Outbox>,
    /// Keeps what waits for the next process; none without a spool.
    keeper: Option<Keeper>,
    metrics: EventMetrics,
}

impl Delivery {
    pub(crate) fn new(
        worker: EventSink,
        outbox: Arc<Outbox>,
        keeper: Option<Keeper>,
        metrics: EventMetrics,
    ) -> Self {
        Self {
            worker,
            outbox,
            keeper,
            metrics,
        }
    }

    /// Delivers until `stop`, then what is left, for a moment. What is left after that waits in the spool.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.deliver_all()).await;
        let _elapsed = tokio::time::timeout(FAREWELL, async {
            while let Some(event) = self.outbox.take() {
                self.deliver(event).await;
            }
        })
        .await;
        let kept = match self.keeper.take() {
            Some(keeper) => tokio::time::timeout(FAREWELL, keeper.finish()).await.unwrap_or(0),
            None => 0,
        };
        let left = self.outbox.len();
        if left > 0 {
            tracing::warn!(events = left, kept, "events were not delivered before the end");
        }
    }

    async fn deliver_all(&self) {
        loop {
            self.deliver(self.outbox.next().await).await;
        }
    }

    /// Tries one event until the worker takes or refuses it. Later ones wait: they would meet the same worker.
    async fn deliver(&self, event: Numbered) {
        let mut attempts = 1;
        let taken = self.worker.deliver(&event.event.body, |failed, reason| {
            self.metrics.retried.inc();
            attempts = failed + 1;
            if failed == 1 {
                tracing::warn!(event.id = event.event.id, reason, "event not delivered yet");
            }
        });
        match taken.await {
            Ok(()) => {
                self.outbox.delivered(&event);
                tracing::info!(event.id = event.event.id, attempts, "event delivered");
            }
            Err(status) => {
                self.outbox.refused(&event);
                tracing::error!(event.id = event.event.id, %status, "the worker refuses the event; it is dropped");
            }
        }
    }
}
