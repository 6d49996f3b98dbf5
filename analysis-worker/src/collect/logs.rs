//! Log files of the parts: the tail of each, redacted, then cut down to the lines that tell most.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use plumbline_log_fitting::{Fitter, Line};

use super::Fact;
use crate::config::Sources;
use crate::redact::{Redaction, Redactor};
use crate::text::sanitise;

/// Bytes read from the end of one file.
const MAX_TAIL: u64 = 4 << 20;
/// Files looked at, the most recently written first.
const MAX_FILES: usize = 16;
/// Longest line that is redacted whole; of longer ones head and tail of half this length are kept. A secret that lies
/// across the cut is cut out with the middle when the line is clipped for showing.
const MAX_LINE: usize = 16 << 10;

/// What the files gave.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) facts: Vec<Fact>,
    pub(super) gaps: Vec<String>,
    pub(super) redactions: u64,
}

/// Reads on a blocking thread.
pub(super) async fn read(sources: Sources, started_at: i64, redactor: Redactor) -> Result<Found, String> {
    tokio::task::spawn_blocking(move || read_all(&sources, started_at, &redactor))
        .await
        .map_err(|error| format!("reading failed: {error}"))
}

fn read_all(sources: &Sources, started_at: i64, redactor: &Redactor) -> Found {
    let mut found = Found::default();
    let files = files(&sources.logs, &mut found.gaps);
    let budget = sources.log_budget / files.len().max(1);
    // One table for all files: the same value has the same number in each.
    let mut redaction = redactor.begin([]);
    for path in files {
        let (text, skipped) = match tail(&path) {
            Ok(tail) => tail,
            Err(error) => {
                found.gaps.push(format!("{}: {error}", path.display()));
                continue;
            }
        };
        let name = path.file_name().map_or_else(
            || path.display().to_string(),
            |name| name.to_string_lossy().into_owned(),
        );
        let log = Log {
            name,
            text,
            skipped,
            since: Some(sources.logs_since(started_at)),
        };
        match fit(log, budget, &mut redaction) {
            Ok(fact) => found.facts.push(fact),
            Err(gap) => found.gaps.push(gap),
        }
    }
    found.redactions = redaction.count();
    found
}

/// A log before it is cut down.
pub(super) struct Log {
    /// For people.
    pub(super) name: String,
    pub(super) text: String,
    /// Bytes before `text` that were not read.
    pub(super) skipped: u64,
    /// Lines that say that they are older are left out.
    pub(super) since: Option<i64>,
}

/// The lines that tell most, redacted, in a budget of tokens; why there are none.
pub(super) fn fit(log: Log, budget: usize, redaction: &mut Redaction) -> Result<Fact, String> {
    let Log {
        name,
        text,
        skipped,
        since,
    } = log;
    let (mut all, mut older) = (0, 0);
    let mut fitter = Fitter::new(None);
    for line in lines(&text, skipped, redaction) {
        all += 1;
        if line.at.is_none_or(|at| since.is_none_or(|since| at >= since)) {
            fitter.add(line);
        } else {
            older += 1;
        }
    }
    let fitted = fitter.fit(budget);
    if fitted.kept == 0 {
        return Err(if all == 0 {
            format!("{name}: is empty")
        } else {
            format!("{name}: {all} lines, none since the incident began")
        });
    }
    let mut notes = Vec::new();
    if skipped > 0 {
        notes.push(format!("the first {skipped} bytes of the file were not read"));
    }
    if older > 0 {
        notes.push(format!(
            "{older} lines are older than the incident and were left out"
        ));
    }
    for (template, count) in &fitted.left_out {
        notes.push(format!(
            "left out {count} times: {}",
            crate::text::one_line(template, 160)
        ));
    }
    Ok(Fact {
        title: format!(
            "log {name}: {} of {} lines, {} templates, {} errors",
            fitted.kept, fitted.lines, fitted.templates, fitted.errors
        ),
        content: format!("{}{}", fitted.text, notes.join("\n")),
    })
}

/// The lines of a log without secrets and without what a terminal would obey; `skipped` bytes of it were not read.
pub(crate) fn lines(text: &str, skipped: u64, redaction: &mut Redaction) -> Vec<Line> {
    let clean = redaction.text(&sanitise(&shorten(text, skipped)));
    let mut lines: Vec<Line> = Line::parse_all(&clean).collect();
    for line in &mut lines {
        line.bytes = line.bytes.saturating_add(cut_bytes(&line.text));
    }
    lines
}

