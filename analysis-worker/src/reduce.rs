//! Fits a log into a token budget: templates, rarity and error windows decide which lines stay.
//!
//! Deterministic and linear in the log. Nothing is summarised: lines are kept as they are with their numbers, and what
//! was left out is said, so that a wrong conclusion can be traced to a missing line.

mod line;
mod template;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;

pub(crate) use line::{Level, Line};
use template::template;

use crate::text::{MAX_LINE_CHARS, clip_line, tokens};

/// Lines kept before one that stands out: what led to it.
const LINES_BEFORE: usize = 3;
/// After it: what it says about itself.
const LINES_AFTER: usize = 8;
/// Lines at the end that are always offered: what a process said last.
const LAST_LINES: usize = 5;
/// Templates named among what was left out.
const NAMED_OMISSIONS: usize = 5;

/// What is left of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reduced {
    /// Numbered lines, with a mark where lines were left out.
    pub(crate) text: String,
    /// Lines that went in.
    pub(crate) lines: usize,
    /// Lines that were kept.
    pub(crate) kept: usize,
    /// Distinct templates among the lines.
    pub(crate) templates: usize,
    /// Lines at level error or worse, by their level or their words.
    pub(crate) errors: usize,
    /// Most frequent templates of which no line was kept, with their counts.
    pub(crate) left_out: Vec<(String, usize)>,
}

/// Keeps the lines that tell most within `budget` tokens.
pub(crate) fn reduce(lines: &[Line], budget: usize) -> Reduced {
    let templates: Vec<String> = lines.iter().map(|line| template(&line.text)).collect();
    let mut groups: HashMap<&str, Group> = HashMap::new();
    for (index, name) in templates.iter().enumerate() {
        let group = groups.entry(name).or_insert(Group {
            first: index,
            last: index,
            count: 0,
        });
        group.last = index;
        group.count += 1;
    }
    let scores: Vec<f64> = lines
        .iter()
        .zip(&templates)
        .map(|(line, name)| score(line, groups[name.as_str()].count))
        .collect();
    let kept = select(lines, &templates, &groups, &scores, budget);
    let shown: HashSet<&str> = kept.iter().map(|index| templates[*index].as_str()).collect();
    let mut left_out: Vec<(String, usize)> = groups
        .iter()
        .filter(|(name, _)| !shown.contains(*name))
        .map(|(name, group)| ((*name).to_owned(), group.count))
        .collect();
    left_out.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    left_out.truncate(NAMED_OMISSIONS);
    Reduced {
        text: print(lines, &kept),
        lines: lines.len(),
        kept: kept.len(),
        templates: groups.len(),
        errors: lines
            .iter()
            .filter(|line| line.weight() >= Level::Error.weight())
            .count(),
        left_out,
    }
}

struct Group {
    first: usize,
    last: usize,
    count: usize,
}

/// What a line is worth: its level or words, divided by how often its template occurs.
fn score(line: &Line, occurrences: usize) -> f64 {
    let rarity = 1.0 / (1.0 + (occurrences as f64).ln());
    (0.5 + line.weight()) * rarity
}

/// Indices of the kept lines: the best first, each template by its first and last line only, with their neighbours,
/// until the budget is used.
fn select(
    lines: &[Line],
    templates: &[String],
    groups: &HashMap<&str, Group>,
    scores: &[f64],
    budget: usize,
) -> BTreeSet<usize> {
    let offered = |index: &usize| {
        let group = &groups[templates[*index].as_str()];
        *index == group.first || *index == group.last
    };
    let mut candidates: Vec<usize> = (0..lines.len()).filter(offered).collect();
    // Later lines win between equals: the cause of a crash is near the end.
    candidates.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(b.cmp(a)));
    let last = lines.len().saturating_sub(LAST_LINES)..lines.len();
    let mut kept = BTreeSet::new();
    let mut used = 0;
    // The end gets at most a fifth, so that a chatty shutdown cannot push the errors out.
    for index in last.rev() {
        add(index, lines, &mut kept, &mut used, budget / 5);
    }
    for index in candidates {
        if !add(index, lines, &mut kept, &mut used, budget) {
            continue;
        }
        if lines[index].weight() >= Level::Warn.weight() {
            let from = index.saturating_sub(LINES_BEFORE);
            let to = (index + LINES_AFTER).min(lines.len() - 1);
            for neighbour in from..=to {
                // Neighbours may use four fifths: every line that stands out itself comes before more of them.
                add(neighbour, lines, &mut kept, &mut used, budget / 5 * 4);
            }
        }
    }
    kept
}

