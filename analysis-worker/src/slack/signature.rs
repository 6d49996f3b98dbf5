//! Slack signs what it sends: `v0=` and the HMAC-SHA256 of `v0:TIMESTAMP:BODY`.
//! Source: <https://docs.slack.dev/authentication/verifying-requests-from-slack>.

use ring::hmac;

/// Age in seconds from which a request is a repetition of somebody who has seen it.
const MAX_AGE: i64 = 5 * 60;

/// Why a request is not Slack's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Forged {
    #[error("X-Slack-Request-Timestamp or X-Slack-Signature is missing or malformed")]
    Malformed,
    #[error("the request is more than five minutes old, or from the future")]
    Stale,
    #[error("the signature does not fit")]
    Signature,
}

/// Checks a request. `now` is in seconds since 1970; comparing takes the same time for every guess.
///
/// # Errors
/// [`Forged`].
pub(crate) fn verify(
    secret: &str,
    timestamp: &str,
    signature: &str,
    body: &[u8],
    now: i64,
) -> Result<(), Forged> {
    let sent: i64 = timestamp.parse().map_err(|_| Forged::Malformed)?;
    let given = signature
        .strip_prefix("v0=")
        .and_then(bytes_of)
        .ok_or(Forged::Malformed)?;
    if now.abs_diff(sent) > MAX_AGE.unsigned_abs() {
        return Err(Forged::Stale);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut signed = format!("v0:{timestamp}:").into_bytes();
    signed.extend_from_slice(body);
    hmac::verify(&key, &signed, &given).map_err(|_| Forged::Signature)
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    (0..32)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of Slack's documentation.
    const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
    const AT: &str = "1531420618";
    const SIGNATURE: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
    const BODY: &[u8] = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow\
        &channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner\
        &command=%2Fwebhook-collect&text=\
        &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
        &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    const NOW: i64 = 1_531_420_618;

    #[test]
    fn the_example_of_the_documentation_fits() {
        assert_eq!(verify(SECRET, AT, SIGNATURE, BODY, NOW), Ok(()));
        assert_eq!(verify(SECRET, AT, SIGNATURE, BODY, NOW + 300), Ok(()));
    }

    #[test]
    fn anything_else_does_not() {
        for (secret, at, signature, body, now, expected) in [
            ("another", AT, SIGNATURE, BODY, NOW, Forged::Signature),
            (SECRET, AT, SIGNATURE, b"payload={}", NOW, Forged::Signature),
            (SECRET, "1531420619", SIGNATURE, BODY, NOW, Forged::Signature),
            (SECRET, AT, SIGNATURE, BODY, NOW + 301, Forged::Stale),
            (SECRET, AT, SIGNATURE, BODY, NOW - 301, Forged::Stale),
            (SECRET, "", SIGNATURE, BODY, NOW, Forged::Malformed),
            (SECRET, AT, "", BODY, NOW, Forged::Malformed),
            (SECRET, AT, "v0=a2114d57", BODY, NOW, Forged::Malformed),
            (SECRET, AT, &SIGNATURE[3..], BODY, NOW, Forged::Malformed),
        ] {
            assert_eq!(verify(secret, at, signature, body, now), Err(expected));
        }
    }
}
