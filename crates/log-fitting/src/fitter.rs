//! Takes the lines of a log one by one and holds those that may be shown.

use std::collections::{HashMap, HashSet};

use crate::baseline::Baseline;
use crate::line::Line;
use crate::marks::Mark;
use crate::select::{print, select};
use crate::template::Template;
use crate::text::one_line;
use crate::weigh::weigh;

/// Bytes of lines that are held, with [`OVERHEAD`] each; beyond that the least worth are dropped.
const MAX_HELD: usize = 16 << 20;
/// Bytes of lines that are held after that.
const HELD_AFTER: usize = MAX_HELD / 4;
/// Bytes that a line takes besides its text.
const OVERHEAD: usize = 160;
/// Templates and kinds that are counted; more are each taken for the first of its kind.
const MAX_TEMPLATES: usize = 50_000;
/// Templates named among what was left out.
const NAMED_OMISSIONS: usize = 5;
/// Characters of a template that is named.
const MAX_TEMPLATE_CHARS: usize = 160;
/// Bytes of text for one token, on the safe side for English and logs.
const BYTES_PER_TOKEN: usize = 4;

/// What is left of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fitted {
    /// Numbered lines, with a mark where lines were left out. A number is followed by the time where the second changes.
    pub text: String,
    /// Lines that went in.
    pub lines: usize,
    /// Lines that were kept.
    pub kept: usize,
    /// Distinct templates among the lines.
    pub templates: usize,
    /// Lines that say that something failed.
    pub errors: usize,
    /// Most frequent templates of which no line was kept, with their counts.
    pub left_out: Vec<(String, usize)>,
}

/// Holds what may be shown of a log.
#[derive(Debug, Default)]
pub struct Fitter {
    baseline: Option<Baseline>,
    entries: Vec<Entry>,
    counts: Counts,
    /// Bytes of `entries`.
    held: usize,
    lines: usize,
    errors: usize,
    last_number: usize,
    step: u32,
}

/// A line and what it has in common with others.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) line: Line,
    pub(crate) template: u64,
    pub(crate) kind: u64,
    /// Lines of its template before it.
    pub(crate) occurrence: u32,
    /// The step of the run that it is in, counted from 0.
    pub(crate) step: u32,
    /// Whether the runner says in it that its step has failed.
    pub(crate) ends_step: bool,
    /// Whether good runs have such lines, too.
    pub(crate) known: bool,
}

/// How many lines have what in common.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    templates: HashMap<u64, (u32, String)>,
    kinds: HashMap<u64, u32>,
    failed_steps: HashSet<u32>,
}

impl Counts {
    /// Counts a line; how many of its template were before it.
    fn add(&mut self, template: &Template) -> u32 {
        if self.kinds.len() < MAX_TEMPLATES || self.kinds.contains_key(&template.kind) {
            *self.kinds.entry(template.kind).or_default() += 1;
        }
        if let Some((count, _)) = self.templates.get_mut(&template.id) {
            *count += 1;
            return *count - 1;
        }
        if self.templates.len() < MAX_TEMPLATES {
            let text = one_line(&template.text, MAX_TEMPLATE_CHARS);
            self.templates.insert(template.id, (1, text));
        }
        0
    }

    pub(crate) fn of_template(&self, template: u64) -> u32 {
        self.templates.get(&template).map_or(0, |(count, _)| *count)
    }

    pub(crate) fn of_kind(&self, kind: u64) -> u32 {
        self.kinds.get(&kind).copied().unwrap_or(0)
    }

    pub(crate) fn has_failed_steps(&self) -> bool {
        !self.failed_steps.is_empty()
    }

    pub(crate) fn has_failed(&self, step: u32) -> bool {
        self.failed_steps.contains(&step)
    }
}

impl Fitter {
    /// Beside logs of good runs, if there are any: what they have, too, explains nothing.
    pub fn new(baseline: Option<Baseline>) -> Self {
        Self {
            baseline,
            ..Self::default()
        }
    }

    /// Takes the next line. Lines come in the order of their numbers.
    pub fn add(&mut self, line: Line) {
        let template = Template::of(line.body());
        let occurrence = self.counts.add(&template);
        if begins_step(line.body()) {
            self.step += 1;
        }
        let ends_step = ends_step(line.body());
        if ends_step {
            self.counts.failed_steps.insert(self.step);
        }
        self.lines += 1;
        self.errors += usize::from(line.mark >= Mark::Failure);
        self.last_number = line.number;
        self.held += line.text.len() + OVERHEAD;
        self.entries.push(Entry {
            known: self
                .baseline
                .as_ref()
                .is_some_and(|baseline| baseline.has(template.id)),
            line,
            template: template.id,
            kind: template.kind,
            occurrence,
            step: self.step,
            ends_step,
        });
        if self.held > MAX_HELD {
            self.drop_least();
        }
    }

    /// Of a log that is longer than what is held, what is worth most so far stays.
    fn drop_least(&mut self) {
        let mut kept = select(&self.entries, &weigh(&self.entries, &self.counts), HELD_AFTER).into_iter();
        self.entries.retain(|_| kept.next().unwrap_or(false));
        self.held = self
            .entries
            .iter()
            .map(|entry| entry.line.text.len() + OVERHEAD)
            .sum();
    }

    /// The lines that tell most within so many tokens.
    pub fn fit(&self, tokens: usize) -> Fitted {
        let worth = weigh(&self.entries, &self.counts);
        let kept = select(&self.entries, &worth, tokens.saturating_mul(BYTES_PER_TOKEN));
        let shown: HashSet<u64> = self
            .entries
            .iter()
            .zip(&kept)
            .filter_map(|(entry, kept)| kept.then_some(entry.template))
            .collect();
        let mut left_out: Vec<(String, usize)> = self
            .counts
            .templates
            .iter()
            .filter(|(id, _)| !shown.contains(*id))
            .map(|(_, (count, text))| (text.clone(), *count as usize))
            .collect();
        left_out.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        left_out.truncate(NAMED_OMISSIONS);
        Fitted {
            text: print(&self.entries, &kept, self.last_number),
            lines: self.lines,
            kept: kept.iter().filter(|kept| **kept).count(),
            templates: self.counts.templates.len(),
            errors: self.errors,
            left_out,
        }
    }
}

impl Extend<Line> for Fitter {
    fn extend<I: IntoIterator<Item = Line>>(&mut self, lines: I) {
        for line in lines {
            self.add(line);
        }
    }
}

/// The first line of a step, in the words of GitHub's runner and GitLab's.
fn begins_step(body: &str) -> bool {
    body.starts_with("##[group]Run ") || body.starts_with("section_start:") || body == "Post job cleanup."
}

/// The line in which a runner says that a step has failed.
fn ends_step(body: &str) -> bool {
    body.starts_with("##[error]")
}

#[cfg(test)]
mod tests;
