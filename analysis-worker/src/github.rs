//! The calls to GitHub's REST API that the worker makes: reads about failed runs, and comments, issues and dispatches.
//!
//! Works with github.com and GitHub Enterprise Server. Reads are tried again when the trouble may pass; writes are not,
//! since one whose answer was lost may have been performed: who writes looks for the marker of his text first.

mod body;
mod comments;
mod dispatch;
mod error;
mod issues;
mod model;
mod repository;
mod runs;

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LINK, LOCATION, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use comments::marker;
pub use error::Error;
pub(crate) use issues::NewIssue;
pub(crate) use model::{Annotation, Comparison, Job, Run};
pub use repository::Repository;

use crate::config::GitHubConfig;
use crate::http::{Answer, HttpClient, join, origin};

/// The version of the API that is spoken; Enterprise Server 3.9 and later know it.
const API_VERSION: &str = "2022-11-28";
/// Time for one call.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of one answer.
const MAX_ANSWER: usize = 8 << 20;
/// Pages of one list, of [`PER_PAGE`] items each.
const MAX_PAGES: usize = 10;
const PER_PAGE: usize = 100;
/// Tries of one read.
const MAX_TRIES: u32 = 3;
/// Longest wait between two tries; whoever is told to come back later does not wait for it here.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// Redirects of one download.
const MAX_REDIRECTS: usize = 3;

const JSON: &str = "application/vnd.github+json";

/// The client. Cloned freely.
#[derive(Clone)]
pub(crate) struct GitHub {
    http: HttpClient,
    base: Uri,
    token: Option<String>,
}

impl std::fmt::Debug for GitHub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GitHub")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

/// A call: what an error names.
struct Call<'a> {
    method: Method,
    path: &'a str,
    accept: &'static str,
    body: Option<&'a Value>,
}

impl<'a> Call<'a> {
    fn get(path: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            accept: JSON,
            body: None,
        }
    }

    /// Without the query, which may be long.
    fn name(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        format!("{} {path}", self.method)
    }
}

impl GitHub {
    pub(crate) fn new(config: &GitHubConfig, http: HttpClient) -> Self {
        Self {
            http,
            base: config.base_url.clone(),
            token: config.token.clone(),
        }
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let call = Call::get(path);
        let answer = self.read_whole(&call).await?;
        typed(&call, &answer)
    }

    /// All pages of a list, which is the answer itself or its field `list`; at most [`MAX_PAGES`].
    async fn pages<T: DeserializeOwned>(&self, path: &str, list: Option<&str>) -> Result<Vec<T>, Error> {
        let mut items = Vec::new();
        let mut path = path.to_owned();
        for _ in 0..MAX_PAGES {
            let call = Call::get(&path);
            let answer = self.read_whole(&call).await?;
            let mut page: Value = typed(&call, &answer)?;
            let page = match list {
                Some(list) => page[list].take(),
                None => page,
            };
            let page: Vec<T> = from_value(&call, page)?;
            items.extend(page);
            match self.next_page(&answer.headers) {
                Some(next) => path = next,
                None => break,
            }
        }
        Ok(items)
    }

    /// Path and query of the next page. A link to another origin is not followed: the token would travel there.
    fn next_page(&self, headers: &HeaderMap) -> Option<String> {
        let links = headers.get(LINK)?.to_str().ok()?;
        let next = links.split(',').find_map(|link| {
            let (target, parameters) = link.split_once(';')?;
            parameters
                .contains("rel=\"next\"")
                .then(|| target.trim().trim_start_matches('<').trim_end_matches('>'))
        })?;
        let next: Uri = next.parse().ok()?;
        if origin(&next) != origin(&self.base) {
            return None;
        }
        let path = next.path_and_query()?.as_str();
        path.strip_prefix(self.base.path().trim_end_matches('/'))
            .map(str::to_owned)
    }

