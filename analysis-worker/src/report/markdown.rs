//! The report as Markdown, for terminals, files and issues.
//!
//! Text from outside cannot act here: words that a renderer would turn into a mention, a link, a reference or a
//! command stand in code spans, other markup is escaped, and facts stand in fences longer than any run of backticks
//! in them, with numbered lines.

use std::fmt::Write as _;

use super::{Citation, DriftFindings, Findings, IncidentFindings, Report, Risk, TriageFindings};
use crate::drift::whole_percent;

/// The whole report.
pub(crate) fn render(report: &Report) -> String {
    let mut page = brief(report);
    let _ = writeln!(page, "## Evidence\n");
    for fact in &report.evidence {
        let _ = writeln!(page, "### {} {}\n", fact.id, inline(&fact.title));
        let _ = writeln!(page, "{}\n", fenced(&fact.content));
    }
    if !report.analysis.notes.is_empty() {
        let _ = writeln!(page, "## What validation changed\n");
        for note in &report.analysis.notes {
            let _ = writeln!(page, "- {}", inline(note));
        }
        page.push('\n');
    }
    page
}

/// The report without the facts themselves, for places where people read other things, too.
pub(crate) fn brief(report: &Report) -> String {
    let mut page = String::with_capacity(8 * 1024);
    let subject = &report.incident;
    let _ = writeln!(page, "# {} {}\n", report.urgency.as_str(), inline(&subject.title));
    let model = subject
        .model
        .as_deref()
        .map_or_else(String::new, |model| format!(" · model {}", inline(model)));
    let _ = writeln!(
        page,
        "Incident {} · {}{model} · since {} · urgency {}: {}\n",
        subject.id,
        inline(&subject.kind),
        subject.started_at,
        report.urgency.as_str(),
        report.urgency.title()
    );
    let _ = writeln!(page, "{}\n", provenance(report));
    let _ = writeln!(page, "{}\n", inline(report.findings.summary()));
    match &report.findings {
        Findings::Incident(findings) => incident(&mut page, findings),
        Findings::Drift(findings) => drift(&mut page, findings),
        Findings::Triage(findings) => triage(&mut page, findings),
    }
    if !report.missing.is_empty() {
        let _ = writeln!(page, "## What could not be had\n");
        for missing in &report.missing {
            let _ = writeln!(page, "- {}: {}", missing.source.title(), inline(&missing.reason));
        }
        page.push('\n');
    }
    page
}

/// Who wrote it, in one sentence.
pub(crate) fn provenance(report: &Report) -> String {
    let analysis = &report.analysis;
    let revision = match report.revision {
        1 => String::new(),
        revision => format!(" Revision {revision}: a later signal was worse than the ones before it."),
    };
    let author = match (&analysis.model, &analysis.fallback) {
        (Some(model), None) => format!(
            "Analysis by {} ({}), checked against the evidence; confidence is capped by code.",
            analysis.provider,
            inline(model)
        ),
        (_, Some(reason)) => format!(
            "Offline analysis, from the evidence alone: no language model's answer was used ({}).",
            inline(reason)
        ),
        (None, None) => "Offline analysis, from the evidence alone: no language model was asked.".to_owned(),
    };
    format!("{author}{revision}")
}

fn incident(page: &mut String, findings: &IncidentFindings) {
    let _ = writeln!(page, "## Possible causes\n");
    for (rank, cause) in findings.root_causes.iter().enumerate() {
        let _ = writeln!(
            page,
            "{}. **{}** (confidence {}){}",
            rank + 1,
            inline(&cause.hypothesis),
            whole_percent(cause.confidence),
            citations(&cause.evidence)
        );
        let risk = match cause.remediation.risk {
            Risk::Low => "low",
            Risk::Medium => "medium",
            Risk::High => "high",
        };
        let _ = writeln!(
            page,
            "   - Do: {} (risk: {risk})",
            inline(&cause.remediation.action)
        );
        if let Some(command) = &cause.remediation.command {
            let _ = writeln!(page, "   - Look: {}", code(command));
        }
    }
    page.push('\n');
}

fn drift(page: &mut String, findings: &DriftFindings) {
    let _ = writeln!(
        page,
        "Kind: **{}** (confidence {})\n",
        findings.kind.title(),
        whole_percent(findings.confidence)
    );
    if !findings.affected.is_empty() {
        let _ = writeln!(page, "## Affected, most first\n");
        for affected in &findings.affected {
            let _ = writeln!(
                page,
                "- **{}**: {}{}",
                inline(&affected.subject),
                inline(&affected.finding),
                citations(&affected.evidence)
            );
        }
        page.push('\n');
    }
    let _ = writeln!(page, "## Possible causes\n");
    for (rank, cause) in findings.causes.iter().enumerate() {
        let _ = writeln!(
            page,
            "{}. {} (confidence {}){}",
            rank + 1,
            inline(&cause.hypothesis),
            whole_percent(cause.confidence),
            citations(&cause.evidence)
        );
    }
    let _ = writeln!(page, "\n## What to do\n");
    for remedy in &findings.remediation {
        let _ = writeln!(
            page,
            "- **{}**: {}",
            remedy.action.title(),
            inline(&remedy.rationale)
        );
    }
    if !findings.action_items.is_empty() {
        let _ = writeln!(page, "\n## Next steps\n");
        for item in &findings.action_items {
            let _ = writeln!(page, "- [ ] {}", inline(item));
        }
    }
    page.push('\n');
}

