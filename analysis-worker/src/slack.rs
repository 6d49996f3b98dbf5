//! Slack's Web API, as far as the worker needs it: messages, their updates, and finding its own again.

pub(crate) mod message;
pub(crate) mod mrkdwn;
pub(crate) mod signature;

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::config::SlackConfig;
use crate::http::{HttpClient, encode, join, origin};
use crate::text::{one_line, sanitise};

pub(crate) use message::Message;

/// Time for one call.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of one answer.
const MAX_ANSWER: usize = 4 << 20;
/// Pages of a channel's or a thread's history that are looked through for a message.
const MAX_PAGES: usize = 10;
/// Messages of one page: as many as Slack recommends.
const PER_PAGE: usize = 200;
/// `event_type` of the metadata by which a message is found again.
const EVENT_TYPE: &str = "plumbline_effect";

/// Why a call gave nothing; the message names the call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SlackError {
    /// No answer, or none that can be read. A message may have been posted all the same.
    #[error("Slack: {method}: {reason}")]
    NotSeen { method: &'static str, reason: String },
    /// Too many calls.
    #[error("Slack: {method}: rate limited")]
    Limited {
        method: &'static str,
        retry_after: Duration,
    },
    /// `ok: false`.
    #[error("Slack: {method}: {error}")]
    Refused { method: &'static str, error: String },
}

impl SlackError {
    /// Whether what was asked for may be done all the same.
    pub(crate) fn is_uncertain(&self) -> bool {
        match self {
            Self::NotSeen { .. } => true,
            // Slack says of these that some of the work may have been done.
            Self::Refused { error, .. } => matches!(error.as_str(), "internal_error" | "fatal_error"),
            Self::Limited { .. } => false,
        }
    }

    /// Whether the same call can only be refused again. What a person can mend in Slack is none of these: a channel that
    /// the app was not invited to, a token that was replaced.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::NotSeen { .. } | Self::Limited { .. } => false,
            Self::Refused { error, .. } => {
                error.starts_with("invalid_blocks")
                    || error.starts_with("msg_")
                    || matches!(
                        error.as_str(),
                        "no_text"
                            | "invalid_arguments"
                            | "invalid_metadata_format"
                            | "invalid_metadata_schema"
                            | "metadata_too_large"
                            | "message_not_found"
                            | "thread_not_found"
                            | "cant_update_message"
                            | "edit_window_closed"
                    )
            }
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Limited { retry_after, .. } => Some(*retry_after),
            Self::NotSeen { .. } | Self::Refused { .. } => None,
        }
    }
}

/// The client. Cloned freely.
#[derive(Clone)]
pub(crate) struct Slack {
    http: HttpClient,
    base: Uri,
    token: String,
}

impl std::fmt::Debug for Slack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slack")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

impl Slack {
    pub(crate) fn new(config: &SlackConfig, http: HttpClient) -> Self {
        Self {
            http,
            base: config.base_url.clone(),
            token: config.token.clone(),
        }
    }

    /// Posts a message, into a thread when `thread` is the `ts` of its first one. Returns its own `ts`.
    ///
    /// # Errors
    /// [`SlackError`]; look with [`Self::find`] before trying again after one that is uncertain.
    pub(crate) async fn post(
        &self,
        channel: &str,
        thread: Option<&str>,
        message: &Message,
        key: &str,
    ) -> Result<String, SlackError> {
        let mut body = message.body(channel);
        body["metadata"] = json!({"event_type": EVENT_TYPE, "event_payload": {"key": key}});
        body["unfurl_links"] = json!(false);
        body["unfurl_media"] = json!(false);
        if let Some(thread) = thread {
            body["thread_ts"] = json!(thread);
        }
        let method = "chat.postMessage";
        let answer = self.write(method, &body).await?;
        match answer["ts"].as_str() {
            Some(ts) => Ok(ts.to_owned()),
            None => Err(SlackError::NotSeen {
                method,
                reason: "the answer has no ts".to_owned(),
            }),
        }
    }

    /// Replaces the content of a message.
    ///
    /// # Errors
    /// [`SlackError`]; doing it twice does no harm.
    pub(crate) async fn update(&self, channel: &str, ts: &str, message: &Message) -> Result<(), SlackError> {
        // Without metadata, that of the message stays.
        let mut body = message.body(channel);
        body["ts"] = json!(ts);
        self.write("chat.update", &body).await?;
        Ok(())
    }

