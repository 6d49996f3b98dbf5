//! What a line is worth beside the others of its log.

use crate::fitter::{Counts, Entry};
use crate::marks::Mark;

/// How much of a line's worth the line after it gets: what it says about itself.
const AFTER: f64 = 0.85;
/// The same when that line says where: it belongs to what happened.
const PLACE_AFTER: f64 = 0.95;
/// How much the line before it gets: what led to it.
const BEFORE: f64 = 0.6;
/// Less than this part is not passed on.
const LEAST_PART: f64 = 0.12;
/// What is left of the worth of a line that good runs have, too.
const KNOWN: f64 = 0.1;
/// What is left of the worth of a line in a step without an error, where the runner tells of another's.
const OTHER_STEP: f64 = 0.4;
/// What a failure is worth at least after many others.
const LEAST_IN_RUN: f64 = 0.4;
/// Lines before a verdict within which a line's worth grows by half or more.
const NEAR: f64 = 50.0;

/// The worth of each entry; entries are in the order of their lines.
pub(crate) fn weigh(entries: &[Entry], counts: &Counts) -> Vec<f64> {
    let mut worth: Vec<f64> = entries.iter().map(|entry| alone(entry, counts)).collect();
    onsets(entries, &mut worth);
    nearness(entries, &mut worth);
    neighbours(entries, &mut worth);
    worth
}

/// By its mark and by how rare it is.
fn alone(entry: &Entry, counts: &Counts) -> f64 {
    let same = f64::from(counts.of_template(entry.template).max(1));
    let alike = f64::from(counts.of_kind(entry.kind)).max(same);
    let rarity = 1.0 / (1.0 + same.ln()) / (1.0 + 0.5 * (alike / same).ln());
    // The first and the last of a template tell most.
    let inside = f64::from(entry.occurrence)
        .min(same - 1.0 - f64::from(entry.occurrence))
        .max(0.0);
    let edge = (1.0 + (1.0 + inside).log2()).min(4.0);
    let mut worth = entry.line.mark.weight() * rarity / edge;
    if entry.known {
        worth *= KNOWN;
    }
    if counts.has_failed_steps() && !counts.has_failed(entry.step) {
        worth *= OTHER_STEP;
    }
    worth
}

/// Where failures begin is where their cause is; what goes on for long tells less with each line.
fn onsets(entries: &[Entry], worth: &mut [f64]) {
    let mut run: f64 = 0.0;
    for (entry, worth) in entries.iter().zip(worth) {
        if entry.line.mark >= Mark::Failure {
            let least = if entry.line.mark == Mark::Verdict {
                1.0
            } else {
                LEAST_IN_RUN
            };
            *worth *= (1.5 / (1.0 + 0.3 * run)).max(least);
            run += 1.0;
        } else {
            run *= 0.8;
        }
    }
}

/// What comes shortly before a verdict led to it.
fn nearness(entries: &[Entry], worth: &mut [f64]) {
    let mut verdict: Option<usize> = None;
    for (entry, worth) in entries.iter().zip(worth).rev() {
        if entry.line.mark == Mark::Verdict {
            verdict = Some(entry.line.number);
        }
        if let Some(verdict) = verdict {
            let lines = (verdict - entry.line.number) as f64;
            *worth *= 1.0 + 1.0 / (1.0 + lines / NEAR);
        }
    }
}

/// A line is worth at least a part of its neighbours, less the further they are.
fn neighbours(entries: &[Entry], worth: &mut [f64]) {
    let own = worth.to_vec();
    let mut carried = Carried::default();
    for index in 1..entries.len() {
        let (before, entry) = (&entries[index - 1], &entries[index]);
        carried.take(own[index - 1]);
        if before.ends_step {
            carried = Carried::default();
        }
        let part = match entry.line.mark {
            Mark::Place => PLACE_AFTER,
            _ => AFTER,
        };
        carried.fade(part, entry.line.number - before.line.number);
        worth[index] = worth[index].max(carried.now);
    }
    let mut carried = Carried::default();
    for index in (1..entries.len()).rev() {
        carried.take(own[index]);
        carried.fade(
            BEFORE,
            entries[index].line.number - entries[index - 1].line.number,
        );
        worth[index - 1] = worth[index - 1].max(carried.now);
    }
}

/// What a line passes on to its neighbours.
#[derive(Default)]
struct Carried {
    first: f64,
    now: f64,
}

impl Carried {
    fn take(&mut self, worth: f64) {
        if worth > self.now {
            (self.first, self.now) = (worth, worth);
        }
    }

    fn fade(&mut self, part: f64, lines: usize) {
        self.now *= part.powi(i32::try_from(lines).unwrap_or(i32::MAX));
        if self.now < self.first * LEAST_PART {
            *self = Self::default();
        }
    }
}
