//! A small HTTP client with a deadline and a bound on what it reads.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the answer is longer than {0} bytes")]
    TooLarge(usize),
    #[error("{0}")]
    Transport(String),
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Connections are kept for the next request. Redirects are not followed: a key must not travel to another host.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl HttpClient {
    pub(crate) fn new() -> Self {
        let connector = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .build();
        Self(Client::builder(TokioExecutor::new()).build(connector))
    }

    /// Sends `request` and reads its answer, both within `timeout` and `max_bytes`.
    ///
    /// # Errors
    /// [`HttpError`]; any status is an answer.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
        max_bytes: usize,
    ) -> Result<Answer, HttpError> {
        let exchange = async {
            let response = self.0.request(request).await.map_err(|error| transport(&error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, max_bytes).collect().await.map_err(|error| {
                if error.is::<http_body_util::LengthLimitError>() {
                    HttpError::TooLarge(max_bytes)
                } else {
                    transport(error.as_ref())
                }
            })?;
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body: body.to_bytes(),
            })
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or(Err(HttpError::Timeout(timeout)))
    }

    /// Sends `request` and keeps the last `keep` bytes of its answer, with the number of bytes before them. More than
    /// `max_bytes` are not read.
    ///
    /// # Errors
    /// [`HttpError`]; any status is an answer.
    pub(crate) async fn send_for_tail(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
        keep: usize,
        max_bytes: usize,
    ) -> Result<(Answer, u64), HttpError> {
        let exchange = async {
            let response = self.0.request(request).await.map_err(|error| transport(&error))?;
            let (head, mut body) = response.into_parts();
            let (mut kept, mut held, mut skipped) = (VecDeque::new(), 0, 0);
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame.map_err(|error| transport(&error))?.into_data() else {
                    continue;
                };
                held += data.len();
                kept.push_back(data);
                while held - kept[0].len() >= keep {
                    let first: Bytes = kept.pop_front().expect("it holds at least `keep` bytes more");
                    held -= first.len();
                    skipped += first.len();
                }
                if held + skipped > max_bytes {
                    return Err(HttpError::TooLarge(max_bytes));
                }
            }
            let answer = Answer {
                status: head.status,
                headers: head.headers,
                body: Vec::from(kept).concat().into(),
            };
            Ok((answer, skipped as u64))
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or(Err(HttpError::Timeout(timeout)))
    }

    /// Gets `uri` within the same bounds.
    ///
    /// # Errors
    /// [`HttpError`]; a status other than 200 is one, too.
    pub(crate) async fn get(
        &self,
        uri: Uri,
        timeout: Duration,
        max_bytes: usize,
    ) -> Result<Bytes, HttpError> {
        let request = Request::get(uri)
            .header(http::header::ACCEPT, "application/json")
            .body(Full::default())
            .map_err(|error| HttpError::Transport(error.to_string()))?;
        let answer = self.send(request, timeout, max_bytes).await?;
        if answer.status == StatusCode::OK {
            Ok(answer.body)
        } else {
            let said = crate::text::one_line(&String::from_utf8_lossy(&answer.body), 120);
            Err(HttpError::Transport(format!(
                "status {}: {said}",
                answer.status.as_u16()
            )))
        }
    }
}

/// The error with its causes: "client error (Connect)" alone helps nobody.
fn transport(error: &(dyn std::error::Error + 'static)) -> HttpError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    HttpError::Transport(text)
}

/// `base` with `path_and_query` appended to its path.
pub(crate) fn join(base: &Uri, path_and_query: &str) -> Result<Uri, HttpError> {
    let mut parts = base.clone().into_parts();
    let prefix = base.path().trim_end_matches('/');
    let joined = format!("{prefix}{path_and_query}").parse();
    parts.path_and_query = Some(joined.map_err(|error| HttpError::Transport(format!("{error}")))?);
    Uri::from_parts(parts).map_err(|error| HttpError::Transport(error.to_string()))
}

/// Percent-encodes a query parameter.
pub(crate) fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Scheme, host and port of a URL, the port as the scheme has it by default.
pub(crate) fn origin(uri: &Uri) -> Option<(String, String, u16)> {
    let scheme = uri.scheme_str()?;
    let default = if scheme == "https" { 443 } else { 80 };
    Some((
        scheme.to_owned(),
        uri.host()?.to_ascii_lowercase(),
        uri.port_u16().unwrap_or(default),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_below_a_prefix() {
        let base: Uri = "http://prometheus:9090/prom/".parse().expect("a URL");
        let uri = join(&base, &format!("/api/v1/query?query={}", encode("up{a=\"b\"}"))).expect("joined");
        assert_eq!(
            uri.to_string(),
            "http://prometheus:9090/prom/api/v1/query?query=up%7Ba%3D%22b%22%7D"
        );
    }

    #[test]
    fn an_origin_has_its_default_port() {
        let origin_of = |text: &str| origin(&text.parse().expect("a URL"));
        assert_eq!(origin_of("http://A:80/x"), origin_of("http://a/y"));
        assert_ne!(origin_of("http://a:81/"), origin_of("http://a/"));
    }

    #[tokio::test]
    async fn a_refused_connection_says_so() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        drop(listener);
        let uri = format!("http://{address}/").parse().expect("a URL");
        let error = HttpClient::new()
            .get(uri, Duration::from_secs(5), 10)
            .await
            .expect_err("refused");
        assert!(error.to_string().contains("refused"), "{error}");
    }
}
