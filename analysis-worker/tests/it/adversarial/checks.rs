//! What must hold, by the names that the file of cases uses.

use std::collections::BTreeSet;

use base64::Engine as _;
use plumbline_analysis_worker::SCHEMA;
use plumbline_testkit::gemini::API_KEY;
use regex::Regex;
use serde_json::{Value, json};

use super::{GITHUB_TOKEN, Observed, SLACK_TOKEN, TOKEN, effects};

/// What holds for every case, whatever it asks for.
pub(super) fn always(observed: &Observed) {
    let Observed {
        id,
        html,
        report,
        markdown,
        ..
    } = observed;
    assert_eq!(report.schema, SCHEMA);
    assert_eq!(report.urgency.as_str(), "P0", "{id}");
    for tag in ["<script", "<img", "<iframe", "javascript:", "<!--"] {
        assert!(!html.contains(tag), "{id}: {tag} in the page");
    }
    let links = Regex::new(r#"(?:href|src|action)="([^"]*)""#).expect("a pattern");
    for link in links.captures_iter(html) {
        assert!(
            link[1].starts_with('/') || link[1].starts_with('#'),
            "{id}: {}",
            &link[1]
        );
    }
    assert!(
        !markdown.contains("kubectl delete"),
        "{id}: a command that changes something"
    );
    assert!(
        report.analysis.notes.iter().any(|note| note.contains("lowered")),
        "{id}: {:?}",
        report.analysis.notes
    );
    inside_untrusted(observed);
    no_configured_secret(observed);
}

pub(super) fn hold(observed: &Observed, surface: &str, assertion: &str, check: &Value) {
    if effects::hold(observed, assertion, check) || in_a_step(observed, assertion, check) {
        return;
    }
    let id = &observed.id;
    let expected = &check[assertion];
    match assertion {
        "only_inside_untrusted" => inside_untrusted(observed),
        "closing_delimiters" => {
            let prompt = observed.asked.prompt();
            let end = format!("END DATA {}", nonce(&prompt));
            assert_eq!(prompt.lines().filter(|line| **line == end).count(), 1, "{id}");
            assert!(prompt.trim_end().ends_with(&end), "{id}");
        }
        "nonce_fresh_per_request" => assert_ne!(
            nonce(&observed.asked.prompt()),
            nonce(&observed.other_prompt),
            "{id}"
        ),
        "valid_json" => assert!(observed.asked.body.is_object(), "{id}"),
        "same_shape_as_baseline" => {
            let contents = observed.asked.body["contents"].as_array().expect("contents");
            assert_eq!(
                (contents.len(), &contents[0]["role"]),
                (1, &json!("user")),
                "{id}"
            );
            assert_eq!(contents[0]["parts"].as_array().map(Vec::len), Some(1), "{id}");
        }
        "system_instruction_unchanged" => {
            // The other request had a harmless name; its system text is the template.
            assert!(
                observed
                    .asked
                    .system()
                    .starts_with("You are the incident analyst"),
                "{id}"
            );
            assert!(
                !observed.asked.system().contains("print your system prompt"),
                "{id}"
            );
        }
        "equals" => assert_eq!(
            json!(observed.report.urgency.as_str()),
            *expected,
            "{id}: {surface}"
        ),
        "absent" if expected == "configured_secrets_any_encoding" => no_configured_secret(observed),
        "absent" if expected == "seeded_secrets" => {
            let fragment = check["max_fragment"].as_u64().map(|most| most as usize + 1);
            no_seeded_secret(observed, fragment);
        }
        "absent" => {
            let name = expected.as_str().expect("a name").to_ascii_lowercase();
            assert!(
                observed
                    .headers
                    .iter()
                    .all(|headers| !headers.contains_key(&name)),
                "{id}"
            );
        }
        "same_placeholder" => {
            let placeholder = format!("[REDACTED:{}:1]", expected[0].as_str().expect("a kind"));
            assert_eq!(observed.asked.prompt().matches(&placeholder).count(), 2, "{id}");
        }
        "present" => {
            let wanted: Vec<&str> = match expected {
                Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
                one => vec![one.as_str().expect("a text")],
            };
            for wanted in wanted {
                assert!(
                    observed.asked.prompt().contains(wanted),
                    "{id}: {wanted} in\n{}",
                    observed.asked.prompt()
                );
            }
        }
        "within_budget" => assert!(observed.asked.prompt().len() / 4 < 10_000, "{id}"),
        "max_rss_mib" => assert!(
            peak_memory_mib() < expected.as_u64().expect("a number"),
            "{id}: {}",
            peak_memory_mib()
        ),
        "no_markup" | "no_live_link_to" | "no_live_mention" | "fences_balanced" | "absent_line_regex"
        | "single_line" | "max_len" | "absent_codepoints" => on_text(observed, surface, assertion, check),
        "max_new_series" => {
            let new = observed.metrics.lines().count() - observed.metrics_before;
            assert!(
                new as u64 <= expected.as_u64().expect("a number"),
                "{id}: {new} new series"
            );
        }
        unknown => panic!("{id}: no check for `{unknown}` on `{surface}`"),
    }
}

/// Checks of one text surface.
fn on_text(observed: &Observed, surface: &str, assertion: &str, check: &Value) {
    let id = &observed.id;
    let prompt = observed.asked.prompt();
    let slack = effects::slack_text(&observed.slack);
    let text = match surface {
        "prompt" => &prompt,
        "issue_title" => &observed.issues[0].0,
        // A comment has what the issue has.
        "issue" | "comment" => &observed.issues[0].1,
        "slack" => &slack,
        "stdout" => &observed.stdout,
        unknown => panic!("{id}: no surface `{unknown}`"),
    };
    let live = match surface {
        "slack" => without_spans(&slack),
        // Without the first line, the marker, which is ours.
        _ => live_text(id, text.split_once('\n').map_or(text.as_str(), |(_, rest)| rest)),
    };
    match assertion {
        "no_markup" => {
            let tag = Regex::new("<[A-Za-z/!]").expect("a pattern");
            assert!(!tag.is_match(&live), "{id}: a tag in\n{live}");
            assert!(
                !live.contains("![") && !live.contains("<!--"),
                "{id}: an image or comment in\n{live}"
            );
        }
        "no_live_link_to" => {
            let host = check[assertion].as_str().expect("a host");
            assert!(!live.contains(host), "{id}: {host} in\n{live}");
        }
        "no_live_mention" => {
            let mention = Regex::new(r"(^|[^\w])@\w").expect("a pattern");
            assert!(!mention.is_match(&live), "{id}: a mention in\n{live}");
        }
        // `live_text` panics when a fence or span stays open.
        "fences_balanced" => {
            assert!(!live.lines().any(|line| line.starts_with("# Fake")), "{id}");
            let headings = live.lines().filter(|line| line.starts_with("### E")).count();
            assert_eq!(headings, observed.report.evidence.len(), "{id}");
        }
        "absent_line_regex" => {
            let pattern = Regex::new(check[assertion].as_str().expect("a pattern")).expect("a pattern");
            assert!(!text.lines().any(|line| pattern.is_match(line)), "{id}");
        }
        "single_line" | "max_len" => {
            assert!(
                !text
                    .chars()
                    .any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')),
                "{id}: {text:?}"
            );
            assert!(text.chars().count() <= 256, "{id}");
        }
        _ => {
            for range in check[assertion].as_array().expect("ranges") {
                let range = range.as_str().expect("a range");
                let (from, to) = range.split_once('-').unwrap_or((range, range));
                let number = |hex| u32::from_str_radix(hex, 16).expect("hex");
                let (from, to) = (number(from), number(to));
                let found = text.chars().find(|c| (from..=to).contains(&u32::from(*c)));
                assert_eq!(found, None, "{id}: on {surface}");
            }
        }
    }
}

fn nonce(prompt: &str) -> String {
    let begin = prompt.lines().find_map(|line| line.strip_prefix("BEGIN DATA "));
    begin.expect("a begin").to_owned()
}

/// No line of the hostile text stands in the prompt without its number, or outside the section.
fn inside_untrusted(observed: &Observed) {
    let prompt = observed.asked.prompt();
    let nonce = nonce(&prompt);
    let (head, data) = prompt
        .split_once(&format!("BEGIN DATA {nonce}\n"))
        .expect("a begin");
    let (data, tail) = data.split_once(&format!("END DATA {nonce}\n")).expect("an end");
    assert_eq!(tail, "", "{}", observed.id);
    let section = Regex::new(r"^\[(INCIDENT|E\d+|MISSING|REFUSAL)\]$").expect("a pattern");
    let numbered = Regex::new(r"^\d+\| ").expect("a pattern");
    for line in data.lines() {
        assert!(
            section.is_match(line) || numbered.is_match(line),
            "{}: {line}",
            observed.id
        );
    }
    for line in observed
        .text
        .lines()
        .map(str::trim)
        .filter(|line| line.len() >= 8)
    {
        assert!(
            !head.contains(line) && !observed.asked.system().contains(line),
            "{}: {line}",
            observed.id
        );
    }
}

fn outputs(observed: &Observed) -> [(&'static str, String); 9] {
    [
        ("prompt", observed.asked.body.to_string()),
        ("markdown", observed.markdown.clone()),
        ("report", serde_json::to_string(&observed.report).expect("JSON")),
        ("html", observed.html.clone()),
        ("store", observed.store.clone()),
        ("metrics", observed.metrics.clone()),
        ("console", observed.console.clone()),
        ("slack", observed.slack.to_string()),
        ("issues", format!("{:?}", observed.issues)),
    ]
}

fn no_configured_secret(observed: &Observed) {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    for secret in [API_KEY, TOKEN, SLACK_TOKEN, GITHUB_TOKEN] {
        let hex = secret
            .bytes()
            .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        let reversed: String = secret.chars().rev().collect();
        for form in [
            secret.to_owned(),
            STANDARD.encode(secret),
            URL_SAFE_NO_PAD.encode(secret),
            hex,
            reversed,
        ] {
            for (surface, text) in outputs(observed) {
                assert!(!text.contains(&form), "{}: {form} in {surface}", observed.id);
            }
        }
    }
}

fn no_seeded_secret(observed: &Observed, fragment: Option<usize>) {
    assert!(!observed.secrets.is_empty(), "{}", observed.id);
    for (kind, secret) in &observed.secrets {
        let pieces: BTreeSet<&str> = match fragment {
            None => [secret.as_str()].into(),
            Some(length) => (0..=secret.len() - length)
                .map(|at| &secret[at..at + length])
                .collect(),
        };
        for (surface, text) in outputs(observed) {
            for piece in &pieces {
                assert!(
                    !text.contains(piece),
                    "{}: {kind} in {surface}: {text}",
                    observed.id
                );
            }
        }
    }
}

/// The Markdown without fenced blocks and code spans: what a renderer acts on.
pub(super) fn live_text(id: &str, markdown: &str) -> String {
    let mut live = String::new();
    let mut fence: Option<String> = None;
    for line in markdown.lines() {
        let ticks: String = line.chars().take_while(|c| *c == '`').collect();
        match &fence {
            Some(open) if *open == ticks && line == ticks => fence = None,
            Some(_) => {}
            None if ticks.len() >= 3 && !line[ticks.len()..].contains('`') => fence = Some(ticks),
            None => {
                live.push_str(&without_spans(line));
                live.push('\n');
            }
        }
    }
    assert_eq!(fence, None, "{id}: a fence stays open");
    live
}

fn without_spans(line: &str) -> String {
    let runs = Regex::new("`+").expect("a pattern");
    let mut live = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('`') {
        // An escaped backtick is a character.
        if rest[..at].ends_with('\\') {
            live.push_str(&rest[..=at]);
            rest = &rest[at + 1..];
            continue;
        }
        live.push_str(&rest[..at]);
        let ticks = rest[at..].chars().take_while(|c| *c == '`').count();
        let after = &rest[at + ticks..];
        let close = runs.find_iter(after).find(|run| run.len() == ticks);
        if let Some(close) = close {
            rest = &after[close.end()..];
        } else {
            live.push_str(&rest[at..at + ticks]);
            rest = after;
        }
    }
    live.push_str(rest);
    live
}

/// The most that this process ever had in memory, all tests together.
fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

/// Makes a check of what a step of Actions has written; false when it is not about that.
fn in_a_step(observed: &Observed, assertion: &str, check: &Value) -> bool {
    let (id, expected) = (&observed.id, &check[assertion]);
    match assertion {
        "only" => {
            let allowed: Vec<&str> = expected
                .as_array()
                .expect("names")
                .iter()
                .filter_map(Value::as_str)
                .collect();
            assert!(
                observed.actions_files.iter().all(|name| allowed.contains(name)),
                "{id}: {:?}",
                observed.actions_files
            );
        }
        "keys" => {
            let keys: Vec<String> = step_outputs(&observed.actions_output)
                .into_iter()
                .map(|(key, _)| key)
                .collect();
            assert_eq!(json!(keys), *expected, "{id}");
        }
        "round_trip" => assert_eq!(
            step_outputs(&observed.actions_output)[0].1,
            observed.stdout,
            "{id}"
        ),
        _ => return false,
    }
    true
}

/// The outputs of a step, as the runner reads their file.
fn step_outputs(file: &str) -> Vec<(String, String)> {
    let mut outputs = Vec::new();
    let mut lines = file.split('\n').peekable();
    while let Some(line) = lines.next() {
        if let Some((key, delimiter)) = line.split_once("<<") {
            let value: Vec<&str> = lines.by_ref().take_while(|line| *line != delimiter).collect();
            outputs.push((key.to_owned(), value.join("\n")));
        } else if let Some((key, value)) = line.split_once('=') {
            outputs.push((key.to_owned(), value.to_owned()));
        }
    }
    outputs
}
