//! What an execution costs, by rows: measured when the model warms up, corrected as it serves.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Powers of two of rows that are told apart: up to 16,384.
const SIZES: usize = 15;

/// The most rows that are gathered from requests: beyond, a row costs no less on any model that was measured.
const MOST_ROWS: usize = 256;

/// What a request of a few pays for going with the others on a network thread: a place to wait in, its rows copied in
/// and out, being woken. Measured at 1.5 to 3 µs.
const TOGETHER: f64 = 3_000.0;

/// From so many requests on, that answers leave together saves as much: clients on the same machine are woken once for
/// many of them.
const MANY: usize = 6;

/// A larger batch has to make each row cheaper by this share. Half a batch is ready sooner, and its requests too.
const WORTHWHILE: f64 = 0.95;

/// Batches have to save this share of the time of a request that runs alone, or they are left alone: the curve of a
/// model that gains less is not known well enough to tell a gain from a loss.
const GAIN: f64 = 0.15;

/// Executions after which the size of batches is chosen anew.
const REVIEW: u64 = 64;

/// Times by rows, one for each power of two; between them, lines.
#[derive(Debug)]
pub(crate) struct Curve {
    /// Nanoseconds; 0 where nothing has been measured.
    nanos: [AtomicU64; SIZES],
    observed: AtomicU64,
    batch: AtomicUsize,
    pays_from: AtomicUsize,
}

impl Curve {
    /// Nothing is known: runs are taken to be long until they have shown otherwise.
    pub(crate) fn unknown() -> Curve {
        Curve::from_measurements(&[])
    }

    /// From measured executions: rows and time.
    pub(crate) fn from_measurements(measured: &[(usize, Duration)]) -> Curve {
        let curve = Curve {
            nanos: Default::default(),
            observed: AtomicU64::new(0),
            batch: AtomicUsize::new(1),
            pays_from: AtomicUsize::new(MANY),
        };
        for &(rows, time) in measured {
            curve.nanos[size_of_rows(rows)].store(nanos(time).max(1), Ordering::Relaxed);
        }
        curve.review();
        curve
    }

    /// Expected time of an execution of `rows` rows; `None` while nothing is known.
    ///
    /// More rows than were ever measured cost in proportion to the most that were, or along the line of the two
    /// largest sizes.
    pub(crate) fn estimate(&self, rows: usize) -> Option<Duration> {
        self.estimate_nanos(rows)
            .map(|nanos| Duration::from_nanos(nanos as u64))
    }

    fn estimate_nanos(&self, rows: usize) -> Option<f64> {
        let rows = rows.max(1) as f64;
        let mut before: [Option<(f64, f64)>; 2] = [None, None];
        for (at, time) in self.known() {
            if at >= rows {
                return Some(match before[1] {
                    Some(below) if at > rows => line(below, (at, time), rows),
                    // Fewer rows than were measured cost no more.
                    _ => time,
                });
            }
            before = [before[1], Some((at, time))];
        }
        let (at, time) = before[1]?;
        Some(match before[0] {
            Some(smaller) => line(smaller, (at, time), rows).max(time),
            None => time * rows / at,
        })
    }

    /// The measured sizes, ascending: rows and nanoseconds.
    fn known(&self) -> impl Iterator<Item = (f64, f64)> {
        self.nanos.iter().enumerate().filter_map(|(size, nanos)| {
            let nanos = nanos.load(Ordering::Relaxed);
            (nanos > 0).then_some(((1_u64 << size) as f64, nanos as f64))
        })
    }

    /// How many sizes have been measured.
    pub(super) fn sizes_known(&self) -> usize {
        self.known().count()
    }

    /// Rows of the cheapest part, if an execution of `rows` rows is so large that its rows cost a fifth more than in
    /// smaller ones: beyond a cache, mostly.
    pub(super) fn cheapest_part(&self, rows: usize) -> Option<usize> {
        let whole = self.estimate_nanos(rows)? / rows as f64;
        let smaller = self.known().filter(|(at, _)| *at >= 16.0 && *at < rows as f64);
        let (part, per_row) = smaller
            .map(|(at, time)| (at, time / at))
            .min_by(|(_, one), (_, other)| one.total_cmp(other))?;
        (whole > 1.2 * per_row).then_some(part as usize)
    }