/// The named files, and those of the named folders that look like logs.
fn files(paths: &[PathBuf], gaps: &mut Vec<String>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        match std::fs::read_dir(path) {
            Ok(entries) => files.extend(entries.flatten().map(|entry| entry.path()).filter(|path| {
                let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or("");
                path.is_file() && matches!(kind, "log" | "jsonl" | "ndjson")
            })),
            Err(error) => gaps.push(format!("{}: {error}", path.display())),
        }
    }
    let written = |path: &PathBuf| path.metadata().and_then(|meta| meta.modified()).ok();
    files.sort_by_key(|path| std::cmp::Reverse(written(path)));
    if files.len() > MAX_FILES {
        gaps.push(format!("{} more files were not read", files.len() - MAX_FILES));
        files.truncate(MAX_FILES);
    }
    files
}

/// The end of a file, and how many bytes come before it.
fn tail(path: &Path) -> std::io::Result<(String, u64)> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    let skipped = length.saturating_sub(MAX_TAIL);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(MAX_TAIL).read_to_end(&mut bytes)?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), skipped))
}

/// Keeps head and tail of lines that are too long to search, with a mark of what is gone between them.
fn shorten(text: &str, skipped: u64) -> String {
    let mut short = String::with_capacity(text.len());
    if skipped > 0 {
        short.push_str(&cut_mark(skipped as usize));
    }
    for line in text.split_inclusive('\n') {
        if line.len() <= MAX_LINE {
            short.push_str(line);
        } else {
            let from = line.ceil_char_boundary(line.len() - MAX_LINE / 2);
            let head = crate::text::prefix(line, MAX_LINE / 2);
            short.push_str(head);
            short.push_str(&cut_mark(from - head.len()));
            short.push_str(&line[from..]);
        }
    }
    short
}

fn cut_mark(bytes: usize) -> String {
    format!(" …[cut {bytes} bytes]… ")
}

/// What the marks in a line say is gone. A line that forges one only makes its own count wrong.
fn cut_bytes(line: &str) -> usize {
    line.split("…[cut ")
        .skip(1)
        .filter_map(|rest| rest.split_once(" bytes]")?.0.parse().ok())
        .fold(0, usize::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(logs: Vec<PathBuf>) -> Sources {
        Sources {
            logs,
            log_budget: 1_000,
            ..Sources::none()
        }
    }

    #[test]
    fn a_folder_is_searched_and_old_lines_are_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let begin: jiff::Timestamp = "2026-08-21T12:00:00Z".parse().expect("a time");
        let text = "2026-08-21T10:00:00Z ERROR yesterday's news\n2026-08-21T11:59:00Z ERROR reload failed for jo@example.org\n";
        std::fs::write(folder.path().join("server.log"), text).expect("written");
        std::fs::write(folder.path().join("notes.txt"), "ERROR not a log").expect("written");
        let sources = sources(vec![folder.path().to_owned(), folder.path().join("missing.log")]);
        let found = read_all(&sources, begin.as_millisecond(), &Redactor::new(&[], false));
        assert_eq!(found.facts.len(), 1, "{found:?}");
        let content = &found.facts[0].content;
        assert!(
            content.contains("2: 2026-08-21T11:59:00Z ERROR reload failed for [REDACTED:email:1]"),
            "{content}"
        );
        assert!(
            content.contains("1 lines are older") && !content.contains("yesterday"),
            "{content}"
        );
        assert!(found.gaps[0].contains("missing.log"), "{:?}", found.gaps);
        assert_eq!(found.redactions, 1);
    }

    #[test]
    fn only_the_end_of_a_huge_file_is_read_and_that_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("huge.log");
        let text = format!(
            "{}\nERROR true cause: checksum mismatch in shard 7\n",
            "A".repeat(10 << 20)
        );
        std::fs::write(&path, &text).expect("written");
        let found = read_all(&sources(vec![path]), 0, &Redactor::new(&[], false));
        let content = &found.facts[0].content;
        assert!(content.contains("checksum mismatch in shard 7"), "{content}");
        assert!(content.contains("…[cut 1048"), "{content}");
        assert!(content.len() < 4_000);
    }
}
