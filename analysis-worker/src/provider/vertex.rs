//! Access tokens for Vertex AI: of a service account's key, or of the metadata server of the machine.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::Request;
use http_body_util::Full;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::ProviderError;
use super::failure::Failure;
use crate::config::VertexEngine;
use crate::http::{HttpClient, encode, join};
use crate::text::{one_line, sanitise};

/// What the token is for.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// A token is not used any more so long before its end.
const EARLY: Duration = Duration::from_mins(1);
const MAX_BYTES: usize = 64 << 10;

/// Gets tokens and keeps each until it ends.
#[derive(Clone, Debug)]
pub(super) struct Tokens {
    engine: VertexEngine,
    http: HttpClient,
    kept: Arc<Mutex<Option<Token>>>,
}

struct Token {
    text: String,
    until: Instant,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").finish_non_exhaustive()
    }
}

/// A key file, as Google writes it.
#[derive(Deserialize)]
struct Account {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    client_email: String,
    #[serde(default)]
    private_key: String,
    #[serde(default)]
    private_key_id: String,
    #[serde(default)]
    token_uri: String,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    /// Seconds.
    expires_in: u64,
}

impl Tokens {
    pub(super) fn new(engine: VertexEngine, http: HttpClient) -> Self {
        Self {
            engine,
            http,
            kept: Arc::default(),
        }
    }

    /// A token that is good for a while.
    pub(super) async fn get(&self, left: Duration) -> Result<String, Failure> {
        if let Some(token) = &*self.kept.lock().unwrap_or_else(PoisonError::into_inner)
            && token.until > Instant::now()
        {
            return Ok(token.text.clone());
        }
        let request = match &self.engine.credentials {
            Some(path) => {
                let account = std::fs::read(path).map_err(|error| {
                    Failure::fatal(format!("{} (vertex_credentials): {error}", path.display()))
                })?;
                of_account(&account)?
            }
            None => self.of_machine()?,
        };
        let answer = self.http.send(request, left, MAX_BYTES).await;
        let answer = answer.map_err(|error| ProviderError::Transport(format!("access token: {error}")))?;
        let said = || one_line(&sanitise(&String::from_utf8_lossy(&answer.body)), 200);
        if answer.status.is_client_error() {
            let status = answer.status.as_u16();
            return Err(Failure::fatal(format!(
                "access token: status {status}: {}",
                said()
            )));
        }
        let answer: Answer = serde_json::from_slice(&answer.body)
            .map_err(|_| ProviderError::Unavailable(format!("access token: {}", said())))?;
        let lasts = Duration::from_secs(answer.expires_in).saturating_sub(EARLY);
        let token = Token {
            text: answer.access_token.clone(),
            until: Instant::now() + lasts,
        };
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(answer.access_token)
    }

    fn of_machine(&self) -> Result<Request<Full<bytes::Bytes>>, Failure> {
        let path = "/computeMetadata/v1/instance/service-accounts/default/token";
        let uri = join(&self.engine.metadata_url, path).map_err(|error| Failure::fatal(error.to_string()))?;
        Request::get(uri)
            .header("metadata-flavor", "Google")
            .body(Full::default())
            .map_err(|error| Failure::fatal(error.to_string()))
    }
}

/// The request for a token: RFC 7523, the account's assertion signed with its key.
fn of_account(file: &[u8]) -> Result<Request<Full<bytes::Bytes>>, Failure> {
    let fault = |problem: &str| Failure::fatal(format!("vertex_credentials: {problem}"));
    let account: Account =
        serde_json::from_slice(file).map_err(|error| fault(&format!("not a key file: {error}")))?;
    if account.kind != "service_account" {
        return Err(fault(&format!(
            "is of type `{}`, expected service_account",
            one_line(&account.kind, 40)
        )));
    }
    let uri: http::Uri = account
        .token_uri
        .parse()
        .map_err(|_| fault("token_uri is not a URL"))?;
    let is_local = uri
        .host()
        .is_some_and(|host| host == "127.0.0.1" || host == "localhost");
    if uri.scheme_str() != Some("https") && !is_local {
        return Err(fault("token_uri must be https"));
    }
    let now = jiff::Timestamp::now().as_second();
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": account.private_key_id});
    let claims = json!({
        "iss": account.client_email, "scope": SCOPE, "aud": account.token_uri, "iat": now, "exp": now + 3_600,
    });
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let key = pkcs8(&account.private_key).ok_or_else(|| fault("private_key is not a PKCS#8 key in PEM"))?;
    let key = RsaKeyPair::from_pkcs8(&key).map_err(|error| fault(&format!("private_key: {error}")))?;
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )
    .map_err(|_| fault("private_key cannot sign"))?;
    let assertion = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    let grant = encode("urn:ietf:params:oauth:grant-type:jwt-bearer");
    Request::post(uri)
        .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::from(format!("grant_type={grant}&assertion={assertion}")))
        .map_err(|error| fault(&error.to_string()))
}

/// The key in a PEM text.
fn pkcs8(pem: &str) -> Option<Vec<u8>> {
    let body = pem.split_once("-----BEGIN PRIVATE KEY-----")?.1;
    let body = body.split_once("-----END PRIVATE KEY-----")?.0;
    STANDARD.decode(body.split_whitespace().collect::<String>()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_key_is_named() {
        for (file, expected) in [
            ("{", "not a key file"),
            (
                r#"{"type": "authorized_user"}"#,
                "`authorized_user`, expected service_account",
            ),
            (
                r#"{"type": "service_account", "token_uri": "http://evil.example/"}"#,
                "must be https",
            ),
            (
                r#"{"type": "service_account", "token_uri": "https://a/", "private_key": "x"}"#,
                "not a PKCS#8 key",
            ),
        ] {
            let failure = of_account(file.as_bytes()).expect_err(expected);
            assert!(
                failure.fatal && failure.error.to_string().contains(expected),
                "{failure:?}"
            );
        }
    }
}