    /// The `ts` of our message with this key, posted since `since` (milliseconds since 1970) to the channel, or to a
    /// thread of it.
    ///
    /// # Errors
    /// [`SlackError`]; also when there are more messages than are looked through, and ours is not among the first.
    pub(crate) async fn find(
        &self,
        channel: &str,
        thread: Option<&str>,
        key: &str,
        since: i64,
    ) -> Result<Option<String>, SlackError> {
        let mut query = format!(
            "?channel={}&oldest={}&limit={PER_PAGE}&include_all_metadata=true",
            encode(channel),
            since.div_euclid(1000)
        );
        let method = match thread {
            Some(thread) => {
                let _ = write!(query, "&ts={}", encode(thread));
                "conversations.replies"
            }
            None => "conversations.history",
        };
        let mut cursor = String::new();
        for _ in 0..MAX_PAGES {
            let mut query = query.clone();
            if !cursor.is_empty() {
                let _ = write!(query, "&cursor={}", encode(&cursor));
            }
            let answer = self.read(method, &query).await?;
            let messages = answer["messages"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            let ours = messages.iter().find(|message| {
                let metadata = &message["metadata"];
                metadata["event_type"] == EVENT_TYPE && metadata["event_payload"]["key"] == key
            });
            if let Some(ts) = ours.and_then(|message| message["ts"].as_str()) {
                return Ok(Some(ts.to_owned()));
            }
            let next = answer["response_metadata"]["next_cursor"].as_str();
            cursor = next.map_or_else(String::new, str::to_owned);
            if cursor.is_empty() {
                return Ok(None);
            }
        }
        Err(SlackError::NotSeen {
            method,
            reason: format!("more than {MAX_PAGES} pages since the message may have been posted"),
        })
    }

    /// Answers somebody who pressed a button or gave a command, visible to nobody else. Only addresses of Slack are written
    /// to, and a failure is only logged: what was done is done.
    pub(crate) async fn respond(&self, url: &str, text: &str) {
        let hooks = Uri::from_static("https://hooks.slack.com");
        let url: Option<Uri> = url.parse().ok().filter(|url| {
            let of = origin(url);
            of.is_some() && [&hooks, &self.base].into_iter().any(|known| origin(known) == of)
        });
        let Some(url) = url else {
            tracing::warn!("Slack's response_url is not an address of Slack; nobody is answered");
            return;
        };
        let body = json!({"response_type": "ephemeral", "replace_original": false, "text": text});
        let request = Request::post(url)
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .body(Full::from(body.to_string()));
        let Ok(request) = request else { return };
        if let Err(error) = self.http.send(request, TIMEOUT, MAX_ANSWER).await {
            tracing::debug!(%error, "an answer to Slack did not arrive");
        }
    }

    async fn write(&self, method: &'static str, body: &Value) -> Result<Value, SlackError> {
        let request = Request::post(self.uri(method, "")?)
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .body(Full::from(body.to_string()));
        self.send(method, request).await
    }

    async fn read(&self, method: &'static str, query: &str) -> Result<Value, SlackError> {
        let request = Request::get(self.uri(method, query)?)
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .body(Full::default());
        self.send(method, request).await
    }

    fn uri(&self, method: &'static str, query: &str) -> Result<Uri, SlackError> {
        join(&self.base, &format!("/{method}{query}")).map_err(|error| SlackError::NotSeen {
            method,
            reason: error.to_string(),
        })
    }

    async fn send(
        &self,
        method: &'static str,
        request: http::Result<Request<Full<Bytes>>>,
    ) -> Result<Value, SlackError> {
        let not_seen = |reason: String| SlackError::NotSeen { method, reason };
        let request = request.map_err(|error| not_seen(error.to_string()))?;
        let answer = self.http.send(request, TIMEOUT, MAX_ANSWER).await;
        let answer = answer.map_err(|error| not_seen(error.to_string()))?;
        let limited = || SlackError::Limited {
            method,
            retry_after: wait(&answer.headers),
        };
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            return Err(limited());
        }
        if !answer.status.is_success() {
            return Err(not_seen(format!("status {}", answer.status.as_u16())));
        }
        let body: Value = serde_json::from_slice(&answer.body)
            .map_err(|error| not_seen(format!("the answer is not JSON: {error}")))?;
        if body["ok"] == true {
            return Ok(body);
        }
        let error = one_line(&sanitise(body["error"].as_str().unwrap_or("no reason told")), 200);
        match error.as_str() {
            "ratelimited" | "rate_limited" => Err(limited()),
            _ => Err(SlackError::Refused { method, error }),
        }
    }
}

/// What Slack asks for; a minute when it does not say.
fn wait(headers: &HeaderMap) -> Duration {
    let seconds = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Duration::from_secs(seconds.unwrap_or(60))
}

#[cfg(test)]
mod tests;
