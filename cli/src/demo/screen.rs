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
        lines.push(if line.starts_with('#') {
            terminal.paint(Style::Bold, &line)
        } else {
            line
        });
    }
    lines.join("\n").trim_end().to_owned()
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
    fn a_report_is_readable_without_its_evidence() {
        assert_eq!(unescape(r"a\_b \\ c:\dir \* 5\"), r"a_b \ c:\dir * 5\");
        let plain = Terminal::to_nowhere();
        assert_eq!(
            readable("# P0 out\\_yes\n\ntext\x1b[2J\n\n## Evidence\n\nE1", &plain),
            "# P0 out_yes\n\ntext\\u{1b}[2J"
        );
    }
}
