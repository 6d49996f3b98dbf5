//! A postmortem in the words of a language model, held against the records.
//!
//! A lesson or an action without words that stand in a record is dropped, and so is a summary with a number that no record has.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Postmortem, Worded};
use crate::evidence::{Context, Source};
use crate::provider::Model;
use crate::provider::prompt::{Prompt, SYSTEM, section};
use crate::report::Citation;
use crate::report::validate::{CAP_QUOTED, Refused, cited, typed};
use crate::text::{one_line, sanitise};

const TASK: &str = include_str!("../../prompts/postmortem.v1.md").trim_ascii_end();
/// Lessons, and actions.
const MAX_ITEMS: usize = 6;
/// Characters of a summary or an item.
const MAX_TEXT: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    summary: String,
    lessons: Vec<Item>,
    actions: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    text: String,
    evidence: Vec<Citation>,
}

/// Asks `model` to word `postmortem`.
///
/// # Errors
/// Why it is told in the words of code alone.
pub(crate) async fn word(model: &Model, postmortem: &Postmortem) -> Result<Worded, String> {
    let records = records(postmortem);
    let nonce = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let prompt = Prompt::new(SYSTEM, |nonce| text(&records, nonce), &nonce);
    let answer = model
        .ask(&prompt, &schema(), model.deadline(), &mut 0)
        .await
        .map_err(|error| error.to_string())?;
    read(&answer, &records, model.name()).map_err(|error| {
        model.refused();
        error.to_string()
    })
}

/// What code wrote, as facts.
fn records(postmortem: &Postmortem) -> Context {
    let mut records = Context::default();
    let timeline: Vec<String> = postmortem
        .timeline
        .iter()
        .map(|entry| format!("{} {}", entry.at, entry.what))
        .collect();
    for (title, lines) in [
        ("timeline", &timeline),
        ("impact", &postmortem.impact),
        ("causes, as reported", &postmortem.causes),
        ("what went well", &postmortem.went_well),
        ("what did not", &postmortem.went_badly),
        ("actions so far", &postmortem.actions),
    ] {
        if !lines.is_empty() {
            records.add(Source::PastIncident, title, lines.join("\n"));
        }
    }
    records
}

fn text(records: &Context, nonce: &str) -> String {
    let mut text = format!("{TASK}\nBEGIN DATA {nonce}\n");
    for record in &records.evidence {
        section(
            &mut text,
            &record.id,
            &format!("{}\n{}", record.title, record.content),
        );
    }
    text.extend(["END DATA ", nonce, "\n"]);
    text
}

fn schema() -> Value {
    let items = json!({
        "type": "array", "maxItems": MAX_ITEMS,
        "items": {
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "evidence": {"type": "array", "maxItems": 4, "items": {
                    "type": "object",
                    "properties": {"id": {"type": "string"}, "quote": {"type": "string"}},
                    "required": ["id", "quote"],
                    "additionalProperties": false,
                }},
            },
            "required": ["text", "evidence"],
            "additionalProperties": false,
        },
    });
    json!({
        "type": "object",
        "properties": {"summary": {"type": "string"}, "lessons": items, "actions": items},
        "required": ["summary", "lessons", "actions"],
        "additionalProperties": false,
    })
}

fn read(answer: &str, records: &Context, model: &str) -> Result<Worded, Refused> {
    let answer: Answer = typed(answer.trim())?;
    let mut dropped = 0;
    let mut kept = |items: Vec<Item>| -> Vec<String> {
        let mut kept = Vec::new();
        for mut item in items.into_iter().take(MAX_ITEMS) {
            if cited(records, &mut item.evidence) < CAP_QUOTED {
                dropped += 1;
                continue;
            }
            let of: Vec<&str> = item
                .evidence
                .iter()
                .filter_map(|citation| citation.quote.as_deref())
                .collect();
            let text = one_line(&sanitise(&item.text), MAX_TEXT);
            kept.push(format!(
                "{text} (\u{201c}{}\u{201d})",
                of.join("\u{201d}, \u{201c}")
            ));
        }
        kept
    };
    let (lessons, actions) = (kept(answer.lessons), kept(answer.actions));
    let summary = one_line(&sanitise(&answer.summary), MAX_TEXT);
    let summary = Some(summary).filter(|summary| {
        let known = numbers(summary).all(|number| {
            records
                .evidence
                .iter()
                .any(|record| record.content.contains(number))
        });
        dropped += usize::from(!known);
        known
    });
    Ok(Worded {
        model: model.to_owned(),
        summary,
        lessons,
        actions,
        dropped,
    })
}

/// The numbers of a text.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_digit() || c == '.'))
        .map(|number| number.trim_matches('.'))
        .filter(|number| !number.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Context {
        let mut records = Context::default();
        records.add(
            Source::PastIncident,
            "timeline",
            "22:00 began: pod a\n22:15 rolled back, by ana",
        );
        records.add(Source::PastIncident, "impact", "It lasted 30 min.");
        records
    }

    #[test]
    fn what_no_record_says_is_dropped() {
        let answer = json!({
            "summary": "It lasted 30 min, until ana rolled back.",
            "lessons": [
                {"text": "A roll-back helped.", "evidence": [{"id": "E1", "quote": "rolled back, by ana"}]},
                {"text": "The database was slow.", "evidence": [{"id": "E1", "quote": "database slow"}]},
                {"text": "Nobody was on call.", "evidence": []},
            ],
            "actions": [{"text": "Alert sooner.", "evidence": [{"id": "E9", "quote": "22:00"}]}],
        });
        let worded = read(&answer.to_string(), &records(), "m").expect("worded");
        assert_eq!(worded.lessons, ["A roll-back helped. (“rolled back, by ana”)"]);
        assert_eq!((worded.actions.len(), worded.dropped), (0, 3));
        assert!(worded.summary.is_some());
    }

    #[test]
    fn a_summary_with_a_number_of_its_own_is_dropped() {
        let answer = json!({"summary": "4,000 customers saw errors.", "lessons": [], "actions": []});
        let worded = read(&answer.to_string(), &records(), "m").expect("worded");
        assert_eq!((worded.summary, worded.dropped), (None, 1));
        assert!(read("{}", &records(), "m").is_err());
    }
}
