//! An attempt that gave no answer, with what decides about the next.

use std::time::Duration;

use http::{HeaderMap, Request};
use http_body_util::Full;

use super::ProviderError;
use crate::http::{Answer, HttpClient, HttpError};

/// Largest answer: far above what the output limit allows.
const MAX_BYTES: usize = 4 << 20;
/// Longest advised wait that is waited for; a longer one means "not now".
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// A failed attempt with what decides about the next.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: ProviderError,
    /// The output limit was reached.
    pub(super) cut: bool,
    pub(super) throttle: Option<Throttle>,
    /// No later request can succeed either: key, model, permission.
    pub(super) fatal: bool,
}

/// What a 429 advises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Throttle {
    /// Come back after this.
    Wait(Duration),
    /// So long that nobody waits for it.
    Pause(Duration),
    /// Not before the quota of the day is renewed.
    Day,
}

impl Throttle {
    /// Of an advised wait.
    pub(super) fn after(wait: Duration) -> Self {
        if wait > LONGEST_WAIT {
            Self::Pause(wait)
        } else {
            Self::Wait(wait)
        }
    }
}

impl From<ProviderError> for Failure {
    fn from(error: ProviderError) -> Self {
        Self {
            error,
            cut: false,
            throttle: None,
            fatal: false,
        }
    }
}

impl Failure {
    /// A request that no later one can better.
    pub(super) fn fatal(reason: impl Into<String>) -> Self {
        Self {
            fatal: true,
            ..ProviderError::Rejected(reason.into()).into()
        }
    }

    /// An answer that ended at the output limit.
    pub(super) fn cut(reason: impl Into<String>) -> Self {
        Self {
            cut: true,
            ..ProviderError::Empty(reason.into()).into()
        }
    }
}

/// Sends a request; any status is an answer.
pub(super) async fn exchange(
    http: &HttpClient,
    request: http::request::Builder,
    body: String,
    left: Duration,
) -> Result<Answer, Failure> {
    let request: Request<Full<bytes::Bytes>> = request
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::from(body))
        .map_err(|error| ProviderError::Rejected(error.to_string()))?;
    http.send(request, left, MAX_BYTES).await.map_err(|error| {
        Failure::from(match error {
            HttpError::Timeout(after) => ProviderError::Timeout(after),
            HttpError::TooLarge(_) => ProviderError::Empty(error.to_string()),
            HttpError::Transport(text) => ProviderError::Transport(text),
        })
    })
}

/// A key as a header that is never logged.
pub(super) fn secret_header(text: &str) -> Result<http::HeaderValue, Failure> {
    let mut value =
        http::HeaderValue::from_str(text).map_err(|_| Failure::fatal("the key is not a header value"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What `retry-after` advises, in seconds.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    seconds(headers.get(http::header::RETRY_AFTER)?.to_str().ok()?)
}

/// `38s`, `34.07s`, `900ms`, `38`.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let (number, scale) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let number: f64 = number.trim().parse().ok()?;
    Duration::try_from_secs_f64(number * scale).ok()
}
