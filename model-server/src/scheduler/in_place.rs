//! Which runs may happen on a network thread, and how that is kept from hurting the others.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::job::Execution;

/// Runs up to this long happen on the network thread. Handing a run over and back costs about 10 to 20 µs of two
/// threads' time; a network thread held for 100 µs delays its other connections by no more than a larger body does.
pub(super) const SHORT: Duration = Duration::from_micros(100);

/// A batch of requests may take this long on the network thread that they all came by: run one by one they would hold
/// it for longer.
pub(super) const SHORT_BATCH: Duration = Duration::from_micros(500);

/// A run on a network thread that takes longer than this was wrongly taken to be short.
const OVERDUE: Duration = Duration::from_millis(1);

/// Runs on compute threads that follow the first overdue run.
const FIRST_PENALTY: u32 = 16;
const MOST_PENALTY: u32 = 1 << 16;

/// Short runs in a row after which the next penalty is half as long.
const FORGIVEN: u32 = 256;

/// Threads that are watched; a process with more network threads shares the places.
const PLACES: usize = 64;

/// What a model's runs on network threads have shown. A model whose time depends on its values looks short until it is
/// not; each time that happens it is sent to the compute threads, for longer each time.
#[derive(Debug)]
pub(super) struct Trust {
    /// Runs that still go to compute threads.
    suspended: AtomicU32,
    /// How many the next overdue run adds.
    penalty: AtomicU32,
    good: AtomicU32,
}

impl Default for Trust {
    fn default() -> Trust {
        Trust {
            suspended: AtomicU32::new(0),
            penalty: AtomicU32::new(FIRST_PENALTY),
            good: AtomicU32::new(0),
        }
    }
}

impl Trust {
    /// Whether a run that is expected to be short may hold a network thread now. Each refusal is one run that
    /// happens elsewhere.
    pub(super) fn allows(&self, watch: &Watch, now: Instant) -> bool {
        if self.suspended.load(Ordering::Relaxed) > 0 {
            // Two at once may take the same one off: a run more or less elsewhere does not matter.
            let left = self.suspended.load(Ordering::Relaxed).saturating_sub(1);
            self.suspended.store(left, Ordering::Relaxed);
            return false;
        }
        !watch.any_overdue(now)
    }

    /// A run held a network thread for this long.
    pub(super) fn held(&self, time: Duration) {
        if time <= OVERDUE {
            if self.good.fetch_add(1, Ordering::Relaxed) % FORGIVEN == FORGIVEN - 1 {
                let penalty = self.penalty.load(Ordering::Relaxed);
                self.penalty
                    .store((penalty / 2).max(FIRST_PENALTY), Ordering::Relaxed);
            }
            return;
        }
        self.good.store(0, Ordering::Relaxed);
        let penalty = self.penalty.load(Ordering::Relaxed);
        self.suspended.store(penalty, Ordering::Relaxed);
        self.penalty
            .store((penalty * 2).min(MOST_PENALTY), Ordering::Relaxed);
    }
}

/// A run that holds a network thread for this long is ended and begins again on a compute thread.
const TAKEN_OFF: Duration = Duration::from_millis(20);

/// How often the runs on network threads are looked at, while there are any.
const TICK: Duration = Duration::from_millis(10);

/// The runs that hold a network thread now, of all models. While one is overdue, no further run may take a thread:
/// those that are left keep serving the network. One that goes on is taken off its thread.
#[derive(Debug)]
pub(crate) struct Watch {
    places: [Place; PLACES],
    /// Places that have ever been taken.
    used: AtomicUsize,
    /// The watching thread sleeps until a run begins.
    is_asleep: AtomicBool,
    is_over: AtomicBool,
    watcher: OnceLock<Thread>,
}

/// What runs on one network thread.
#[derive(Debug, Default)]
struct Place {
    /// When it began, in nanoseconds since [`EPOCH`]; 0 for none.
    began: AtomicU64,
    execution: Mutex<Option<Arc<Execution>>>,
}

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
static NEXT_PLACE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static PLACE: usize = NEXT_PLACE.fetch_add(1, Ordering::Relaxed) % PLACES;
}

impl Default for Watch {
    fn default() -> Watch {
        Watch {
            places: std::array::from_fn(|_| Place::default()),
            used: AtomicUsize::new(0),
            is_asleep: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            watcher: OnceLock::new(),
        }
    }
}