    /// The measured sizes, for whoever wants to see them.
    pub(crate) fn measured(&self) -> Vec<(usize, Duration)> {
        self.known()
            .map(|(rows, nanos)| (rows as usize, Duration::from_nanos(nanos as u64)))
            .collect()
    }

    /// Takes an execution into account. A faster one counts for a quarter, a slower one for a sixteenth and at most as
    /// four times what was expected: what makes an execution slow is mostly something else on the machine. (How long a
    /// network thread is held is watched elsewhere, and at once: [`super::in_place`].) Two executions that end at the
    /// same moment may count as one.
    pub(crate) fn observe(&self, rows: usize, time: Duration) {
        let (rows, time) = (rows.max(1), nanos(time).max(1) as f64);
        let size = size_of_rows(rows);
        let expected = self.estimate_nanos(rows);
        let ratio = expected.map_or(1.0, |expected| (time / expected.max(1.0)).min(4.0));
        let weight = if ratio < 1.0 { 0.25 } else { 1.0 / 16.0 };
        let factor = 1.0 + (ratio - 1.0) * weight;
        let at_size = time * (1_u64 << size) as f64 / rows as f64;
        let store =
            |size: usize, value: f64| self.nanos[size].store((value as u64).max(1), Ordering::Relaxed);
        match self.nanos[size].load(Ordering::Relaxed) {
            0 => store(size, at_size.min(time)),
            old => store(size, old as f64 * factor),
        }
        // Between two sizes an execution tells about both.
        if !rows.is_power_of_two() && size + 1 < SIZES {
            let old = self.nanos[size + 1].load(Ordering::Relaxed);
            if old > 0 {
                store(size + 1, old as f64 * factor);
            }
        }
        if self.observed.fetch_add(1, Ordering::Relaxed) % REVIEW == REVIEW - 1 {
            self.review();
        }
    }

    /// The most rows that requests should be gathered to; 1 where they run best alone.
    pub(crate) fn batch(&self) -> usize {
        self.batch.load(Ordering::Relaxed)
    }

    /// How many requests of one row have to be there on a network thread for going together to pay.
    pub(super) fn pays_from(&self) -> usize {
        self.pays_from.load(Ordering::Relaxed)
    }

    fn review(&self) {
        self.batch.store(self.best_batch(), Ordering::Relaxed);
        let saves = |requests: &usize| {
            let alone = self.estimate_nanos(1)?;
            Some(alone - self.estimate_nanos(*requests)? / *requests as f64)
        };
        let pays = |requests: &usize| saves(requests).is_some_and(|saved| saved > TOGETHER);
        self.pays_from
            .store((2..MANY).find(pays).unwrap_or(MANY), Ordering::Relaxed);
    }

    fn best_batch(&self) -> usize {
        let mut known = self.known();
        let Some((1.0, alone)) = known.next() else {
            return 1;
        };
        let (mut best, mut per_row, mut largest) = (1, alone, 1);
        for (rows, time) in known.take_while(|(rows, _)| *rows <= MOST_ROWS as f64) {
            largest = rows as usize;
            if time / rows < per_row * WORTHWHILE {
                (best, per_row) = (rows as usize, time / rows);
            } else if time / rows > per_row / WORTHWHILE {
                break;
            }
        }
        if alone - per_row < GAIN * alone {
            1
        } else if best == largest {
            // Twice the rows may be cheaper still, and are known once they have run.
            (best * 2).min(MOST_ROWS)
        } else {
            best
        }
    }
}

/// The largest power of two that is not above `rows`.
fn size_of_rows(rows: usize) -> usize {
    (rows.max(1).ilog2() as usize).min(SIZES - 1)
}