    /// A read, tried again while the trouble may pass soon.
    async fn read_whole(&self, call: &Call<'_>) -> Result<Answer, Error> {
        let mut tries = 1;
        loop {
            let error = match self.send(call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let usual = Duration::from_millis(250) * 2_u32.pow(tries);
            let wait = error.retry_after().unwrap_or(usual);
            if error.is_permanent() || tries >= MAX_TRIES || wait > MAX_WAIT {
                return Err(error);
            }
            tracing::debug!(%error, tries, "a read of GitHub is tried again");
            tokio::time::sleep(wait).await;
            tries += 1;
        }
    }

    /// Performs a write, once.
    async fn write(&self, method: Method, path: &str, body: &Value) -> Result<Answer, Error> {
        let call = Call {
            method,
            path,
            accept: JSON,
            body: Some(body),
        };
        self.send(&call).await
    }

    async fn write_for<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<T, Error> {
        let call = Call {
            method,
            path,
            accept: JSON,
            body: Some(body),
        };
        let answer = self.send(&call).await?;
        typed(&call, &answer)
    }

    async fn send(&self, call: &Call<'_>) -> Result<Answer, Error> {
        let uri = join(&self.base, call.path).map_err(|source| Error::not_reached(call.name(), &source))?;
        let request = self.request(call, uri)?;
        let answer = self
            .http
            .send(request, TIMEOUT, MAX_ANSWER)
            .await
            .map_err(|source| Error::not_reached(call.name(), &source))?;
        if answer.status.is_success() {
            Ok(answer)
        } else {
            Err(Error::refused(call.name(), &answer))
        }
    }

    /// Downloads what `path` redirects to: its last `keep` bytes, and how many come before them.
    ///
    /// The token goes to the API only. The place that it redirects to has a signature of its own in its query, and
    /// belongs to somebody else.
    async fn download(
        &self,
        path: &str,
        keep: usize,
        max_bytes: usize,
        timeout: Duration,
    ) -> Result<(Bytes, u64), Error> {
        let call = Call::get(path);
        let named = |source| Error::not_reached(call.name(), &source);
        let mut uri = join(&self.base, path).map_err(named)?;
        for _ in 0..=MAX_REDIRECTS {
            let request = if origin(&uri) == origin(&self.base) {
                self.request(&call, uri.clone())?
            } else {
                anonymous(&call, uri.clone())?
            };
            let sent = self.http.send_for_tail(request, timeout, keep, max_bytes);
            let (answer, skipped) = sent.await.map_err(named)?;
            match answer.status {
                status if status.is_success() => return Ok((answer.body, skipped)),
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => {
                    let location = answer
                        .headers
                        .get(LOCATION)
                        .and_then(|value| value.to_str().ok()?.parse().ok());
                    uri = location.filter(|uri: &Uri| uri.host().is_some()).ok_or_else(|| {
                        Error::answer(call.name(), "a redirect without an absolute location")
                    })?;
                }
                _ => return Err(Error::refused(call.name(), &answer)),
            }
        }
        Err(Error::answer(
            call.name(),
            format!("more than {MAX_REDIRECTS} redirects"),
        ))
    }

    fn request(&self, call: &Call<'_>, uri: Uri) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(uri)
            .header(ACCEPT, call.accept)
            .header(USER_AGENT, agent())
            .header("x-github-api-version", API_VERSION);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = match call.body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Full::new(Bytes::from(body.to_string()))
            }
            None => Full::default(),
        };
        request
            .body(body)
            .map_err(|error| Error::answer(call.name(), error.to_string()))
    }
}

fn agent() -> String {
    format!("plumbline-analysis-worker/{}", env!("CARGO_PKG_VERSION"))
}

/// A request that says nothing about us.
fn anonymous(call: &Call<'_>, uri: Uri) -> Result<Request<Full<Bytes>>, Error> {
    Request::get(uri)
        .header(USER_AGENT, agent())
        .body(Full::default())
        .map_err(|error| Error::answer(call.name(), error.to_string()))
}

fn typed<T: DeserializeOwned>(call: &Call<'_>, answer: &Answer) -> Result<T, Error> {
    let mut reader = serde_json::Deserializer::from_slice(&answer.body);
    serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| Error::answer(call.name(), error.to_string()))
}

fn from_value<T: DeserializeOwned>(call: &Call<'_>, value: Value) -> Result<T, Error> {
    serde_path_to_error::deserialize(value).map_err(|error| Error::answer(call.name(), error.to_string()))
}

/// One segment of a path.
fn segment(text: &str) -> String {
    const KEPT: percent_encoding::AsciiSet = percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    percent_encoding::utf8_percent_encode(text, &KEPT).to_string()
}

#[cfg(test)]
mod tests;
