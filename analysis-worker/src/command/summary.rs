//! The summary of a workflow's step, to which a command adds what it prints.

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

/// Where the summary is, if there is one.
pub(super) struct Summary(Option<PathBuf>);

impl Summary {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self(reader.optional("step_summary"))
    }

    /// Adds a report to it.
    pub(super) fn add(&self, markdown: &str) -> Result<(), String> {
        let Some(file) = &self.0 else { return Ok(()) };
        summarise(file, markdown).map_err(|error| format!("{}: {error}", file.display()))
    }
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