fn triage(page: &mut String, findings: &TriageFindings) {
    let _ = writeln!(
        page,
        "Failure: **{}** (confidence {})\n",
        findings.failure_type.title(),
        whole_percent(findings.confidence)
    );
    let _ = writeln!(page, "## Findings\n");
    for (rank, finding) in findings.findings.iter().enumerate() {
        let _ = writeln!(
            page,
            "{}. **{}** ({}, confidence {}){}",
            rank + 1,
            inline(&finding.title),
            finding.priority.as_str(),
            whole_percent(finding.confidence),
            citations(&finding.evidence)
        );
        let _ = writeln!(page, "   - What: {}", inline(&finding.explanation));
        let _ = writeln!(page, "   - Risk: {}", inline(&finding.risk));
        let _ = writeln!(
            page,
            "   - Fix: {}{}",
            inline(&finding.fix.action),
            place(finding.fix.file.as_deref(), finding.fix.line)
        );
        let _ = writeln!(
            page,
            "   - False positive? {}: {}",
            finding.false_positive.verdict.title(),
            inline(&finding.false_positive.reason)
        );
    }
    page.push('\n');
}

/// ` (in FILE:LINE)`.
fn place(file: Option<&str>, line: Option<u32>) -> String {
    match (file, line) {
        (None, _) => String::new(),
        (Some(file), None) => format!(" (in {})", code(file)),
        (Some(file), Some(line)) => format!(" (in {})", code(&format!("{file}:{line}"))),
    }
}

fn citations(citations: &[Citation]) -> String {
    if citations.is_empty() {
        return String::new();
    }
    let texts: Vec<String> = citations
        .iter()
        .map(|citation| match &citation.quote {
            Some(quote) => format!("{} {}", citation.id, code(quote)),
            None => citation.id.clone(),
        })
        .collect();
    format!(" [{}]", texts.join("; "))
}

/// Text from outside in a line of Markdown.
pub(crate) fn inline(text: &str) -> String {
    let words: Vec<String> = text.split_whitespace().map(word).collect();
    words.join(" ")
}

/// One word: in a code span when a renderer would act on it, escaped otherwise.
fn word(word: &str) -> String {
    let lower = word.to_ascii_lowercase();
    let reference = word
        .match_indices('#')
        .any(|(at, _)| word[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    let acts = word.contains('@')
        || lower.contains("://")
        || lower.contains("www.")
        || lower.contains("mailto:")
        || word.starts_with("::")
        || word.starts_with("##[")
        || word.starts_with('/')
        || reference;
    if acts {
        return code(word);
    }
    let mut escaped = String::with_capacity(word.len() + 4);
    for c in word.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '!' | '|' | '~' | '#' => {
                escaped.push('\\');
                escaped.push(c);
            }
            c => escaped.push(c),
        }
    }
    // A list, a heading underline or a numbered item begins with one of these.
    if escaped.starts_with(['-', '+', '=']) && escaped.chars().all(|c| matches!(c, '-' | '+' | '=')) {
        escaped.insert(0, '\\');
    }
    escaped
}

/// A code span that no run of backticks inside can end.
fn code(text: &str) -> String {
    let text = text.replace('\n', " ");
    let ticks = "`".repeat(longest_run(&text) + 1);
    if text.starts_with('`') || text.ends_with('`') {
        format!("{ticks} {text} {ticks}")
    } else {
        format!("{ticks}{text}{ticks}")
    }
}

/// A fenced block with numbered lines.
pub(crate) fn fenced(text: &str) -> String {
    let fence = "`".repeat(longest_run(text).max(2) + 1);
    format!("{fence}text\n{}{fence}", numbered(text))
}

/// Every line with its number and a bar, so that none can pass for a line of ours.
pub(crate) fn numbered(text: &str) -> String {
    let mut numbered = String::with_capacity(text.len() + 256);
    for (index, line) in text.lines().enumerate() {
        let _ = writeln!(numbered, "{}| {line}", index + 1);
    }
    numbered
}

fn longest_run(text: &str) -> usize {
    let mut longest = 0;
    let mut run = 0;
    for c in text.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_a_renderer_would_act_on_are_code() {
        for (text, expected) in [
            ("see @everyone now", "see `@everyone` now"),
            ("fixes #12 in acme/app#3", "fixes `#12` in `acme/app#3`"),
            ("at https://evil.example/x", "at `https://evil.example/x`"),
            ("::error file=app.py::owned", "`::error` file=app.py::owned"),
            ("/retrain now", "`/retrain` now"),
            ("![status](http://x)", "`![status](http://x)`"),
        ] {
            assert_eq!(inline(text), expected);
        }
    }

    #[test]
    fn markup_is_escaped() {
        assert_eq!(
            inline("<script>alert(1)</script> & **x** _y_"),
            "&lt;script&gt;alert(1)&lt;/script&gt; &amp; \\*\\*x\\*\\* \\_y\\_"
        );
        assert_eq!(inline("a | b\n---\n# Fake"), "a \\| b \\--- \\# Fake");
        assert_eq!(
            inline("<!-- incident-key: 0 -->"),
            "&lt;\\!-- incident-key: 0 --&gt;"
        );
    }

    #[test]
    fn a_fence_is_longer_than_any_run_inside() {
        let block = fenced("````\n```diff\n- x");
        assert_eq!(block, "`````text\n1| ````\n2| ```diff\n3| - x\n`````");
        assert_eq!(code("a``b"), "```a``b```");
        assert_eq!(code("`a"), "`` `a ``");
    }
}