/// The line through two points, at `x`.
fn line((x0, y0): (f64, f64), (x1, y1): (f64, f64), x: f64) -> f64 {
    y0 + (y1 - y0) * (x - x0) / (x1 - x0)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(micros: &[(usize, u64)]) -> Curve {
        let measured: Vec<_> = micros
            .iter()
            .map(|&(rows, micros)| (rows, Duration::from_micros(micros)))
            .collect();
        Curve::from_measurements(&measured)
    }

    #[test]
    fn sizes_in_between_lie_on_lines_and_those_beyond_continue_them() {
        let curve = curve(&[(1, 17), (8, 57), (32, 237)]);
        let micros = |rows| curve.estimate(rows).unwrap().as_micros();
        assert_eq!([1, 8, 32].map(micros), [17, 57, 237]);
        assert_eq!(micros(20), 147);
        assert_eq!(micros(64), 477);
        assert_eq!(self::curve(&[(1, 10)]).estimate(30).unwrap().as_micros(), 300);
        assert_eq!(Curve::unknown().estimate(1), None);
    }

    #[test]
    fn a_batch_is_as_large_as_rows_get_cheaper() {
        // 50 times cheaper in a large batch.
        let mlp = curve(&[
            (1, 40),
            (2, 41),
            (4, 43),
            (8, 46),
            (16, 52),
            (32, 65),
            (64, 90),
            (128, 140),
        ]);
        assert_eq!(mlp.batch(), 256);
        for _ in 0..REVIEW {
            mlp.observe(256, Duration::from_micros(280));
        }
        assert_eq!(mlp.batch(), 128);
        // 200 trees: nothing more after 8 rows.
        let trees = curve(&[(1, 17), (2, 25), (4, 34), (8, 57), (16, 114), (32, 235)]);
        assert_eq!(trees.batch(), 8);
        // In proportion, whatever the size.
        assert_eq!(curve(&[(1, 900), (2, 1_790), (4, 3_580), (8, 7_160)]).batch(), 1);
        assert_eq!(curve(&[(1, 900)]).batch(), 1);
        assert_eq!(Curve::unknown().batch(), 1);
    }

    #[test]
    fn few_requests_go_together_where_that_saves_more_than_it_costs() {
        assert_eq!(curve(&[(1, 17), (2, 18), (4, 20), (8, 24)]).pays_from(), 2);
        assert_eq!(curve(&[(1, 8), (2, 11), (4, 18), (8, 36)]).pays_from(), 3);
        assert_eq!(curve(&[(1, 4), (2, 5), (4, 7), (8, 10)]).pays_from(), MANY);
        assert_eq!(curve(&[(1, 40), (2, 80), (4, 160)]).pays_from(), MANY);
        assert_eq!(Curve::unknown().pays_from(), MANY);
    }

    #[test]
    fn what_the_warm_up_got_wrong_is_corrected_by_executions() {
        let curve = curve(&[(1, 40), (8, 320)]);
        assert_eq!(curve.batch(), 1);
        for _ in 0..REVIEW {
            curve.observe(8, Duration::from_micros(60));
            curve.observe(1, Duration::from_micros(40));
        }
        assert_eq!(curve.batch(), 16);
        let eight = curve.estimate(8).unwrap().as_micros();
        assert!((58..=66).contains(&eight), "{eight}");
        // Rows that were never measured are known once they have run.
        curve.observe(1_000, Duration::from_millis(2));
        let thousand = curve.estimate(1_000).unwrap().as_micros();
        assert!((1_900..=2_100).contains(&thousand), "{thousand}");
    }

    #[test]
    fn an_execution_that_something_else_delayed_counts_little() {
        let curve = curve(&[(1, 10)]);
        curve.observe(1, Duration::from_millis(4));
        assert!(curve.estimate(1).unwrap() < Duration::from_micros(12));
        for _ in 0..64 {
            curve.observe(1, Duration::from_micros(40));
        }
        assert!(curve.estimate(1).unwrap() > Duration::from_micros(35));
    }
}
