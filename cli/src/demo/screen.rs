//! What the demo shows: progress, and the report.

use std::time::Duration;

use plumbline_drift::report::DriftReport;
use tokio::time::Instant;

use super::watch;
use crate::replay::{Counts, show_latency};
use crate::terminal::{Style, Terminal, printable_lines};

/// How often the sidecar is asked and the status line is written.
pub(super) const TICK: Duration = Duration::from_millis(250);
/// How often a line is written where no status line can be.
const PLAIN_TICKS: u32 = 12;

/// What is going on, as a status line, or as a line now and then.
pub(super) struct Progress<'a> {
    terminal: &'a Terminal,
    phase: &'static str,
    started: Instant,
    ticks: u32,
}

impl<'a> Progress<'a> {
    pub(super) fn new(terminal: &'a Terminal, phase: &'static str) -> Self {
        Self {
            terminal,
            phase,
            started: Instant::now(),
            ticks: 0,
        }
    }

    pub(super) fn show(&mut self, counts: &Counts, report: &DriftReport) {
        let line = self.line(counts, report);
        if self.terminal.is_live() {
            self.terminal.status(&line);
        } else if self.ticks % PLAIN_TICKS == PLAIN_TICKS - 1 {
            self.terminal.line(&line);
        }
        self.ticks += 1;
    }

    /// Leaves the last state on the screen.
    pub(super) fn last(&self, counts: &Counts, report: &DriftReport) {
        self.terminal.line(&self.line(counts, report));
    }

    fn line(&self, counts: &Counts, report: &DriftReport) -> String {
        let style = match report.state.level() {
            0 => Style::Green,
            1 => Style::Yellow,
            _ => Style::Red,
        };
        format!(
            "  {:<8} {:>6} rows  {:>4.0} req/s  p50 {}  {}  {}",
            self.phase,
            counts.rows,
            counts.sent as f64 / self.started.elapsed().as_secs_f64().max(0.1),
            show_latency(counts.latency(0.5)),
            self.terminal.paint(style, watch::name(report.state)),
            watch::top(report),
        )
    }
}

/// The report for a terminal: headings stand out, and what Markdown has to escape is as it was. The evidence, which is
/// long, stays on the report's page.
pub(super) fn readable(markdown: &str, terminal: &Terminal) -> String {
    let mut lines = Vec::new();
    for line in printable_lines(markdown)
        .lines()
        .take_while(|line| *line != "## Evidence")
    {
        let line = unescape(line);
        if line.starts_with('#') {
            lines.push(terminal.paint(Style::Bold, &line));
        } else {
            lines.extend(
                terminal
                    .width()
                    .map_or_else(|| vec![line.clone()], |width| wrap(&line, width)),
            );
        }
    }
    lines.join("\n").trim_end().to_owned()
}

/// Breaks a line between words; what follows stands under the text of a list's item.
fn wrap(line: &str, width: usize) -> Vec<String> {
    let marker = line.find(' ').map_or("", |end| &line[..end]);
    let is_item = marker == "-"
        || marker
            .strip_suffix('.')
            .is_some_and(|number| number.parse::<u32>().is_ok());
    let indent = if is_item {
        " ".repeat(marker.len() + 1)
    } else {
        String::new()
    };
    let options = textwrap::Options::new(width)
        .subsequent_indent(&indent)
        .break_words(false);
    textwrap::wrap(line, options)
        .into_iter()
        .map(std::borrow::Cow::into_owned)
        .collect()
}

/// Takes the backslash away from escaped punctuation.
fn unescape(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        let escapes = c == '\\' && characters.peek().is_some_and(char::is_ascii_punctuation);
        text.extend(if escapes { characters.next() } else { Some(c) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_break_between_words() {
        assert_eq!(wrap("- one two three", 9), ["- one two", "  three"]);
        assert_eq!(wrap("12. one two", 8), ["12. one", "    two"]);
        assert_eq!(wrap("one.two three", 7), ["one.two", "three"]);
        assert_eq!(wrap("", 7), [""]);
    }

    #[test]
    fn a_report_is_readable_without_its_evidence() {
        assert_eq!(unescape(r"a\_b \\ c:\dir \* 5\"), r"a_b \ c:\dir * 5\");
        let plain = Terminal::to_nowhere();
        assert_eq!(
            readable("# P0 out\\_yes\n\ntext\x1b[2J\n\n## Evidence\n\nE1", &plain),
            "# P0 out_yes\n\ntext\\u{1b}[2J"
        );
    }
}
