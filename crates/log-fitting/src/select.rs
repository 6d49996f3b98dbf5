//! Which lines are shown, and how.

use std::fmt::Write as _;

use crate::fitter::Entry;
use crate::line::Line;
use crate::text::{MAX_LINE_CHARS, clip_line};

/// Lines at the end that are always offered: what a process said last.
const LAST_LINES: usize = 5;
/// What a line has to be worth, whatever the room: the thousandth of its kind tells nothing.
const LEAST_WORTH: f64 = 0.05;
/// Bytes of a line's number, its colon and blank, and the newline.
const NUMBER: usize = 9;
/// Bytes of a mark of lines left out.
pub(crate) const GAP: usize = 26;

/// Which entries are kept, as one flag each: the most worth first, as long as they fit into so many bytes.
pub(crate) fn select(entries: &[Entry], worth: &[f64], bytes: usize) -> Vec<bool> {
    let mut best: Vec<usize> = (0..entries.len())
        .filter(|index| worth[*index] >= LEAST_WORTH)
        .collect();
    // Later lines win between equals: the cause of a crash is near the end.
    best.sort_by(|a, b| worth[*b].total_cmp(&worth[*a]).then(b.cmp(a)));
    let mut selection = Selection {
        entries,
        kept: vec![false; entries.len()],
        used: GAP as isize,
    };
    // The end gets at most a fifth, so that a chatty shutdown cannot push the errors out.
    for index in (entries.len().saturating_sub(LAST_LINES)..entries.len()).rev() {
        selection.add(index, bytes / 5);
    }
    for index in best {
        selection.add(index, bytes);
    }
    selection.kept
}

struct Selection<'a> {
    entries: &'a [Entry],
    kept: Vec<bool>,
    /// Bytes of what is kept, as it is printed.
    used: isize,
}

impl Selection<'_> {
    fn add(&mut self, index: usize, bytes: usize) {
        if self.kept[index] {
            return;
        }
        let line = &self.entries[index].line;
        let before = index.checked_sub(1).filter(|before| self.kept[*before]);
        let after = self.kept.get(index + 1).copied().unwrap_or(false);
        let mut cost = (shown(line).len() + NUMBER) as isize;
        if before.is_none_or(|before| self.entries[before].line.second() != line.second()) {
            cost += line.time as isize;
        }
        match (before.is_some(), after) {
            (false, false) => cost += GAP as isize,
            (true, true) => cost -= GAP as isize,
            _ => {}
        }
        if self.used + cost <= bytes as isize {
            self.used += cost;
            self.kept[index] = true;
        }
    }
}

/// The kept lines with their numbers, and how many are missing between them. A time is told once a second.
pub(crate) fn print(entries: &[Entry], kept: &[bool], lines: usize) -> String {
    let mut text = String::new();
    let mut last = 0;
    let mut second = "";
    for (entry, _) in entries.iter().zip(kept).filter(|(_, kept)| **kept) {
        let line = &entry.line;
        gap(line.number - last - 1, &mut text);
        let time = if line.second() == second { "" } else { line.clock() };
        let _ = writeln!(text, "{}: {time}{}", line.number, shown(line));
        (last, second) = (line.number, line.second());
    }
    gap(lines.saturating_sub(last), &mut text);
    text
}

fn gap(lines: usize, text: &mut String) {
    if lines > 0 {
        let _ = writeln!(text, "… {lines} lines left out");
    }
}

fn shown(line: &Line) -> String {
    let body = line.body();
    let said = body.trim_end();
    clip_line(
        said,
        line.bytes - line.time - (body.len() - said.len()),
        MAX_LINE_CHARS,
    )
}
