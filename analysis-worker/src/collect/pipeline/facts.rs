//! How the facts about a run are written down.

use std::fmt::Write as _;

use crate::github::{Annotation, Comparison, Job, Repository, Run};
use crate::text::{one_line, prefix};
use crate::triage::Pipeline;

/// Jobs that are listed, failed ones first.
const MAX_LISTED: usize = 40;
/// Files that are listed.
const MAX_FILES: usize = 100;
/// Bytes of patches, all files together, and of one.
const MAX_PATCHES: usize = 12 << 10;
const MAX_PATCH: usize = 3 << 10;
/// Lines shown before and after the one that is named.
const AROUND: usize = 6;

/// A run with its jobs and the steps that failed.
pub(super) fn run(repository: &Repository, run: &Run, jobs: &[Job]) -> String {
    let mut text = String::new();
    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    let _ = writeln!(text, "repository: {repository}");
    let _ = writeln!(text, "workflow: {} ({})", or(&run.name), run.path);
    let _ = writeln!(
        text,
        "run: {}, number {}, attempt {}, {}, {}",
        run.id,
        run.run_number,
        run.run_attempt,
        run.event,
        run.conclusion
            .as_deref()
            .or(run.status.as_deref())
            .unwrap_or("unknown")
    );
    let _ = writeln!(text, "branch: {}", or(&run.head_branch));
    let _ = writeln!(text, "commit: {}", run.head_sha);
    let _ = writeln!(text, "title: {}", one_line(&run.display_title, 200));
    let _ = writeln!(text, "since: {}", run.started_at());
    let failed = jobs.iter().filter(|job| job.has_failed());
    let _ = writeln!(
        text,
        "jobs: {}, of which {} failed",
        jobs.len(),
        failed.clone().count()
    );
    let others = jobs.iter().filter(|job| !job.has_failed());
    for job in failed.chain(others).take(MAX_LISTED) {
        let conclusion = job.conclusion.as_deref().unwrap_or("not finished");
        let on = match (&job.runner_name, job.labels.join(", ")) {
            (Some(runner), labels) if !runner.is_empty() => format!(" on {runner} ({labels})"),
            (_, labels) => format!(" on {labels}"),
        };
        let _ = writeln!(text, "job {}: {conclusion}{on}", one_line(&job.name, 120));
        for step in job.steps.iter().filter(|step| step.has_failed()) {
            let _ = writeln!(
                text,
                "  step {} {}: {}, {} to {}",
                step.number,
                one_line(&step.name, 120),
                step.conclusion.as_deref().unwrap_or("unknown"),
                step.started_at.as_deref().unwrap_or("?"),
                step.completed_at.as_deref().unwrap_or("?")
            );
        }
    }
    text
}

/// Annotations, one line each.
pub(super) fn annotations(annotations: &[Annotation]) -> String {
    let lines: Vec<String> = annotations
        .iter()
        .map(|annotation| {
            let level = annotation.level.as_deref().unwrap_or("notice");
            let title = annotation
                .title
                .as_ref()
                .filter(|title| !title.is_empty())
                .map_or_else(String::new, |title| format!("{title}: "));
            let message = annotation.message.as_deref().unwrap_or_default();
            let said = one_line(&format!("{title}{message}"), 400);
            format!("{}:{} {level} {said}", annotation.path, annotation.start_line)
        })
        .collect();
    lines.join("\n")
}

/// What changed from the last green run to this one: files first, then patches, those of files that the tools name
/// before the others.
pub(super) fn changes(
    green: &Run,
    run: &Run,
    comparison: &Comparison,
    pipeline: &Pipeline,
) -> (String, String) {
    let title = format!(
        "since run {} of {}: {} commits, {} files",
        green.id,
        green.head_branch.as_deref().unwrap_or("unknown"),
        comparison.total_commits,
        comparison.files.len()
    );
    let mut text = format!(
        "from {} to {}\n",
        prefix(&green.head_sha, 12),
        prefix(&run.head_sha, 12)
    );
    for file in comparison.files.iter().take(MAX_FILES) {
        let _ = writeln!(
            text,
            "{} {} +{} -{}",
            file.status, file.filename, file.additions, file.deletions
        );
    }
    if comparison.files.len() > MAX_FILES {
        let _ = writeln!(text, "{} more files", comparison.files.len() - MAX_FILES);
    }
    let is_named = |name: &str| {
        let detections = pipeline.jobs.iter().flat_map(|job| &job.detections);
        detections
            .filter_map(|detection| detection.file.as_deref())
            .any(|file| file == name)
    };
    let mut files: Vec<_> = comparison.files.iter().collect();
    files.sort_by_key(|file| !is_named(&file.filename));
    let mut left = MAX_PATCHES;
    for file in files {
        let Some(patch) = &file.patch else { continue };
        let shown = prefix(patch, MAX_PATCH.min(left));
        if shown.is_empty() {
            break;
        }
        left -= shown.len();
        let _ = writeln!(text, "patch of {}:\n{shown}", file.filename);
        if shown.len() < patch.len() {
            let _ = writeln!(
                text,
                "… {} bytes of this patch left out",
                patch.len() - shown.len()
            );
        }
    }
    (title, text)
}

/// A line of the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    pub(super) file: String,
    pub(super) line: u32,
}

/// The places that the tools name for what failed, each once, at most `max`.
pub(super) fn places(pipeline: &Pipeline, max: usize) -> Vec<Excerpt> {
    let mut places: Vec<Excerpt> = Vec::new();
    for job in &pipeline.jobs {
        let named = job
            .detections
            .iter()
            .filter(|detection| detection.kind == job.classified.kind);
        for detection in named {
            let (Some(file), Some(line)) = (&detection.file, detection.line) else {
                continue;
            };
            let is_within = !file.starts_with('/') && !file.contains("..") && !file.contains("site-packages");
            let excerpt = Excerpt {
                file: file.clone(),
                line,
            };
            if is_within && places.len() < max && !places.contains(&excerpt) {
                places.push(excerpt);
            }
        }
    }
    places
}

/// The line with those around it, numbered; `None` when the text ends before it.
pub(super) fn excerpt(text: &str, line: u32) -> Option<String> {
    let wanted = usize::try_from(line).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    if wanted == 0 || wanted > lines.len() {
        return None;
    }
    let first = wanted.saturating_sub(AROUND).max(1);
    let last = (wanted + AROUND).min(lines.len());
    let mut shown = String::new();
    for number in first..=last {
        let mark = if number == wanted { '>' } else { ' ' };
        let _ = writeln!(shown, "{mark} {number}: {}", prefix(lines[number - 1], 400));
    }
    Some(shown)
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn an_excerpt_marks_the_line_and_keeps_to_the_file() {
        let lines: Vec<String> = (1..=20).map(|n| format!("line {n}")).collect();
        let text = lines.join("\n");
        let shown = excerpt(&text, 2).expect("there is one");
        assert!(
            shown.starts_with("  1: line 1\n> 2: line 2\n  3: line 3\n"),
            "{shown}"
        );
        assert_eq!(shown.lines().count(), 8);
        assert_eq!(excerpt(&text, 21), None);
        assert_eq!(excerpt(&text, 0), None);
    }
}
