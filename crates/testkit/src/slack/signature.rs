//! Signs as Slack does.

use std::fmt::Write as _;

use ring::hmac;

/// The value of `X-Slack-Signature` for a body that is sent at `timestamp` (seconds since 1970).
pub fn sign(secret: &str, timestamp: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut signed = format!("v0:{timestamp}:").into_bytes();
    signed.extend_from_slice(body);
    let mut signature = "v0=".to_owned();
    for byte in hmac::sign(&key, &signed).as_ref() {
        let _ = write!(signature, "{byte:02x}");
    }
    signature
}
