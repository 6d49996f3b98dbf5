//! What an answer says about the endpoint that gave it.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use plumbline_inference_protocol::GrpcCode;

/// What a full endpoint's answer counts as, in latency, when it does not say when to come back. Source: linkerd's load
/// biaser (5 s, at most 300 s): a replica that refuses at once is the fastest of all, and must not look so.
pub(crate) const PENALTY: Duration = Duration::from_secs(5);
const MAX_PENALTY: Duration = Duration::from_mins(5);

/// An answer, as far as balancing and health care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Good,
    /// It did its part, and the client got no success: what is asked for is wrong, or not there.
    Refused,
    /// It is full, for about this long: others are better, but it is not ill. Putting full endpoints out in an
    /// overload would only fill the rest.
    Full(Duration),
    Failed,
}

impl Outcome {
    /// Of the head of a REST answer.
    pub(crate) fn of_http(status: StatusCode, headers: &HeaderMap) -> Self {
        match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let seconds = text(headers, RETRY_AFTER.as_str()).and_then(|text| text.parse().ok());
                Self::full(seconds.map(Duration::from_secs))
            }
            // A method or version that it does not have is the request's fault.
            StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => Self::Refused,
            _ if status.is_server_error() => Self::Failed,
            _ if status.is_client_error() => Self::Refused,
            _ => Self::Good,
        }
    }

    /// Of the headers or trailers that hold a gRPC status.
    pub(crate) fn of_grpc(code: GrpcCode, headers: &HeaderMap) -> Self {
        match code {
            GrpcCode::Unavailable | GrpcCode::ResourceExhausted => {
                let pushback = text(headers, PUSHBACK).and_then(|text| text.parse().ok());
                Self::full(pushback.map(Duration::from_millis))
            }
            GrpcCode::Internal | GrpcCode::Unknown | GrpcCode::DataLoss => Self::Failed,
            GrpcCode::Ok => Self::Good,
            _ => Self::Refused,
        }
    }

    /// Whether the endpoint is not to blame for anything.
    pub(crate) fn is_well(self) -> bool {
        matches!(self, Self::Good | Self::Refused)
    }

    fn full(told: Option<Duration>) -> Self {
        Self::Full(told.unwrap_or(PENALTY).clamp(PENALTY, MAX_PENALTY))
    }
}

/// gRPC's form of `retry-after`, in milliseconds; negative forbids to retry (gRPC proposal A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Whether an endpoint forbids that its answer is followed by another attempt.
pub(crate) fn forbids_retry(headers: &HeaderMap) -> bool {
    text(headers, PUSHBACK).is_some_and(|text| text.starts_with('-'))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().expect("a name"), value.parse().expect("a value"))])
    }

    #[test]
    fn what_is_full_says_for_how_long_within_limits() {
        let of = |name, value| Outcome::of_http(StatusCode::TOO_MANY_REQUESTS, &headers(name, value));
        let seconds = |seconds| Outcome::Full(Duration::from_secs(seconds));
        assert_eq!(of("retry-after", "60"), seconds(60));
        assert_eq!(of("retry-after", "99999"), seconds(300));
        assert_eq!(of("retry-after", "0"), seconds(5));
        assert_eq!(of("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"), seconds(5));
        assert_eq!(of("x-other", "60"), seconds(5));
        let of = |value| Outcome::of_grpc(GrpcCode::Unavailable, &headers(PUSHBACK, value));
        assert_eq!(of("20000"), seconds(20));
        assert_eq!(of("-1"), seconds(5));
        assert!(forbids_retry(&headers(PUSHBACK, "-1")) && !forbids_retry(&headers(PUSHBACK, "10")));
    }

    #[test]
    fn what_the_client_did_is_not_held_against_the_endpoint() {
        let of = |status| Outcome::of_http(status, &HeaderMap::new());
        assert_eq!(of(StatusCode::BAD_REQUEST), Outcome::Refused);
        assert_eq!(of(StatusCode::NOT_IMPLEMENTED), Outcome::Refused);
        assert_eq!(of(StatusCode::INTERNAL_SERVER_ERROR), Outcome::Failed);
        assert_eq!(of(StatusCode::GATEWAY_TIMEOUT), Outcome::Failed);
        let of = |code| Outcome::of_grpc(code, &HeaderMap::new());
        assert_eq!(of(GrpcCode::InvalidArgument), Outcome::Refused);
        assert_eq!(of(GrpcCode::Internal), Outcome::Failed);
        assert_eq!(of(GrpcCode::Ok), Outcome::Good);
    }
}
