//! The one place that writes to the terminal.
//!
//! Standard output carries results; on a terminal it also carries a status line that is rewritten in place. Elsewhere
//! there is no colour and no rewriting. A reader that goes away (`plumbline drift … | head`) is not an error: the rest
//! is dropped.

use std::io::{IsTerminal as _, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How a piece of text stands out, where colour is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Headings.
    Bold,
    /// What is of less interest.
    Dim,
    /// Well.
    Green,
    /// To be watched.
    Yellow,
    /// Bad.
    Red,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "31",
        }
    }
}

/// How a result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Writes results, status and complaints.
pub(crate) struct Terminal {
    out: Mutex<Out>,
    colour: bool,
    live: bool,
}

struct Out {
    results: Box<dyn Write + Send>,
    complaints: Box<dyn Write + Send>,
    /// A status line is on the screen and has to go before anything else is written.
    status: bool,
}

impl Terminal {
    /// Standard output and standard error. `NO_COLOR` (any value but an empty one) takes colour away.
    pub(crate) fn standard() -> Self {
        let live =
            std::io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let (results, complaints) = (Box::new(std::io::stdout()), Box::new(std::io::stderr()));
        Self::new(results, complaints, live && !plain, live)
    }

    fn new(
        results: Box<dyn Write + Send>,
        complaints: Box<dyn Write + Send>,
        colour: bool,
        live: bool,
    ) -> Self {
        let out = Out {
            results,
            complaints,
            status: false,
        };
        Self {
            out: Mutex::new(out),
            colour,
            live,
        }
    }

    /// Shows nothing to anybody.
    #[cfg(test)]
    pub(crate) fn to_nowhere() -> Self {
        Self::new(Box::new(std::io::sink()), Box::new(std::io::sink()), false, false)
    }

    /// Whether a status line can be rewritten in place.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// Columns of the terminal; nothing elsewhere, where lines stay whole for programs.
    pub(crate) fn width(&self) -> Option<usize> {
        let size = self.is_live().then(terminal_size::terminal_size)??;
        Some(usize::from(size.0.0).max(40))
    }

    /// `text` in `style`, or as it is where colour is not wanted.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        if self.colour {
            format!("\x1b[{}m{text}\x1b[0m", style.code())
        } else {
            text.to_owned()
        }
    }

    /// Writes a line of results, or several.
    pub(crate) fn line(&self, text: &str) {
        let mut out = self.lock();
        out.clear_status();
        // A closed pipe: whoever read has seen enough.
        let _closed = writeln!(out.results, "{text}").and_then(|()| out.results.flush());
    }

    /// Writes results as they are, without a final line break of its own.
    pub(crate) fn raw(&self, text: &str) {
        let mut out = self.lock();
        out.clear_status();
        let _closed = out
            .results
            .write_all(text.as_bytes())
            .and_then(|()| out.results.flush());
    }

    /// Shows what is going on now, in place of the previous status; nothing where that is not possible. What is longer
    /// than the line is cut off by the terminal, so that the next one can take its place.
    pub(crate) fn status(&self, text: &str) {
        if !self.live {
            return;
        }
        let mut out = self.lock();
        out.status = true;
        let _closed =
            write!(out.results, "\r\x1b[2K\x1b[?7l{text}\x1b[?7h").and_then(|()| out.results.flush());
    }

    /// Takes the status away.
    pub(crate) fn clear_status(&self) {
        let mut out = self.lock();
        out.clear_status();
        let _closed = out.results.flush();
    }

    /// Writes a line to standard error.
    pub(crate) fn complain(&self, text: &str) {
        let mut out = self.lock();
        out.clear_status();
        let _closed = writeln!(out.complaints, "{text}");
    }

    fn lock(&self) -> MutexGuard<'_, Out> {
        // A panic in the middle of a line leaves at worst half a line.
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Out {
    fn clear_status(&mut self) {
        if self.status {
            self.status = false;
            let _closed = write!(self.results, "\r\x1b[2K");
        }
    }
}

/// Text from outside as one line that cannot steer the terminal: control characters become `\u{…}`.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Text of several lines from outside, with the line breaks kept and every other control character made visible.
pub(crate) fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// Rows under headings, columns as wide as their widest cell; numbers to the right.
pub(crate) fn columns(header: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let width = |i: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(i))
            .map(|cell| cell.chars().count());
        cells.chain([header[i].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let is_number =
        |cell: &str| cell.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '<' | '–'));
    let to_right: Vec<bool> = (0..header.len())
        .map(|i| {
            i > 0
                && rows
                    .iter()
                    .filter_map(|row| row.get(i))
                    .all(|cell| is_number(cell))
        })
        .collect();
    let render = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (i, cell) in cells.take(header.len()).enumerate() {
            let padding = " ".repeat(widths[i].saturating_sub(cell.chars().count()));
            let (left, right) = if to_right[i] {
                (padding.as_str(), "")
            } else {
                ("", padding.as_str())
            };
            let gap = if i == 0 { "" } else { "  " };
            line.extend([gap, left, cell, right]);
        }
        line.truncate(line.trim_end().len());
        line
    };
    let head = render(&mut header.iter().copied());
    let body = rows.iter().map(|row| render(&mut row.iter().map(String::as_str)));
    std::iter::once(head).chain(body).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;

    /// What a terminal wrote.
    #[derive(Clone, Default)]
    pub(crate) struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Screen {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    struct ClosedPipe;

    impl Write for ClosedPipe {
        fn write(&mut self, _bytes: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_terminal_gets_a_status_line_that_goes_before_results() {
        let screen = Screen::default();
        let terminal = Terminal::new(Box::new(screen.clone()), Box::new(std::io::sink()), true, true);
        terminal.status("1 row");
        terminal.line(&terminal.paint(Style::Red, "drift"));
        assert_eq!(
            screen.text(),
            "\r\x1b[2K\x1b[?7l1 row\x1b[?7h\r\x1b[2K\x1b[31mdrift\x1b[0m\n"
        );
    }

    #[test]
    fn elsewhere_there_are_only_plain_lines() {
        let screen = Screen::default();
        let terminal = Terminal::new(Box::new(screen.clone()), Box::new(std::io::sink()), false, false);
        terminal.status("1 row");
        terminal.line(&terminal.paint(Style::Red, "drift"));
        assert_eq!(screen.text(), "drift\n");
    }

    #[test]
    fn a_closed_pipe_is_not_an_error() {
        let terminal = Terminal::new(Box::new(ClosedPipe), Box::new(ClosedPipe), false, true);
        terminal.status("1 row");
        terminal.line("one");
        terminal.complain("two");
    }

    #[test]
    fn text_from_outside_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(printable_lines("a\x07\n\nb"), "a\\u{7}\n\nb");
    }

    #[test]
    fn numbers_stand_to_the_right_under_their_heading() {
        let rows = [
            vec!["tenure".to_owned(), "0.5".to_owned()],
            vec!["Contract".to_owned(), "12.25".to_owned()],
        ];
        assert_eq!(
            columns(&["column", "psi"], &rows),
            ["column      psi", "tenure      0.5", "Contract  12.25"]
        );
    }
}
