//! Events that wait for delivery, in order and bounded.
//!
//! Every event is accounted for: `raised + loaded = delivered + refused + coalesced + overflowed + pending`, at any moment.
//! The lock is held for a few moves in memory, never across I/O.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::episodes::Episodes;
use super::event::Event;
use super::spool::{Held, Keeper, Spool};
use crate::metrics::EventMetrics;

/// What waits at most, in memory and in the spool.
#[derive(Clone, Copy, Debug)]
struct Limits {
    events: usize,
    bytes: usize,
}

/// An episode makes two events, so that this is a worker that missed more than a hundred. An event with the histograms of
/// 200 features has about half a megabyte.
const LIMITS: Limits = Limits {
    events: 256,
    bytes: 8 << 20,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    /// Wakes the delivery.
    arrived: Notify,
    /// Wakes the spool.
    changed: Condvar,
    metrics: EventMetrics,
    limits: Limits,
}

#[derive(Debug)]
struct Waiting {
    events: VecDeque<Numbered>,
    /// The first event is being sent. The worker may have it already, so that nothing else may become of it.
    is_sending: bool,
    bytes: usize,
    next: u64,
    episodes: Episodes,
    /// Rises with every change.
    revision: u64,
    is_closed: bool,
}

/// An event in its place; the number orders files across restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Numbered {
    pub(super) number: u64,
    pub(super) event: Event,
}

/// The outbox at one moment, for the spool.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) revision: u64,
    pub(super) held: Held,
    pub(super) is_closed: bool,
}

impl Outbox {
    /// An outbox with what earlier processes left in `spool`, and the thread that keeps it there.
    ///
    /// # Errors
    /// The system's, when the directory cannot be created or read, or there is no thread to have.
    pub(crate) fn open(
        spool: Option<PathBuf>,
        metrics: EventMetrics,
    ) -> io::Result<(Arc<Self>, Option<Keeper>)> {
        let Some(directory) = spool else {
            let nothing = Held {
                events: Vec::new(),
                episodes: Episodes::new(),
            };
            return Ok((Arc::new(Self::with(nothing, LIMITS, metrics)), None));
        };
        let (spool, left) = Spool::open(directory, metrics.spool.clone())?;
        let outbox = Arc::new(Self::with(left, LIMITS, metrics));
        let keeper = Keeper::spawn(spool, Arc::clone(&outbox))?;
        Ok((outbox, Some(keeper)))
    }

    fn with(left: Held, limits: Limits, metrics: EventMetrics) -> Self {
        let Held { events, episodes } = left;
        if !events.is_empty() {
            metrics.loaded.inc_by(events.len() as u64);
            tracing::info!(
                events = events.len(),
                "events of an earlier run will be delivered"
            );
        }
        let mut waiting = Waiting {
            is_sending: false,
            bytes: events.iter().map(|event| event.event.body.len()).sum(),
            next: events.last().map_or(0, |last| last.number + 1),
            events: events.into(),
            episodes,
            revision: 1,
            is_closed: false,
        };
        waiting.make_room(limits, &metrics);
        waiting.show(&metrics);
        Self {
            waiting: Mutex::new(waiting),
            arrived: Notify::new(),
            changed: Condvar::new(),
            metrics,
            limits,
        }
    }

    /// Calls `tell` with the names of episodes.
    pub(super) fn episodes<T>(&self, tell: impl FnOnce(&mut Episodes) -> T) -> T {
        self.change(|waiting, _| tell(&mut waiting.episodes))
    }

    /// Adds an event. One that waits under the same id gives way to it. When too much waits, the last state of an episode
    /// stands for those before it; when that is not enough, the oldest events go.
    pub(super) fn put(&self, event: Event) {
        self.change(|waiting, metrics| {
            metrics.raised.inc();
            waiting.put(event, metrics);
            waiting.make_room(self.limits, metrics);
        });
        self.arrived.notify_one();
    }

    /// The event to be sent next: the one that was being sent, or the one that has waited longest.
    pub(super) fn take(&self) -> Option<Numbered> {
        let mut waiting = self.lock();
        let first = waiting.events.front().cloned();
        waiting.is_sending = first.is_some();
        first
    }

