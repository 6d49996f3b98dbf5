//! Replies and errors of the Gemini API.

use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::ProviderError;
use crate::provider::failure::{Failure, Throttle, retry_after, seconds};
use crate::provider::model::Answer;
use crate::text::{one_line, sanitise};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reply {
    #[serde(default)]
    candidates: Vec<Candidate>,
    #[serde(default)]
    prompt_feedback: Option<PromptFeedback>,
    #[serde(default)]
    usage_metadata: Option<Usage>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    /// Thoughts included.
    #[serde(default)]
    total_token_count: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PromptFeedback {
    #[serde(default)]
    block_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    #[serde(default)]
    content: Option<Content>,
    /// Values that are added later must not break reading.
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Content {
    #[serde(default)]
    parts: Vec<Part>,
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    thought: bool,
}

impl Reply {
    /// Reads a 200's body.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Failure> {
        serde_json::from_slice(body).map_err(|error| {
            let text = format!("not an answer of the API: {error}");
            ProviderError::Unavailable(one_line(&text, 200)).into()
        })
    }

    /// The text of the first candidate, its parts joined, thoughts left out.
    pub(super) fn into_answer(self) -> Result<Answer, Failure> {
        if let Some(reason) = self.prompt_feedback.and_then(|feedback| feedback.block_reason) {
            return Err(ProviderError::Blocked(one_line(&sanitise(&reason), 60)).into());
        }
        let empty = |what: &str| Err(ProviderError::Empty(what.to_owned()).into());
        let Some(candidate) = self.candidates.into_iter().next() else {
            return empty("no candidates");
        };
        let reason = candidate.finish_reason.unwrap_or_else(|| "STOP".to_owned());
        let text: String = candidate
            .content
            .unwrap_or_default()
            .parts
            .into_iter()
            .filter(|part| !part.thought)
            .filter_map(|part| part.text)
            .collect();
        match reason.as_str() {
            "STOP" | "FINISH_REASON_UNSPECIFIED" if text.trim().is_empty() => empty("no text"),
            "STOP" | "FINISH_REASON_UNSPECIFIED" => Ok(Answer {
                text,
                tokens: self.usage_metadata.and_then(|usage| usage.total_token_count),
            }),
            "MAX_TOKENS" => Err(Failure::cut("cut at the output limit (MAX_TOKENS)")),
            other => empty(&format!("finish reason {}", one_line(&sanitise(other), 60))),
        }
    }
}

/// Reads an error: `{"error": {…}}`, the same in an array, or whatever a gateway wrote.
pub(super) fn failure(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = document
        .get(0)
        .unwrap_or(&document)
        .get("error")
        .cloned()
        .unwrap_or_default();
    let message = error["message"]
        .as_str()
        .map(|text| one_line(&sanitise(text), 200));
    let message = message.unwrap_or_else(|| "no message".to_owned());
    let text = format!("status {}: {message}", status.as_u16());
    match status.as_u16() {
        429 => Failure {
            throttle: throttle(&error, headers, &message),
            ..ProviderError::RateLimited(text).into()
        },
        408 | 500..=599 => ProviderError::Unavailable(text).into(),
        code => Failure {
            // A request that is too long says nothing about the next one; key, permission and model do.
            fatal: matches!(code, 401 | 403 | 404) || message.contains("API key"),
            ..ProviderError::Rejected(text).into()
        },
    }
}

fn throttle(error: &Value, headers: &HeaderMap, message: &str) -> Option<Throttle> {
    let details = error["details"].as_array().map(Vec::as_slice).unwrap_or_default();
    let per_day = details
        .iter()
        .flat_map(|detail| detail["violations"].as_array().into_iter().flatten())
        .any(|v| {
            let id = v["quotaId"].as_str().unwrap_or("");
            id.contains("PerDay") || id.contains("Daily")
        });
    if per_day || message.contains("limit: 0") {
        return Some(Throttle::Day);
    }
    let advised = details
        .iter()
        .find_map(|detail| seconds(detail["retryDelay"].as_str()?))
        .or_else(|| retry_after(headers))
        .or_else(|| {
            let rest = message.split_once("Please retry in ")?.1;
            seconds(rest.split_whitespace().next()?.trim_end_matches('.'))
        })?;
    Some(Throttle::after(advised))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn read(reply: &Value) -> Result<Answer, Failure> {
        Reply::parse(reply.to_string().as_bytes()).and_then(Reply::into_answer)
    }

    #[test]
    fn text_parts_are_joined_and_thoughts_left_out() {
        let reply = json!({"candidates": [{"content": {"parts": [
            {"text": "let me think", "thought": true}, {"text": "{\"a\""}, {"text": ": 1}"},
        ]}, "finishReason": "STOP"}], "somethingNew": 1, "usageMetadata": {"totalTokenCount": 42}});
        let answer = read(&reply).expect("an answer");
        assert_eq!((answer.text.as_str(), answer.tokens), ("{\"a\": 1}", Some(42)));
    }

    #[test]
    fn the_failures_of_http_200_have_names() {
        for (reply, expected, cut) in [
            (json!({}), "no candidates", false),
            (
                json!({"promptFeedback": {"blockReason": "JAILBREAK"}}),
                "blocked: JAILBREAK",
                false,
            ),
            (
                json!({"candidates": [{"finishReason": "STOP"}]}),
                "no text",
                false,
            ),
            (
                json!({"candidates": [{"content": {}, "finishReason": "MAX_TOKENS"}]}),
                "MAX_TOKENS",
                true,
            ),
            (
                json!({"candidates": [{"content": {"parts": [{"text": "{"}]}, "finishReason": "MAX_TOKENS"}]}),
                "MAX_TOKENS",
                true,
            ),
            (
                json!({"candidates": [{"content": {"parts": [{"text": "{}"}]}, "finishReason": "SOMETHING_NEW"}]}),
                "SOMETHING_NEW",
                false,
            ),
        ] {
            let failure = read(&reply).expect_err("a failure");
            assert!(failure.error.to_string().contains(expected), "{failure:?}");
            assert_eq!(failure.cut, cut);
        }
    }

    #[test]
    fn a_429_is_read_for_its_advice() {
        let read = |error: Value| {
            failure(
                StatusCode::TOO_MANY_REQUESTS,
                &HeaderMap::new(),
                error.to_string().as_bytes(),
            )
            .throttle
        };
        let with = |details: Value| json!({"error": {"code": 429, "message": "quota", "details": details}});
        assert_eq!(
            read(with(json!([{"retryDelay": "34.5s"}]))),
            Some(Throttle::Wait(Duration::from_millis(34_500)))
        );
        assert_eq!(
            read(with(json!([{"retryDelay": "900ms"}]))),
            Some(Throttle::Wait(Duration::from_millis(900)))
        );
        assert_eq!(
            read(with(json!([{"retryDelay": "3600s"}]))),
            Some(Throttle::Pause(Duration::from_hours(1)))
        );
        let daily =
            json!([{"violations": [{"quotaId": "GenerateRequestsPerDayPerProject"}]}, {"retryDelay": "1s"}]);
        assert_eq!(read(with(daily)), Some(Throttle::Day));
        assert_eq!(
            read(json!([{"error": {"message": "Please retry in 2.5s."}}])),
            Some(Throttle::Wait(Duration::from_millis(2_500)))
        );
        assert_eq!(read(json!("<html>")), None);
    }

    #[test]
    fn key_and_model_faults_are_final() {
        let read = |status, body: &str| {
            failure(
                StatusCode::from_u16(status).expect("a status"),
                &HeaderMap::new(),
                body.as_bytes(),
            )
        };
        assert!(read(404, r#"{"error": {"message": "models/x is not found"}}"#).fatal);
        assert!(read(400, r#"{"error": {"message": "API key not valid."}}"#).fatal);
        assert!(
            !read(
                400,
                r#"{"error": {"message": "The input token count (9) exceeds the maximum"}}"#
            )
            .fatal
        );
        assert!(matches!(
            read(502, "<html>Bad Gateway</html>").error,
            ProviderError::Unavailable(_)
        ));
    }
}
