//! `x-request-timeout`: the time that a REST client gives a request, as gRPC clients do with `grpc-timeout`.

use std::time::Duration;

use http::header::{HeaderName, HeaderValue};

use crate::config::ParseSetting as _;

/// `x-request-timeout`: `250ms`, `1.5s`, or a plain number of seconds. The gateway forwards what is left of it.
pub const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");

/// The time that the header gives; nothing when it is not a time.
pub fn parse_request_timeout(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain {
        return Duration::try_from_secs_f64(text.parse().ok()?).ok();
    }
    Duration::parse_setting(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_or_are_seconds() {
        let parse = |text: &'static str| parse_request_timeout(&HeaderValue::from_static(text));
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse("2"), Some(Duration::from_secs(2)));
        assert_eq!(parse(" 1.5 "), Some(Duration::from_millis(1_500)));
        for bad in ["", "-1", "soon", "1.2.3", "5 parsecs"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