    /// The same; waits for one.
    pub(super) async fn next(&self) -> Numbered {
        loop {
            let arrived = self.arrived.notified();
            if let Some(first) = self.take() {
                return first;
            }
            arrived.await;
        }
    }

    /// The worker has taken it.
    pub(super) fn delivered(&self, event: &Numbered) {
        self.change(|waiting, metrics| waiting.sent(event, &metrics.delivered));
    }

    /// The worker will never take it.
    pub(super) fn refused(&self, event: &Numbered) {
        self.change(|waiting, metrics| waiting.sent(event, &metrics.refused));
    }

    /// How many wait, the one being sent included.
    pub(super) fn len(&self) -> usize {
        self.lock().events.len()
    }

    /// Waits until the outbox is not what it was at `revision`, or is closed, or for `patience`.
    pub(super) fn changed_since(&self, revision: u64, patience: Option<Duration>) -> Seen {
        let is_same = |waiting: &mut Waiting| waiting.revision == revision && !waiting.is_closed;
        let guard = self.lock();
        let waiting = match patience {
            None => self
                .changed
                .wait_while(guard, is_same)
                .unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                let waited = self.changed.wait_timeout_while(guard, patience, is_same);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        Seen {
            revision: waiting.revision,
            held: Held {
                events: waiting.events.iter().cloned().collect(),
                episodes: waiting.episodes.clone(),
            },
            is_closed: waiting.is_closed,
        }
    }

    /// Lets the spool write what there is and end.
    pub(super) fn close(&self) {
        self.change(|waiting, _| waiting.is_closed = true);
    }

    fn change<T>(&self, make: impl FnOnce(&mut Waiting, &EventMetrics) -> T) -> T {
        let mut waiting = self.lock();
        let made = make(&mut waiting, &self.metrics);
        waiting.revision += 1;
        waiting.show(&self.metrics);
        drop(waiting);
        self.changed.notify_all();
        made
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn put(&mut self, event: Event, metrics: &EventMetrics) {
        if let Some(same) = self.events.iter().position(|other| other.event.id == event.id) {
            metrics.coalesced.inc();
            if same == 0 && self.is_sending {
                return;
            }
            self.remove(same);
        }
        self.bytes += event.body.len();
        self.events.push_back(Numbered {
            number: self.next,
            event,
        });
        self.next += 1;
    }

    /// Neither the event being sent nor the newest is given up.
    fn make_room(&mut self, limits: Limits, metrics: &EventMetrics) {
        let oldest = usize::from(self.is_sending);
        while self.events.len() > limits.events || self.bytes > limits.bytes {
            if oldest + 1 >= self.events.len() {
                return;
            }
            let superseded = (oldest..self.events.len()).find(|&at| {
                let episode = &self.events[at].event.episode;
                let mut later = self.events.iter().skip(at + 1);
                later.any(|other| other.event.episode == *episode)
            });
            let (at, counter) = match superseded {
                Some(at) => (at, &metrics.coalesced),
                None => (oldest, &metrics.overflowed),
            };
            counter.inc();
            if let Some(removed) = self.remove(at) {
                tracing::warn!(
                    event.id = removed.event.id,
                    "too many events wait for the worker; this one is dropped"
                );
            }
        }
    }

    fn sent(&mut self, event: &Numbered, counter: &prometheus::IntCounter) {
        if let Some(at) = self.events.iter().position(|other| other.number == event.number) {
            counter.inc();
            self.remove(at);
            self.is_sending = false;
        }
    }

    fn remove(&mut self, at: usize) -> Option<Numbered> {
        let removed = self.events.remove(at);
        self.bytes -= removed.as_ref().map_or(0, |event| event.event.body.len());
        removed
    }

    fn show(&self, metrics: &EventMetrics) {
        metrics.pending.set(self.events.len() as i64);
        metrics.pending_bytes.set(self.bytes as i64);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::metrics::Metrics;

    pub(in super::super) fn metrics() -> EventMetrics {
        Metrics::declare(&plumbline_service::metrics::Metrics::default()).events
    }

    pub(in super::super) fn event(episode: &str, name: &str) -> Event {
        let id = format!("{episode}-{name}");
        Event {
            body: format!("{{\"id\":\"{id}\",\"data\":{{\"episode\":\"{episode}\"}}}}").into(),
            id,
            episode: episode.to_owned(),
        }
    }

    pub(in super::super) fn ids(outbox: &Outbox) -> Vec<String> {
        let waiting = outbox.lock();
        waiting
            .events
            .iter()
            .map(|event| event.event.id.clone())
            .collect()
    }

    fn outbox(events: usize, bytes: usize) -> Outbox {
        let nothing = Held {
            events: Vec::new(),
            episodes: Episodes::new(),
        };
        Outbox::with(nothing, Limits { events, bytes }, metrics())
    }

    /// Under the lock, so that no event is between two counters.
    fn assert_accounted(outbox: &Outbox) {
        let waiting = outbox.lock();
        let told = &outbox.metrics;
        let came = told.raised.get() + told.loaded.get();
        let went = told.delivered.get() + told.refused.get() + told.coalesced.get() + told.overflowed.get();
        assert_eq!(came, went + waiting.events.len() as u64, "{told:?}");
        assert_eq!(told.pending.get(), waiting.events.len() as i64);
        let bytes: usize = waiting.events.iter().map(|event| event.event.body.len()).sum();
        assert_eq!((told.pending_bytes.get(), waiting.bytes), (bytes as i64, bytes));
    }

    #[test]
    fn a_full_outbox_lets_the_last_state_of_an_episode_stand_for_those_before() {
        let outbox = outbox(6, usize::MAX);
        outbox.put(event("now", "detected"));
        for episode in ["a", "b", "c"] {
            outbox.put(event(episode, "detected"));
            outbox.put(event(episode, "recovered"));
        }
        assert_eq!(
            ids(&outbox),
            [
                "now-detected",
                "a-recovered",
                "b-detected",
                "b-recovered",
                "c-detected",
                "c-recovered"
            ]
        );
        assert_eq!(outbox.metrics.coalesced.get(), 1);
        for episode in ["d", "e", "f"] {
            outbox.put(event(episode, "detected"));
        }
        assert_eq!(
            ids(&outbox),
            [
                "a-recovered",
                "b-recovered",
                "c-recovered",
                "d-detected",
                "e-detected",
                "f-detected"
            ]
        );
        assert_eq!(
            (outbox.metrics.coalesced.get(), outbox.metrics.overflowed.get()),
            (3, 1)
        );
        assert_accounted(&outbox);
    }

    #[test]
    fn bytes_are_bounded_too_but_for_a_single_event() {
        let size = event("a", "detected").body.len();
        let outbox = outbox(100, 2 * size);
        for episode in ["a", "b", "c"] {
            outbox.put(event(episode, "detected"));
        }
        assert_eq!(ids(&outbox), ["b-detected", "c-detected"]);
        let mut large = event("d", "detected");
        large.body = "x".repeat(5 * size).into();
        outbox.put(large);
        assert_eq!(ids(&outbox), ["d-detected"]);
        assert_eq!(outbox.metrics.overflowed.get(), 3);
        assert_accounted(&outbox);
    }

    #[test]
    fn an_event_that_is_being_sent_is_not_given_up() {
        let outbox = outbox(2, usize::MAX);
        outbox.put(event("a", "detected"));
        let sending = outbox.take().expect("an event");
        for episode in ["a", "b", "c"] {
            outbox.put(event(episode, "recovered"));
        }
        assert_eq!(ids(&outbox), ["a-detected", "c-recovered"]);
        // The attempt was broken off: the same one is sent again.
        assert_eq!(outbox.take().as_ref(), Some(&sending));
        outbox.delivered(&sending);
        outbox.delivered(&sending);
        assert_eq!(outbox.metrics.delivered.get(), 1);
        assert_accounted(&outbox);
    }

    #[test]
    fn an_event_that_is_raised_again_waits_once() {
        let outbox = outbox(9, usize::MAX);
        outbox.put(event("a", "detected"));
        outbox.put(event("b", "detected"));
        outbox.put(event("a", "detected"));
        assert_eq!(ids(&outbox), ["b-detected", "a-detected"]);
        let sending = outbox.take().expect("an event");
        outbox.put(event("b", "detected"));
        assert_eq!(ids(&outbox), ["b-detected", "a-detected"]);
        outbox.refused(&sending);
        assert_eq!((outbox.metrics.coalesced.get(), outbox.len()), (2, 1));
        assert_accounted(&outbox);
    }

    #[test]
    fn every_event_is_accounted_for_at_every_step() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let outbox = outbox(random.usize(1..8), random.usize(50..500));
            for _ in 0..200 {
                match random.u8(0..6) {
                    0..=2 => {
                        let name = ["detected", "recovered"][random.usize(0..2)];
                        outbox.put(event(&random.u8(0..12).to_string(), name));
                    }
                    3 => drop(outbox.take()),
                    done => {
                        if let Some(event) = outbox.take() {
                            if done == 4 {
                                outbox.delivered(&event);
                            } else {
                                outbox.refused(&event);
                            }
                        }
                    }
                }
                assert_accounted(&outbox);
            }
        }
    }

    /// Producers, a delivery that is broken off now and then, a reader, and a spool whose disk comes and goes, all at
    /// once; then the next process with what was left.
    #[tokio::test]
    async fn every_event_is_accounted_for_whatever_the_schedule() {
        for seed in 0..8 {
            let directory = tempfile::tempdir().expect("a directory");
            let (spool, away) = (directory.path().join("spool"), directory.path().join("away"));
            let mut left = 0;
            for run in 0..3 {
                let metrics = metrics();
                let (held, events) = Spool::open(spool.clone(), metrics.spool.clone()).expect("opened");
                let limits = Limits {
                    events: 16,
                    bytes: 1_000,
                };
                let outbox = Arc::new(Outbox::with(events, limits, metrics));
                assert_eq!(outbox.metrics.loaded.get(), left as u64);
                let keeper = Keeper::spawn(held, Arc::clone(&outbox)).expect("a thread");
                std::thread::scope(|scope| {
                    for producer in 0..3 {
                        let outbox = &outbox;
                        scope.spawn(move || {
                            let mut random = fastrand::Rng::with_seed(seed * 10 + producer);
                            for episode in 0..60 {
                                let name = format!("{run}-{producer}-{episode}");
                                outbox.put(event(&name, "detected"));
                                pause(&mut random);
                                outbox.put(event(&name, "recovered"));
                            }
                        });
                    }
                    scope.spawn(|| {
                        let mut random = fastrand::Rng::with_seed(seed + 1_000);
                        for _ in 0..200 {
                            pause(&mut random);
                            match (outbox.take(), random.u8(0..3)) {
                                (Some(event), 0) => outbox.delivered(&event),
                                (Some(event), 1) => outbox.refused(&event),
                                _ => {}
                            }
                        }
                    });
                    scope.spawn(|| (0..200).for_each(|_| assert_accounted(&outbox)));
                    scope.spawn(|| {
                        let mut random = fastrand::Rng::with_seed(seed + 2_000);
                        for _ in 0..5 {
                            std::fs::rename(&spool, &away).expect("away");
                            pause(&mut random);
                            std::fs::rename(&away, &spool).expect("back");
                            pause(&mut random);
                        }
                    });
                });
                assert_accounted(&outbox);
                assert_eq!(outbox.metrics.raised.get(), 360);
                left = outbox.len();
                assert_eq!(keeper.finish().await, left, "everything that waits is on disk");
            }
        }
    }

    fn pause(random: &mut fastrand::Rng) {
        match random.u8(0..4) {
            0 => std::thread::yield_now(),
            1 => std::thread::sleep(Duration::from_micros(random.u64(1..200))),
            _ => {}
        }
    }
}
