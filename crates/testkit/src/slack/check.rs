//! What Slack refuses. Limits: <https://docs.slack.dev/reference/block-kit/blocks>, and the undocumented sum of all
//! blocks (slackapi/bolt-js#2509).

use serde_json::Value;

use super::CHANNEL;
use crate::predictor::Received;

/// Characters of all texts of a message's blocks together.
const MAX_ALL: usize = 13_200;

/// The body, which has to be JSON in UTF-8.
pub(super) fn json_body(request: &Received) -> Result<Value, String> {
    if request.header("content-type") != "application/json; charset=utf-8" {
        return Err("invalid_arguments: content-type".to_owned());
    }
    serde_json::from_slice(&request.body).map_err(|error| format!("invalid_json: {error}"))
}

/// Only the id of the channel is known, as it is to `chat.update` and `conversations.history`.
pub(super) fn channel(channel: &Value) -> Result<(), String> {
    if channel == CHANNEL {
        Ok(())
    } else {
        Err("channel_not_found".to_owned())
    }
}

/// A query parameter without its percent signs.
pub(super) fn decoded(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = (*first == b'%').then(|| tail.get(..2)).flatten();
        let byte = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Checks text, blocks and metadata of a message.
///
/// # Errors
/// The code of the error, and after a colon what is wrong.
pub fn check_message(body: &Value) -> Result<(), String> {
    known_only(
        body,
        &[
            "channel",
            "text",
            "blocks",
            "metadata",
            "thread_ts",
            "ts",
            "unfurl_links",
            "unfurl_media",
        ],
        "message",
    )
    .map_err(|problem| format!("invalid_arguments: {problem}"))?;
    let text = body["text"].as_str().unwrap_or_default();
    let blocks = body["blocks"].as_array().map(Vec::as_slice).unwrap_or_default();
    if text.is_empty() && blocks.is_empty() {
        return Err("no_text".to_owned());
    }
    if text.chars().count() > 40_000 {
        return Err("msg_too_long".to_owned());
    }
    if let Some(metadata) = body.get("metadata") {
        let named = metadata["event_type"]
            .as_str()
            .is_some_and(|name| !name.is_empty());
        if !named || !metadata["event_payload"].is_object() {
            return Err("invalid_metadata_format".to_owned());
        }
    }
    if blocks.len() > 50 {
        return Err(format!("invalid_blocks: {} blocks", blocks.len()));
    }
    let mut all = 0;
    let mut ids = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        check_block(block, &mut all, &mut ids)
            .map_err(|problem| format!("invalid_blocks: blocks[{index}]: {problem}"))?;
    }
    if all > MAX_ALL {
        return Err(format!("msg_blocks_too_long: {all} characters"));
    }
    Ok(())
}

fn check_block(block: &Value, all: &mut usize, ids: &mut Vec<String>) -> Result<(), String> {
    match block["type"].as_str() {
        Some("header") => {
            known_only(block, &["type", "text", "block_id"], "header")?;
            text(&block["text"], &["plain_text"], 150, all)
        }
        Some("section") => {
            known_only(
                block,
                &["type", "text", "fields", "accessory", "block_id"],
                "section",
            )?;
            let fields = block["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
            if block["text"].is_null() && fields.is_empty() {
                return Err("a section needs text or fields".to_owned());
            }
            if fields.len() > 10 {
                return Err(format!("{} fields", fields.len()));
            }
            if !block["text"].is_null() {
                text(&block["text"], &["plain_text", "mrkdwn"], 3_000, all)?;
            }
            fields
                .iter()
                .try_for_each(|field| text(field, &["plain_text", "mrkdwn"], 2_000, all))
        }
        Some("context") => {
            known_only(block, &["type", "elements", "block_id"], "context")?;
            let elements = list(block, 10)?;
            elements
                .iter()
                .try_for_each(|element| text(element, &["plain_text", "mrkdwn"], 3_000, all))
        }
        Some("actions") => {
            known_only(block, &["type", "elements", "block_id"], "actions")?;
            let elements = list(block, 25)?;
            elements.iter().try_for_each(|element| button(element, all, ids))
        }
        Some("divider") => known_only(block, &["type", "block_id"], "divider"),
        other => Err(format!("unsupported type {other:?}")),
    }
}

fn list(block: &Value, max: usize) -> Result<&[Value], String> {
    let elements = block["elements"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if elements.is_empty() || elements.len() > max {
        return Err(format!("{} elements, expected 1 to {max}", elements.len()));
    }
    Ok(elements)
}

fn button(element: &Value, all: &mut usize, ids: &mut Vec<String>) -> Result<(), String> {
    known_only(
        element,
        &["type", "text", "action_id", "url", "value", "style", "confirm"],
        "button",
    )?;
    if element["type"] != "button" {
        return Err(format!("unsupported element {}", element["type"]));
    }
    text(&element["text"], &["plain_text"], 75, all)?;
    let id = element["action_id"].as_str().unwrap_or_default().to_owned();
    if id.is_empty() || id.chars().count() > 255 || ids.contains(&id) {
        return Err(format!("action_id `{id}` is missing, too long or used twice"));
    }
    ids.push(id);
    for (name, max) in [("value", 2_000), ("url", 3_000)] {
        let length = element[name].as_str().map_or(0, |text| text.chars().count());
        if length > max {
            return Err(format!("{name} has {length} characters"));
        }
    }
    if !matches!(element["style"].as_str(), None | Some("primary" | "danger")) {
        return Err(format!("style {}", element["style"]));
    }
    let confirm = &element["confirm"];
    if confirm.is_null() {
        return Ok(());
    }
    known_only(confirm, &["title", "text", "confirm", "deny", "style"], "confirm")?;
    for (name, max) in [("title", 100), ("text", 300), ("confirm", 30), ("deny", 30)] {
        text(&confirm[name], &["plain_text"], max, all)?;
    }
    Ok(())
}

fn text(object: &Value, types: &[&str], max: usize, all: &mut usize) -> Result<(), String> {
    known_only(object, &["type", "text", "emoji", "verbatim"], "text")?;
    let kind = object["type"].as_str().unwrap_or_default();
    if !types.contains(&kind) {
        return Err(format!("text of type `{kind}`, expected {types:?}"));
    }
    if kind == "plain_text" && !object["verbatim"].is_null() {
        return Err("verbatim is for mrkdwn".to_owned());
    }
    let length = object["text"].as_str().map_or(0, |text| text.chars().count());
    if length == 0 || length > max {
        return Err(format!("a text has {length} characters, expected 1 to {max}"));
    }
    *all += length;
    Ok(())
}

fn known_only(value: &Value, fields: &[&str], of: &str) -> Result<(), String> {
    let object = value
        .as_object()
        .ok_or_else(|| format!("{of} is not an object"))?;
    match object.keys().find(|name| !fields.contains(&name.as_str())) {
        Some(name) => Err(format!("{of} has no field `{name}`")),
        None => Ok(()),
    }
}