fn since_epoch(at: Instant) -> u64 {
    // At least 1, since 0 stands for no run.
    u64::try_from(at.saturating_duration_since(*EPOCH).as_nanos())
        .unwrap_or(u64::MAX)
        .max(1)
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Execution>>> {
        self.execution.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_run_for(&self, time: Duration, now: Instant) -> bool {
        let began = self.began.load(Ordering::Relaxed);
        began > 0 && u128::from(since_epoch(now).saturating_sub(began)) > time.as_nanos()
    }
}

impl Watch {
    /// Watches `execution`, which begins now on this thread, until the guard is dropped.
    pub(super) fn begin(&self, now: Instant, execution: &Arc<Execution>) -> Held<'_> {
        let index = PLACE.with(|place| *place);
        if self.used.load(Ordering::Relaxed) <= index {
            self.used.fetch_max(index + 1, Ordering::Relaxed);
        }
        let place = &self.places[index];
        *place.lock() = Some(Arc::clone(execution));
        // In one order with the watcher falling asleep: it sees the run, or is seen asleep.
        place.began.store(since_epoch(now), Ordering::SeqCst);
        if self.is_asleep.load(Ordering::SeqCst)
            && self.is_asleep.swap(false, Ordering::SeqCst)
            && let Some(watcher) = self.watcher.get()
        {
            watcher.unpark();
        }
        Held { place }
    }

    fn used(&self) -> &[Place] {
        &self.places[..self.used.load(Ordering::Relaxed).min(PLACES)]
    }

    fn any_overdue(&self, now: Instant) -> bool {
        self.used().iter().any(|place| place.has_run_for(OVERDUE, now))
    }

    /// Ends the runs that have held a network thread for too long.
    fn take_off(&self, now: Instant) {
        for place in self.used() {
            // Looked at again under the lock: the next run of the thread must not be ended for this one.
            if place.has_run_for(TAKEN_OFF, now) {
                let mut execution = place.lock();
                if place.has_run_for(TAKEN_OFF, now)
                    && let Some(execution) = execution.take()
                {
                    tracing::debug!("a run that holds a network thread is moved to a compute thread");
                    execution.end();
                }
            }
        }
    }

    /// Watches until [`Watch::finish`]; on a thread of its own.
    pub(super) fn watch(&self) {
        let _only_one = self.watcher.set(std::thread::current());
        while !self.is_over.load(Ordering::Acquire) {
            self.take_off(Instant::now());
            let is_quiet = || {
                self.used()
                    .iter()
                    .all(|place| place.began.load(Ordering::SeqCst) == 0)
            };
            if is_quiet() {
                self.is_asleep.store(true, Ordering::SeqCst);
                if is_quiet() && !self.is_over.load(Ordering::Acquire) {
                    std::thread::park();
                }
                self.is_asleep.store(false, Ordering::SeqCst);
            }
            if !self.is_over.load(Ordering::Acquire) {
                std::thread::park_timeout(TICK);
            }
        }
    }

    /// Ends [`Watch::watch`].
    pub(super) fn finish(&self) {
        self.is_over.store(true, Ordering::Release);
        if let Some(watcher) = self.watcher.get() {
            watcher.unpark();
        }
    }
}

/// A run that holds a network thread.
pub(super) struct Held<'a> {
    place: &'a Place,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut execution = self.place.lock();
        self.place.began.store(0, Ordering::SeqCst);
        *execution = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs in a row that are sent elsewhere.
    fn refused(trust: &Trust, watch: &Watch) -> u32 {
        let now = Instant::now();
        (0..=MOST_PENALTY)
            .take_while(|_| !trust.allows(watch, now))
            .count() as u32
    }

    #[test]
    fn a_run_that_held_the_thread_sends_the_next_elsewhere_for_longer_each_time() {
        let (trust, watch) = (Trust::default(), Watch::default());
        assert_eq!(refused(&trust, &watch), 0);
        trust.held(Duration::from_micros(900));
        assert_eq!(refused(&trust, &watch), 0);
        for penalty in [16, 32, 64] {
            trust.held(Duration::from_millis(5));
            assert_eq!(refused(&trust, &watch), penalty);
        }
        for _ in 0..FORGIVEN * 2 {
            trust.held(Duration::from_micros(50));
        }
        trust.held(Duration::from_millis(5));
        assert_eq!(refused(&trust, &watch), 32);
    }

    #[test]
    fn while_a_run_is_overdue_no_other_takes_a_thread() {
        let (trust, watch) = (Trust::default(), Watch::default());
        let began = Instant::now();
        let execution = Execution::new(1);
        let held = watch.begin(began, &execution);
        assert!(trust.allows(&watch, began + OVERDUE));
        assert!(!trust.allows(&watch, began + OVERDUE * 2));
        drop(held);
        assert!(trust.allows(&watch, began + OVERDUE * 2));
    }

    #[test]
    fn a_run_that_goes_on_is_taken_off_its_thread_and_the_next_is_not() {
        let watch = Watch::default();
        let (one, next) = (Execution::new(1), Execution::new(1));
        let began = Instant::now();
        let held = watch.begin(began, &one);
        watch.take_off(began + TAKEN_OFF);
        assert!(!one.is_ended());
        watch.take_off(began + TAKEN_OFF * 2);
        assert!(one.is_ended());
        drop(held);
        let _held = watch.begin(began + TAKEN_OFF * 2, &next);
        watch.take_off(began + TAKEN_OFF * 2);
        assert!(!next.is_ended());
    }
}
