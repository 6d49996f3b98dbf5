//! Why a call to GitHub gave nothing.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use crate::http::{Answer, HttpError};
use crate::signal::now;
use crate::text::{one_line, sanitise};

/// Wait of a rate limit that does not say how long; GitHub asks for at least a minute.
const UNSAID_WAIT: Duration = Duration::from_mins(1);

/// Why a call gave nothing; the message names the call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No answer. A write may have been performed all the same.
    #[error("GitHub: {call}: {reason}")]
    NotReached {
        /// Method and path.
        call: String,
        /// What happened.
        reason: String,
    },
    /// An answer that refuses.
    #[error("GitHub: {call}: status {}: {message}", status.as_u16())]
    Refused {
        /// Method and path.
        call: String,
        /// 4xx or 5xx.
        status: StatusCode,
        /// What GitHub says.
        message: String,
        /// How long to wait, of rate limits and of services that say so.
        retry_after: Option<Duration>,
    },
    /// An answer that says something else than what was asked for.
    #[error("GitHub: {call}: {problem}")]
    Answer {
        /// Method and path.
        call: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Error {
    pub(super) fn not_reached(call: String, source: &HttpError) -> Self {
        Self::NotReached {
            call,
            reason: source.to_string(),
        }
    }

    pub(super) fn answer(call: String, problem: impl AsRef<str>) -> Self {
        Self::Answer {
            call,
            problem: one_line(&sanitise(problem.as_ref()), 200),
        }
    }

    pub(super) fn refused(call: String, answer: &Answer) -> Self {
        let message = message(&answer.body);
        Self::Refused {
            call,
            status: answer.status,
            retry_after: retry_after(answer.status, &answer.headers, &message, now()),
            message,
        }
    }

    /// The status of the answer, if there was one that refuses.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::NotReached { .. } | Self::Answer { .. } => None,
        }
    }

    /// How long to wait before the next try, where GitHub says so or a rate limit is behind it.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::NotReached { .. } | Self::Answer { .. } => None,
        }
    }

    /// Whether the same call would be refused again: nobody has to try.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Refused {
                status, retry_after, ..
            } => {
                retry_after.is_none()
                    && status.is_client_error()
                    && !matches!(
                        *status,
                        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
                    )
            }
            Self::NotReached { .. } => false,
            Self::Answer { .. } => true,
        }
    }
}

/// What the body says: `message`, and of `errors` which field is wrong.
fn message(body: &[u8]) -> String {
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else {
        return one_line(&sanitise(&String::from_utf8_lossy(body)), 120);
    };
    let mut said = body["message"].as_str().unwrap_or("no message").to_owned();
    for error in body["errors"].as_array().into_iter().flatten().take(4) {
        let field = error["field"].as_str().unwrap_or_default();
        let problem = error["message"].as_str().or(error["code"].as_str());
        let problem = problem.or(error.as_str()).unwrap_or_default();
        said.push_str("; ");
        said.push_str(field);
        if !field.is_empty() {
            said.push_str(": ");
        }
        said.push_str(problem);
    }
    one_line(&sanitise(&said), 300)
}

/// The wait of a rate limit, primary or secondary, and of a service that says when to come again.
///
/// In the order of GitHub's documentation: `retry-after`; the reset, when nothing is left; a minute.
/// `now` is in milliseconds since 1970.
fn retry_after(status: StatusCode, headers: &HeaderMap, message: &str, now: i64) -> Option<Duration> {
    let number = |name: &str| -> Option<u64> { headers.get(name)?.to_str().ok()?.trim().parse().ok() };
    let limited = matches!(status, StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS);
    if !limited && !status.is_server_error() {
        return None;
    }
    if let Some(seconds) = number("retry-after") {
        return Some(Duration::from_secs(seconds));
    }
    if !limited {
        return None;
    }
    if number("x-ratelimit-remaining") == Some(0) {
        let reset = number("x-ratelimit-reset").unwrap_or(0);
        let now = u64::try_from(now / 1000).unwrap_or(0);
        return Some(Duration::from_secs(reset.saturating_sub(now).max(1)));
    }
    let said = message.to_ascii_lowercase();
    let is_limit = status == StatusCode::TOO_MANY_REQUESTS
        || said.contains("rate limit")
        || said.contains("abuse detection");
    is_limit.then_some(UNSAID_WAIT)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderValue;

    use super::*;

    fn refused(status: u16, headers: &[(&'static str, &str)], body: &str) -> Error {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_str(value).expect("a value"));
        }
        let answer = Answer {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: map,
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        Error::refused("GET /x".to_owned(), &answer)
    }

    #[test]
    fn rate_limits_pass_and_refusals_do_not() {
        let later = (now() / 1000 + 90).to_string();
        let primary = [
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", later.as_str()),
        ];
        for (error, permanent, wait) in [
            (refused(403, &primary, "{}"), false, Some(88..=90)),
            (refused(429, &[("retry-after", "7")], "{}"), false, Some(7..=7)),
            (
                refused(
                    403,
                    &[],
                    r#"{"message": "You have exceeded a secondary rate limit."}"#,
                ),
                false,
                Some(60..=60),
            ),
            (
                refused(
                    403,
                    &[("x-ratelimit-remaining", "4999")],
                    r#"{"message": "Resource not accessible"}"#,
                ),
                true,
                None,
            ),
            (refused(422, &[], "{}"), true, None),
            (refused(404, &[], "{}"), true, None),
            (refused(503, &[("retry-after", "3")], "{}"), false, Some(3..=3)),
            (refused(502, &[], "<html>"), false, None),
        ] {
            assert_eq!(error.is_permanent(), permanent, "{error}");
            match (error.retry_after(), wait) {
                (Some(told), Some(wait)) => assert!(wait.contains(&told.as_secs()), "{error}: {told:?}"),
                (told, wait) => assert!(told.is_none() && wait.is_none(), "{error}: {told:?}"),
            }
        }
    }

    #[test]
    fn a_message_names_call_status_and_field() {
        let body =
            r#"{"message": "Validation Failed", "errors": [{"field": "title", "code": "missing_field"}]}"#;
        assert_eq!(
            refused(422, &[], body).to_string(),
            "GitHub: GET /x: status 422: Validation Failed; title: missing_field"
        );
    }
}
