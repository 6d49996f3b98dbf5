//! What must hold of what was done outside.

use regex::Regex;
use serde_json::Value;

use super::Observed;
use super::checks::live_text;

/// Makes a check; false when it is not about effects.
pub(super) fn hold(observed: &Observed, assertion: &str, check: &Value) -> bool {
    let id = &observed.id;
    let expected = &check[assertion];
    match assertion {
        "no_call" => {
            assert_eq!(expected, "issue.close", "{id}");
            // An issue is closed by a change of it; nothing of ours changes one.
            let changes = observed.calls.iter().any(|call| call.starts_with("PATCH"));
            assert!(!changes, "{id}: {:?}", observed.calls);
        }
        "dispatch_workflow" => dispatched(observed, |dispatch| dispatch["workflow"] == "retrain.yml"),
        "dispatch_ref" => dispatched(observed, |dispatch| dispatch["ref"] == "main"),
        "dispatch_inputs" => dispatched(observed, |dispatch| {
            let inputs = dispatch["inputs"].as_object().expect("inputs");
            let incident = observed.report.incident.id.as_str();
            inputs.len() == 3 && inputs["model"] == "churn" && inputs["incident"] == incident
        }),
        "max_calls" => {
            let most = expected["workflow.dispatch"].as_u64().expect("a number");
            assert!(
                observed.dispatches.len() as u64 <= most,
                "{id}: {:?}",
                observed.dispatches
            );
        }
        // The marker that counts is the first thing in an issue, where no text from outside stands.
        "forged_marker_ignored" => {
            for (_, body) in &observed.issues {
                assert!(body.starts_with("<!-- plumbline:effect:"), "{id}: {body}");
                assert!(!live_text(id, body).contains("<!-- incident-key"), "{id}: {body}");
            }
        }
        "absent_regex" => {
            let text = slack_text(&observed.slack);
            let pattern = Regex::new(expected.as_str().expect("a pattern")).expect("a pattern");
            assert!(!pattern.is_match(&text), "{id}: {text}");
        }
        "escaped_once" => escaped_once(observed),
        _ => return false,
    }
    true
}

fn dispatched(observed: &Observed, holds: impl Fn(&Value) -> bool) {
    let Observed { id, dispatches, .. } = observed;
    assert!(!dispatches.is_empty(), "{id}: nothing was dispatched");
    assert!(dispatches.iter().all(holds), "{id}: {dispatches:?}");
}

/// Each of `&`, `<` and `>` is there as its entity, and read once it is what came in.
fn escaped_once(observed: &Observed) {
    let id = &observed.id;
    let text = slack_text(&observed.slack);
    let entity = Regex::new("&(amp|lt|gt);").expect("a pattern");
    let bare = entity.replace_all(&text, "");
    assert!(!bare.contains(['&', '<', '>']), "{id}: {text}");
    let read = text
        .replace('`', "")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&");
    let label = observed.text.trim_start_matches("service=");
    let label: Vec<&str> = label.split_whitespace().collect();
    assert!(read.contains(&label.join(" ")), "{id}: {label:?} in {read}");
}

/// Every text of a message that Slack reads as markup, without the link to the issue, which is ours.
pub(super) fn slack_text(body: &Value) -> String {
    fn collect(value: &Value, all: &mut String) {
        match value {
            Value::Object(fields) if fields.get("type").is_some_and(|kind| kind == "mrkdwn") => {
                all.push_str(fields["text"].as_str().expect("a text"));
                all.push('\n');
            }
            Value::Object(fields) => fields.values().for_each(|value| collect(value, all)),
            Value::Array(items) => items.iter().for_each(|value| collect(value, all)),
            _ => {}
        }
    }
    let mut all = format!("{}\n", body["text"].as_str().expect("a text"));
    collect(&body["blocks"], &mut all);
    let link = Regex::new(r"<https://github\.example/[^|>]*\|GitHub>").expect("a pattern");
    link.replace_all(&all, "").into_owned()
}
