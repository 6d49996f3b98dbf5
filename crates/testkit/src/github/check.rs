//! What the service refuses of a body.

use serde_json::{Value, json};

use super::refused;
use super::state::Workflow;
use crate::predictor::Reply;

/// Characters of a body.
const MAX_BODY: usize = 65_536;
/// Characters of a title.
const MAX_TITLE: usize = 256;
/// Characters of a label.
const MAX_LABEL: usize = 50;
/// Inputs of a dispatch.
const MAX_INPUTS: usize = 25;

/// A new issue.
pub(super) fn issue(body: &Value) -> Result<(), Box<Reply>> {
    let title = match &body["title"] {
        Value::String(title) if !title.trim().is_empty() => title,
        Value::String(_) | Value::Null => return Err(missing("Issue", "title")),
        _ => return Err(wrong_type("title", "string")),
    };
    if title.chars().count() > MAX_TITLE {
        return Err(too_long("Issue", "title", MAX_TITLE));
    }
    match &body["body"] {
        Value::String(text) if text.chars().count() > MAX_BODY => {
            return Err(too_long("Issue", "body", MAX_BODY));
        }
        Value::Null | Value::String(_) => {}
        _ => return Err(wrong_type("body", "string")),
    }
    if body["labels"].is_null() {
        return Ok(());
    }
    labels(body).map(drop)
}

/// The names of `labels`.
pub(super) fn labels(body: &Value) -> Result<Vec<String>, Box<Reply>> {
    let items = body["labels"]
        .as_array()
        .ok_or_else(|| wrong_type("labels", "array"))?;
    let mut names = Vec::new();
    for item in items {
        let name = item.as_str().or_else(|| item["name"].as_str());
        let name = name.ok_or_else(|| wrong_type("labels", "string"))?;
        if name.is_empty() || name.chars().count() > MAX_LABEL {
            return Err(invalid(
                "Label",
                "name",
                "name is too long (maximum is 50 characters)",
            ));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

/// The text of a comment.
pub(super) fn comment(body: &Value) -> Result<String, Box<Reply>> {
    match &body["body"] {
        Value::String(text) if text.trim().is_empty() => Err(missing("IssueComment", "body")),
        Value::String(text) if text.chars().count() > MAX_BODY => {
            Err(too_long("IssueComment", "body", MAX_BODY))
        }
        Value::String(text) => Ok(text.clone()),
        Value::Null => Err(missing("IssueComment", "body")),
        _ => Err(wrong_type("body", "string")),
    }
}

/// A dispatch of `workflow`, whose branches are `refs`.
pub(super) fn dispatch(body: &Value, workflow: &Workflow, refs: &[&str]) -> Result<(), Box<Reply>> {
    let fields = body
        .as_object()
        .ok_or_else(|| refused(400, "Problems parsing JSON", &Value::Null))?;
    if let Some(name) = fields
        .keys()
        .find(|name| !matches!(name.as_str(), "ref" | "inputs" | "return_run_details"))
    {
        let message = format!("Invalid request.\n\n\"{name}\" is not a permitted key.");
        return Err(refused(422, &message, &Value::Null));
    }
    let Some(git_ref) = body["ref"].as_str() else {
        let message = "Invalid request.\n\n\"ref\" wasn't supplied.";
        return Err(refused(422, message, &Value::Null));
    };
    let short = git_ref.strip_prefix("refs/heads/").unwrap_or(git_ref);
    if !refs.contains(&short) {
        return Err(refused(
            422,
            &format!("No ref found for: {git_ref}"),
            &Value::Null,
        ));
    }
    let inputs = match &body["inputs"] {
        Value::Null => return Ok(()),
        Value::Object(inputs) => inputs,
        _ => return Err(wrong_type("inputs", "object")),
    };
    if inputs.len() > MAX_INPUTS {
        return Err(refused(422, "Too many inputs", &Value::Null));
    }
    let unexpected: Vec<&str> = inputs
        .keys()
        .map(String::as_str)
        .filter(|name| !workflow.inputs.iter().any(|known| known == name))
        .collect();
    if unexpected.is_empty() {
        return Ok(());
    }
    let message = format!("Unexpected inputs provided: {unexpected:?}");
    Err(refused(422, &message, &Value::Null))
}

fn missing(resource: &str, field: &str) -> Box<Reply> {
    let errors = json!([{"resource": resource, "code": "missing_field", "field": field}]);
    refused(422, "Validation Failed", &errors)
}

fn too_long(resource: &str, field: &str, max: usize) -> Box<Reply> {
    let message = format!("{field} is too long (maximum is {max} characters)");
    invalid(resource, field, &message)
}

fn invalid(resource: &str, field: &str, message: &str) -> Box<Reply> {
    let errors = json!([{"resource": resource, "code": "custom", "field": field, "message": message}]);
    refused(422, "Validation Failed", &errors)
}

fn wrong_type(field: &str, expected: &str) -> Box<Reply> {
    let message =
        format!("Invalid request.\n\nFor 'properties/{field}', the value is not of type {expected}.");
    refused(422, &message, &Value::Null)
}
