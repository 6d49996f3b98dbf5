//! What a workflow's step gets of a command: its summary, and an output named `report` for later steps.

use std::path::PathBuf;

use plumbline_service::config::{Reader, Setting};

use crate::text::prefix;

/// Bytes that GitHub takes of all summaries of a step.
const MAX_SUMMARY: usize = 1 << 20;

pub(super) const SUMMARY: Setting = Setting::new(
    "step_summary",
    "FILE",
    "File that the report is added to as Markdown; GITHUB_STEP_SUMMARY is read too.",
)
.shared_variable("GITHUB_STEP_SUMMARY");
pub(super) const OUTPUT: Setting = Setting::new(
    "step_output",
    "FILE",
    "File that what is printed is added to as the output `report`; GITHUB_OUTPUT is read too.",
)
.shared_variable("GITHUB_OUTPUT");

/// Where both are, if they are.
pub(super) struct Step {
    summary: Option<PathBuf>,
    output: Option<PathBuf>,
}

impl Step {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            summary: reader.optional("step_summary"),
            output: reader.optional("step_output"),
        }
    }

    /// Adds a report to the summary.
    pub(super) fn summarise(&self, markdown: &str) -> Result<(), String> {
        let Some(file) = &self.summary else { return Ok(()) };
        summarise(file, markdown).map_err(|error| format!("{}: {error}", file.display()))
    }

    /// Makes `text` the step's output.
    pub(super) fn output(&self, text: &str) -> Result<(), String> {
        let Some(file) = &self.output else { return Ok(()) };
        output(file, text).map_err(|error| format!("{}: {error}", file.display()))
    }
}

/// Adds the output `report`, between two lines that no text can have: whoever wrote a log cannot end it and begin another.
fn output(file: &std::path::Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let delimiter = loop {
        let delimiter = format!("plumbline_{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        if !text.contains(&delimiter) {
            break delimiter;
        }
    };
    let text = prefix(text, MAX_SUMMARY);
    let mut file = std::fs::File::options().create(true).append(true).open(file)?;
    file.write_all(format!("report<<{delimiter}\n{text}\n{delimiter}\n").as_bytes())
}

/// Adds the report to the summary of a step, as much of it as GitHub still takes.
fn summarise(file: &std::path::Path, markdown: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::File::options().create(true).append(true).open(file)?;
    let written = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let left = MAX_SUMMARY.saturating_sub(written);
    let note = "\n\n… the rest was left out: a summary has at most 1 MiB.\n";
    let mut text = format!("{markdown}\n");
    if text.len() > left {
        let kept = prefix(&text, left.saturating_sub(note.len()));
        // Not in the middle of a line, where an open span would swallow the note.
        let kept = kept.rfind('\n').map_or("", |end| &kept[..end]);
        text = format!("{kept}{note}");
    }
    if text.len() <= left {
        file.write_all(text.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_added_to_and_never_too_long() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("summary.md");
        summarise(&file, "# first").expect("written");
        summarise(&file, &"line of the report\n".repeat(80_000)).expect("written");
        let text = std::fs::read_to_string(&file).expect("text");
        assert!(text.starts_with("# first\nline of") && text.len() <= MAX_SUMMARY);
        assert!(text.ends_with("at most 1 MiB.\n"));
        summarise(&file, &"more\n".repeat(100)).expect("nothing is written");
        assert!(std::fs::read_to_string(&file).expect("text") == text);
    }
}
