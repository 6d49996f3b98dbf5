//! JSON Schemas of the findings, as sent to a provider: plain JSON Schema, every property required or optional as the
//! types have it, nothing else allowed.

use serde_json::{Value, json};

use super::FailureType;

/// Of [`super::IncidentFindings`].
pub(crate) fn incident() -> Value {
    object(
        &json!({
            "summary": text("What happens, to whom, since when; at most four sentences."),
            "root_causes": {
                "type": "array", "minItems": 1, "maxItems": 3,
                "description": "Most likely first.",
                "items": object(&json!({
                    "hypothesis": text("What is assumed to have happened."),
                    "confidence": confidence(),
                    "evidence": citations(),
                    "remediation": object(&json!({
                        "action": text("What to do if it is true."),
                        "command": text("Optional: one shell command that only reads."),
                        "risk": {"type": "string", "enum": ["low", "medium", "high"]},
                    }), &["action", "risk"]),
                }), &["hypothesis", "confidence", "evidence", "remediation"]),
            },
        }),
        &["summary", "root_causes"],
    )
}

/// Of [`super::DriftFindings`].
pub(crate) fn drift() -> Value {
    object(
        &json!({
            "summary": text("What changed, how much, since when; at most four sentences."),
            "kind": {"type": "string", "enum": ["data_drift", "concept_drift", "model_decay", "data_quality", "none"]},
            "confidence": confidence(),
            "affected": {
                "type": "array", "maxItems": 20,
                "description": "Features, outputs and segments, most affected first.",
                "items": object(&json!({
                    "subject": text("Name of the feature or output."),
                    "finding": text("How it changed, with numbers from the evidence."),
                    "evidence": citations(),
                }), &["subject", "finding", "evidence"]),
            },
            "causes": {
                "type": "array", "minItems": 1, "maxItems": 6,
                "description": "Most likely first.",
                "items": object(&json!({
                    "hypothesis": text("What is assumed to have happened."),
                    "confidence": confidence(),
                    "evidence": citations(),
                }), &["hypothesis", "confidence", "evidence"]),
            },
            "remediation": {
                "type": "array", "minItems": 1, "maxItems": 5,
                "items": object(&json!({
                    "action": {"type": "string", "enum": ["retrain", "rollback", "feature_engineering", "fix_upstream", "observe"]},
                    "rationale": text("Why, and how to check that it helped."),
                }), &["action", "rationale"]),
            },
            "urgency": {"type": "string", "enum": ["P0", "P1", "P2"]},
            "action_items": {"type": "array", "maxItems": 8, "items": text("Who should do what next.")},
        }),
        &[
            "summary",
            "kind",
            "confidence",
            "affected",
            "causes",
            "remediation",
            "urgency",
            "action_items",
        ],
    )
}

/// Of [`super::TriageFindings`].
pub(crate) fn triage() -> Value {
    let types: Vec<&str> = FailureType::ALL.iter().map(|kind| kind.as_str()).collect();
    let priority = json!({"type": "string", "enum": ["P0", "P1", "P2"]});
    object(
        &json!({
            "summary": text("What failed, where, and whose turn it is; at most four sentences."),
            "failure_type": {"type": "string", "enum": types},
            "confidence": confidence(),
            "findings": {
                "type": "array", "minItems": 1, "maxItems": 10,
                "description": "Most urgent first.",
                "items": object(&json!({
                    "title": text("The test, rule, package or step."),
                    "explanation": text("What it means, from the facts."),
                    "risk": text("What may happen in this repository if nobody acts."),
                    "fix": object(&json!({
                        "action": text("What to change."),
                        "file": text("Optional: path of the file to change, as a fact names it."),
                        "line": {"type": "integer", "minimum": 1, "description": "Optional: line of that file, as a fact names it."},
                    }), &["action"]),
                    "false_positive": object(&json!({
                        "verdict": {"type": "string", "enum": ["likely", "unlikely", "unclear"]},
                        "reason": text("Why."),
                    }), &["verdict", "reason"]),
                    "priority": priority,
                    "confidence": confidence(),
                    "evidence": citations(),
                }), &["title", "explanation", "risk", "fix", "false_positive", "priority", "confidence", "evidence"]),
            },
            "priority": priority,
        }),
        &["summary", "failure_type", "confidence", "findings", "priority"],
    )
}

fn object(properties: &Value, required: &[&str]) -> Value {
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn confidence() -> Value {
    json!({"type": "number", "minimum": 0, "maximum": 1})
}

fn citations() -> Value {
    let citation = object(
        &json!({
            "id": text("Id of a fact, such as E3."),
            "quote": text("A few words copied from that fact, without the line number."),
        }),
        &["id"],
    );
    json!({"type": "array", "maxItems": 8, "items": citation})
}
