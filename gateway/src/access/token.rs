//! JSON Web Tokens (RFC 7519) in the compact form of RFC 7515: taken apart, not yet believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::access::refusal::Refusal;
use crate::access::signing_keys::Algorithm;

/// Largest credential. Tokens with many groups have a few KiB.
pub(crate) const MAX_CREDENTIAL_BYTES: usize = 16 << 10;

/// A token that says these things, if its signature is good.
#[derive(Debug)]
pub(crate) struct Token<'a> {
    pub(crate) algorithm: Algorithm,
    /// `kid`.
    pub(crate) key_id: Option<String>,
    pub(crate) claims: Map<String, Value>,
    /// What is signed.
    pub(crate) message: &'a [u8],
    pub(crate) signature: Vec<u8>,
}

/// Whether a credential has the form of a token: three parts between points.
pub(crate) fn is_token(credential: &[u8]) -> bool {
    credential.split(|byte| *byte == b'.').count() == 3
}

impl<'a> Token<'a> {
    /// Takes a credential of at most [`MAX_CREDENTIAL_BYTES`] apart.
    ///
    /// # Errors
    /// [`Refusal::Malformed`]; [`Refusal::Algorithm`] for a token without a signature, or with one that is not known.
    pub(crate) fn parse(credential: &'a [u8]) -> Result<Self, Refusal> {
        let mut parts = credential.split(|byte| *byte == b'.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::Malformed);
        };
        let message = &credential[..header.len() + 1 + claims.len()];
        let header = object(header)?;
        let text = |name: &str| match header.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Refusal::Malformed),
        };
        // RFC 7515 §4.1.11: what it names has to be understood, and nothing is.
        if header.contains_key("crit") {
            return Err(Refusal::Malformed);
        }
        let algorithm = text("alg")?.ok_or(Refusal::Malformed)?;
        Ok(Self {
            algorithm: Algorithm::named(algorithm).ok_or(Refusal::Algorithm)?,
            key_id: text("kid")?.cloned(),
            claims: object(claims)?,
            message,
            signature: decoded(signature)?,
        })
    }

    /// A claim that is a text.
    pub(crate) fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim)?.as_str()
    }

    /// A claim that is a time, in seconds since 1970 (`NumericDate`), rounded down; an error if it is something else.
    pub(crate) fn time(&self, claim: &str) -> Result<Option<i64>, Refusal> {
        match self.claims.get(claim) {
            None => Ok(None),
            Some(value) => {
                let seconds = value.as_f64().ok_or(Refusal::Claims)?;
                Ok(Some(seconds.floor() as i64))
            }
        }
    }

    /// A claim that is a text or a list of texts: `aud`, groups. Empty if it is not there.
    pub(crate) fn texts(&self, claim: &str) -> Result<Vec<&str>, Refusal> {
        match self.claims.get(claim) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text]),
            Some(Value::Array(items)) => {
                let texts = items.iter().map(Value::as_str).collect::<Option<_>>();
                texts.ok_or(Refusal::Claims)
            }
            Some(_) => Err(Refusal::Claims),
        }
    }
}

fn decoded(part: &[u8]) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed)
}

fn object(part: &[u8]) -> Result<Map<String, Value>, Refusal> {
    serde_json::from_slice(&decoded(part)?).map_err(|_| Refusal::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part(header), part(claims), part("signature"))
    }

    #[test]
    fn a_token_is_taken_apart() {
        let text = token(
            r#"{"alg":"ES256","kid":"k"}"#,
            r#"{"sub":"ann","exp":12.9,"aud":["a","b"],"groups":"staff"}"#,
        );
        let token = Token::parse(text.as_bytes()).expect("a token");
        assert_eq!(
            (token.algorithm, token.key_id.as_deref()),
            (Algorithm::Es256, Some("k"))
        );
        assert_eq!(token.message, text.rsplit_once('.').expect("parts").0.as_bytes());
        assert_eq!(token.signature, b"signature");
        assert_eq!(token.text("sub"), Some("ann"));
        assert_eq!(token.time("exp"), Ok(Some(12)));
        assert_eq!(
            (token.time("nbf"), token.time("sub")),
            (Ok(None), Err(Refusal::Claims))
        );
        assert_eq!(token.texts("aud"), Ok(vec!["a", "b"]));
        assert_eq!(token.texts("groups"), Ok(vec!["staff"]));
        assert_eq!(token.texts("exp"), Err(Refusal::Claims));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let good = token(r#"{"alg":"ES256"}"#, "{}");
        for (text, refusal) in [
            (String::new(), Refusal::Malformed),
            ("a.b".to_owned(), Refusal::Malformed),
            (format!("{good}.more"), Refusal::Malformed),
            (format!("{good}="), Refusal::Malformed),
            (good.replacen('.', " .", 1), Refusal::Malformed),
            (token("[]", "{}"), Refusal::Malformed),
            (token("{}", "{}"), Refusal::Malformed),
            (token(r#"{"alg":7}"#, "{}"), Refusal::Malformed),
            (token(r#"{"alg":"ES256"}"#, "7"), Refusal::Malformed),
            (
                token(r#"{"alg":"ES256","crit":["exp"]}"#, "{}"),
                Refusal::Malformed,
            ),
            (token(r#"{"alg":"none"}"#, "{}"), Refusal::Algorithm),
            (token(r#"{"alg":"HS256"}"#, "{}"), Refusal::Algorithm),
            (token(r#"{"alg":"es256"}"#, "{}"), Refusal::Algorithm),
        ] {
            assert_eq!(Token::parse(text.as_bytes()).err(), Some(refusal), "{text}");
        }
    }
}
