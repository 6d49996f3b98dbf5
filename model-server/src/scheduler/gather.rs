//! Requests that arrive by one network thread at the same time, gathered into one execution.
//!
//! Short runs happen on network threads, each request's as it arrives, so that no queue ever forms of which a batch
//! could be made. But often more requests are there already: their connections are ready, and the thread comes to them
//! next. The first one gives way once; whoever the thread then comes to joins it; when the thread is through, the first
//! one runs them all, in as many executions as the model runs best. Nobody waits for a request that is not there, and
//! no timer is involved. Answers then leave together, too: a client on the same machine is woken once for all of them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::job::Entry;
use super::queue::Key;

/// A thread that goes on comes back to a gather within this time, mostly.
const ABANDONED: Duration = Duration::from_micros(500);

/// Requests that will run one after the other, some rows at a time.
#[derive(Debug)]
pub(super) struct Gather {
    pub(super) id: u64,
    pub(super) entries: Vec<(Key, Entry)>,
    pub(super) size: Size,
    thread: u64,
    rows: usize,
}

/// How large a gather gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    /// Rows of an execution.
    pub(super) batch_rows: usize,
    /// Rows of all its executions.
    pub(super) most_rows: usize,
}

static NEXT_THREAD: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Cheaper than `std::thread::current`, which counts a reference.
    static THREAD: u64 = NEXT_THREAD.fetch_add(1, Ordering::Relaxed);
}

/// The gathers of a model: one for each network thread at most.
#[derive(Debug, Default)]
pub(super) struct Gathers(Vec<Gather>);

/// What became of a request that was offered.
pub(super) enum Joined {
    /// It is the first: it gives way, then takes the gather of this id.
    Leads(u64),
    /// Somebody else runs it.
    Follows,
    /// With it there are enough: they run at once.
    Full(Gather),
    /// It does not go with those that are there.
    Apart(Entry),
}

impl Gathers {
    /// Offers a request to the gather of this thread.
    pub(super) fn join(&mut self, key: Key, entry: Entry, size: Size) -> Joined {
        let thread = THREAD.with(|thread| *thread);
        let rows = entry.job.rows;
        let Some(at) = self.0.iter().position(|gather| gather.thread == thread) else {
            let id = key.sequence;
            self.0.push(Gather {
                id,
                entries: vec![(key, entry)],
                size,
                thread,
                rows,
            });
            return Joined::Leads(id);
        };
        let gather = &mut self.0[at];
        let alike = gather
            .entries
            .first()
            .is_none_or(|(_, first)| first.job.goes_with(&entry.job));
        if !alike || gather.rows + rows > gather.size.most_rows {
            return Joined::Apart(entry);
        }
        gather.rows += rows;
        gather.entries.push((key, entry));
        if gather.rows >= gather.size.most_rows {
            Joined::Full(self.0.swap_remove(at))
        } else {
            Joined::Follows
        }
    }

    /// The gather `id`, unless somebody took it.
    pub(super) fn take(&mut self, id: u64) -> Option<Gather> {
        let at = self.0.iter().position(|gather| gather.id == id)?;
        Some(self.0.swap_remove(at))
    }

    /// Adds to `gather` what other threads have had for too long, as far as it fits: the system runs something else
    /// on them.
    pub(super) fn adopt(&mut self, gather: &mut Gather, now: Instant) {
        let mut at = 0;
        while let Some(other) = self.0.get(at) {
            let waits =
                |(_, entry): &(Key, Entry)| now.saturating_duration_since(entry.job.arrived) > ABANDONED;
            let first = other.entries.first().filter(|first| waits(first));
            let goes = first
                .zip(gather.entries.first())
                .is_some_and(|((_, first), (_, own))| first.job.goes_with(&own.job));
            if goes && gather.rows + other.rows <= gather.size.most_rows {
                let other = self.0.swap_remove(at);
                gather.rows += other.rows;
                gather.entries.extend(other.entries);
            } else {
                at += 1;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn set_arrival(&mut self, at: Instant) {
        let entries = self.0.iter_mut().flat_map(|gather| &mut gather.entries);
        entries.for_each(|(_, entry)| entry.job.arrived = at);
    }

    /// Takes a request out.
    pub(super) fn remove(&mut self, key: Key) -> Option<Entry> {
        self.0.iter_mut().find_map(|gather| {
            let at = gather.entries.iter().position(|(other, _)| *other == key)?;
            let (_, entry) = gather.entries.remove(at);
            gather.rows -= entry.job.rows;
            Some(entry)
        })
    }
}

/// Of so many requests one looks for others, while there are none.
const ATTEMPT: u32 = 32;

/// Whether it is worth giving way: how many the last gathers found.
#[derive(Debug)]
pub(super) struct Appetite {
    /// Requests per gather, times 256: an average over about four.
    found: AtomicU32,
    /// Those that look for others now.
    looking: AtomicU32,
}

impl Default for Appetite {
    fn default() -> Appetite {
        Appetite {
            found: AtomicU32::new(256),
            looking: AtomicU32::new(0),
        }
    }
}

impl Appetite {
    /// A request looks for others, until [`Appetite::looked`].
    pub(super) fn look(&self) {
        self.looking.fetch_add(1, Ordering::Relaxed);
    }

    /// It has, or is gone.
    pub(super) fn looked(&self) {
        self.looking.fetch_sub(1, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn looking(&self) -> u32 {
        self.looking.load(Ordering::Relaxed)
    }

    /// Whether this request should look for others, or be there for one that does, if going together pays from so many
    /// requests on.
    pub(super) fn is_there(&self, pays_from: usize) -> bool {
        // An attempt finds those that come after it: half of them.
        let enough = (160 * pays_from as u32).max(256 * 3 / 2);
        if self.found.load(Ordering::Relaxed) >= enough || self.looking.load(Ordering::Relaxed) > 0 {
            return true;
        }
        // By chance: were it every so many, it could be the last of those that are there, each time.
        fastrand::u32(..ATTEMPT) == 0
    }

    /// A gather had this many requests.
    pub(super) fn found(&self, requests: usize) {
        let old = self.found.load(Ordering::Relaxed);
        let now = u32::try_from(requests).unwrap_or(u32::MAX).min(1 << 16) * 256;
        self.found.store(old - old / 4 + now / 4, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn giving_way_stops_when_nobody_comes_and_is_tried_again_now_and_then() {
        let appetite = Appetite::default();
        let tries = |requests: usize| (0..requests).filter(|_| appetite.is_there(2)).count();
        fastrand::seed(1);
        let seldom = 50..200; // 100 expected
        assert!(seldom.contains(&tries(3_200)));
        appetite.look();
        assert_eq!(tries(33), 33);
        appetite.looked();
        appetite.found(1);
        assert!(seldom.contains(&tries(3_200)));
        appetite.found(8);
        assert_eq!(tries(33), 33);
        let from_six = (0..3_200).filter(|_| appetite.is_there(6)).count();
        assert!(seldom.contains(&from_six), "2.75 found, on average");
        for _ in 0..12 {
            appetite.found(1);
        }
        assert!(seldom.contains(&tries(3_200)));
    }
}