fn add(index: usize, lines: &[Line], kept: &mut BTreeSet<usize>, used: &mut usize, budget: usize) -> bool {
    if kept.contains(&index) {
        return true;
    }
    // Line number, separator and a possible mark of omission cost about eight tokens.
    let cost = tokens(&shown(&lines[index])) + 8;
    if *used + cost > budget {
        return false;
    }
    *used += cost;
    kept.insert(index);
    true
}

fn shown(line: &Line) -> String {
    clip_line(&line.text, line.bytes, MAX_LINE_CHARS)
}

fn print(lines: &[Line], kept: &BTreeSet<usize>) -> String {
    let mut text = String::new();
    let mut next = 0;
    let gap = |from: usize, to: usize, text: &mut String| {
        if to > from {
            let _ = writeln!(text, "… {} lines left out", to - from);
        }
    };
    for index in kept {
        gap(next, *index, &mut text);
        let line = &lines[*index];
        let _ = writeln!(text, "{}: {}", line.number, shown(line));
        next = index + 1;
    }
    gap(next, lines.len(), &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> Vec<Line> {
        Line::parse_all(text)
    }

    #[test]
    fn a_rare_error_survives_ten_thousand_ordinary_lines() {
        let mut text = String::new();
        for i in 0..10_000 {
            let _ = writeln!(text, "INFO request {i} answered in {} us", i % 97);
            if i == 4_321 {
                text.push_str("ERROR checksum mismatch in shard 7\n");
            }
        }
        let reduced = reduce(&log(&text), 500);
        assert!(
            reduced.text.contains("4323: ERROR checksum mismatch in shard 7"),
            "{}",
            reduced.text
        );
        assert!(tokens(&reduced.text) <= 500, "{}", reduced.text);
        assert_eq!((reduced.lines, reduced.errors), (10_001, 1));
        assert!(reduced.templates <= 2 && reduced.kept < 30, "{reduced:?}");
        assert!(reduced.text.contains(" lines left out"));
    }

    #[test]
    fn a_repeated_error_does_not_push_out_a_single_one() {
        let mut text = "ERROR upstream 10.0.0.1 refused the connection\n".repeat(5_000);
        text.push_str("ERROR cannot allocate tensor of 12884901888 bytes\n");
        text.push_str(&"ERROR upstream 10.0.0.1 refused the connection\n".repeat(5_000));
        let reduced = reduce(&log(&text), 200);
        assert!(
            reduced.text.contains("5001: ERROR cannot allocate tensor"),
            "{}",
            reduced.text
        );
        assert!(reduced.text.contains("refused the connection"));
    }

    #[test]
    fn what_was_left_out_is_named() {
        let mut text = "DEBUG polled queue depth 3\n".repeat(50);
        text.push_str(&"FATAL model cannot be loaded from /mnt/models\n".repeat(2));
        let reduced = reduce(&log(&text), 40);
        assert!(reduced.text.contains("FATAL"), "{}", reduced.text);
        assert_eq!(
            reduced.left_out,
            [("DEBUG polled queue depth <*>".to_owned(), 50)]
        );
    }

    #[test]
    fn a_huge_line_is_clipped_and_says_so() {
        let text = format!(
            "{}\nERROR true cause: checksum mismatch in shard 7\n",
            "A".repeat(1 << 20)
        );
        let reduced = reduce(&log(&text), 1_000);
        assert!(reduced.text.contains("[cut 1047976 bytes]"), "{}", reduced.text);
        assert!(reduced.text.contains("checksum mismatch in shard 7"));
    }

    #[test]
    fn an_empty_log_is_empty() {
        let reduced = reduce(&[], 1_000);
        assert_eq!((reduced.text.as_str(), reduced.lines, reduced.kept), ("", 0, 0));
    }
}
