//! Payload events that wait to be sent, bounded in bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntCounter;
use tokio::sync::Notify;

use super::event::Event;
use crate::metrics::LoggerMetrics;

/// Offering takes a lock for as long as a push takes; what does not fit is dropped there and then.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    max_bytes: usize,
    metrics: LoggerMetrics,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    /// Of the events here and of those that are being sent.
    bytes: usize,
    /// Events here and those that are being sent.
    held: usize,
    closed: bool,
}

/// An event that is being sent. When it is dropped its room is free, and it is counted: under what was made of it, or as
/// dropped with the process.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) event: Event,
    queue: Arc<Queue>,
    outcome: IntCounter,
}

impl Queue {
    pub(super) fn new(max_bytes: usize, metrics: LoggerMetrics) -> Self {
        Self {
            waiting: Mutex::default(),
            arrived: Notify::new(),
            max_bytes,
            metrics,
        }
    }

    /// Leaves `event` to be sent, or drops it when there is no room.
    pub(super) fn put(&self, event: Event) {
        let bytes = event.bytes();
        let mut waiting = self.lock();
        if waiting.closed || waiting.bytes + bytes > self.max_bytes {
            let counter = if waiting.closed {
                &self.metrics.shutdown
            } else {
                &self.metrics.queue_full
            };
            counter.inc();
            return;
        }
        waiting.bytes += bytes;
        waiting.held += 1;
        waiting.events.push_back(event);
        self.show(&waiting);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// The event that has waited longest; waits for one. None when the queue is closed and empty.
    pub(super) async fn next(self: &Arc<Self>) -> Option<Taken> {
        loop {
            {
                let mut waiting = self.lock();
                if let Some(event) = waiting.events.pop_front() {
                    return Some(Taken {
                        event,
                        queue: Arc::clone(self),
                        outcome: self.metrics.shutdown.clone(),
                    });
                }
                if waiting.closed {
                    // Each who waits tells the next.
                    self.arrived.notify_one();
                    return None;
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Takes no more events, and lets those who wait for one go when there are none.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Drops what waits.
    pub(super) fn clear(&self) -> usize {
        let mut waiting = self.lock();
        let events = std::mem::take(&mut waiting.events);
        waiting.bytes -= events.iter().map(Event::bytes).sum::<usize>();
        waiting.held -= events.len();
        self.metrics.shutdown.inc_by(events.len() as u64);
        self.show(&waiting);
        events.len()
    }

    fn show(&self, waiting: &Waiting) {
        self.metrics.pending.set(waiting.held as i64);
        self.metrics.pending_bytes.set(waiting.bytes as i64);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// It is done with, and counted so.
    pub(super) fn settle(mut self, outcome: &IntCounter) {
        self.outcome = outcome.clone();
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.outcome.inc();
        let mut waiting = self.queue.lock();
        waiting.bytes -= self.event.bytes();
        waiting.held -= 1;
        self.queue.show(&waiting);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::header::{HeaderMap, HeaderValue};

    use super::super::event::{Kind, Part};
    use super::*;
    use crate::metrics::Metrics;

    fn queue(max_bytes: usize) -> Arc<Queue> {
        let metrics = Metrics::declare(&plumbline_service::metrics::Metrics::default());
        Arc::new(Queue::new(max_bytes, metrics.logger))
    }

    fn event(bytes: usize) -> Event {
        Event {
            id: HeaderValue::from_static("a"),
            kind: Kind::Request,
            model: "churn".into(),
            part: Part::of(&HeaderMap::new(), None),
            body: Bytes::from(vec![0; bytes]),
            grpc_status: None,
        }
    }

    #[tokio::test]
    async fn what_is_being_sent_counts_until_it_is_settled() {
        let queue = queue(2 * event(1_000).bytes());
        queue.put(event(1_000));
        queue.put(event(1_000));
        queue.put(event(1));
        assert_eq!(
            (queue.metrics.queue_full.get(), queue.metrics.pending.get()),
            (1, 2)
        );
        let taken = queue.next().await.expect("an event");
        queue.put(event(1));
        assert_eq!(queue.metrics.queue_full.get(), 2, "its room is not free yet");
        taken.settle(&queue.metrics.sent);
        assert_eq!((queue.metrics.sent.get(), queue.metrics.pending.get()), (1, 1));
        queue.put(event(1));
        assert_eq!(queue.metrics.pending.get(), 2);
    }

    #[tokio::test]
    async fn a_closed_queue_gives_what_it_has_and_lets_everybody_go() {
        let queue = queue(1 << 20);
        queue.put(event(1));
        let waiting = [(); 3].map(|()| {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move {
                let mut taken = 0;
                while let Some(event) = queue.next().await {
                    event.settle(&queue.metrics.sent);
                    taken += 1;
                }
                taken
            })
        });
        tokio::task::yield_now().await;
        queue.close();
        queue.put(event(1));
        let mut taken = 0;
        for task in waiting {
            taken += task.await.expect("no panic");
        }
        assert_eq!((taken, queue.metrics.shutdown.get()), (1, 1));
    }

    #[tokio::test]
    async fn nothing_leaves_uncounted() {
        let queue = queue(1 << 20);
        for _ in 0..3 {
            queue.put(event(10));
        }
        drop(queue.next().await);
        assert_eq!(queue.clear(), 2);
        let metrics = &queue.metrics;
        assert_eq!(
            [
                metrics.shutdown.get() as i64,
                metrics.pending.get(),
                metrics.pending_bytes.get()
            ],
            [3, 0, 0]
        );
    }
}
