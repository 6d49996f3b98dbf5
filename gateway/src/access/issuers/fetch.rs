//! How an issuer's keys come here, and come again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use plumbline_service::config::ParseSetting as _;
use plumbline_service::upstream::{Options, Protocol, Target, Upstream};
use plumbline_service::{ClientTls, ClientTlsFiles, ReadinessToken, Shutdown, error_chain};
use tokio::time::Instant;

use super::Issuer;
use crate::access::signing_keys::SigningKeys;
use crate::access::watch::WatchedFile;
use crate::config::{IssuerSpec, KeySource};

/// Largest set that is read.
const MAX_BYTES: usize = 1 << 20;
/// Time for one fetch.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The shortest time between two fetches, however many tokens name unknown keys.
const MIN_INTERVAL: Duration = Duration::from_secs(10);
/// The longest time between two attempts while the issuer is away.
const MAX_RETRY: Duration = Duration::from_mins(1);

/// An issuer's source of keys, ready to be asked.
pub(crate) enum KeyFetch {
    File { file: WatchedFile, first: SigningKeys },
    Url { client: Client, refresh: Duration },
}

/// Gets a document over HTTP. Redirects are not followed: keys come from where the configuration says.
pub(crate) struct Client {
    upstream: Upstream<Full<Bytes>>,
    path: String,
    tls: Option<ClientTls>,
}

impl KeyFetch {
    /// Opens the source; nothing is fetched yet.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub(crate) fn open(spec: &IssuerSpec) -> anyhow::Result<Self> {
        match &spec.keys {
            KeySource::File(path) => {
                let (file, content) = WatchedFile::open(path).map_err(anyhow::Error::msg)?;
                let first = SigningKeys::parse(&content)
                    .map_err(|problem| anyhow::anyhow!("{}: {problem}", path.display()))?;
                Ok(Self::File { file, first })
            }
            KeySource::Url { url, ca, refresh, .. } => Ok(Self::Url {
                client: Client::new(url, ca)?,
                refresh: *refresh,
            }),
        }
    }

    /// Keeps an issuer's keys fresh until listeners close.
    pub(crate) async fn keep_fresh(self, issuer: Arc<Issuer>, shutdown: Shutdown, loading: ReadinessToken) {
        match self {
            Self::File { file, first } => {
                issuer.got(first);
                drop(loading);
                let changed = |content: Result<Vec<u8>, String>| match content
                    .and_then(|content| SigningKeys::parse(&content))
                {
                    Ok(keys) => issuer.got(keys),
                    Err(problem) => issuer.not_got(&problem),
                };
                file.watch(shutdown, changed).await;
            }
            Self::Url { client, refresh } => {
                if let Some(tls) = &client.tls {
                    tokio::spawn(tls.clone().watch(shutdown.clone()));
                }
                tokio::select! {
                    () = refetch(&client, refresh, &issuer, loading) => {}
                    () = shutdown.stop_accepting() => {}
                }
            }
        }
    }
}

async fn refetch(client: &Client, refresh: Duration, issuer: &Issuer, loading: ReadinessToken) {
    let mut loading = Some(loading);
    let mut retry = Duration::from_secs(1);
    loop {
        let began = Instant::now();
        let wait = match client.keys().await {
            Ok(keys) => {
                issuer.got(keys);
                retry = Duration::from_secs(1);
                refresh
            }
            Err(problem) => {
                issuer.not_got(&problem);
                let wait = retry;
                retry = (retry * 2).min(MAX_RETRY);
                wait.min(refresh)
            }
        };
        drop(loading.take());
        // Replicas that began together do not ask together.
        let wait = wait.mul_f64(0.9 + 0.2 * fastrand::f64());
        tokio::select! {
            () = tokio::time::sleep_until(began + wait) => {}
            () = issuer.missed.notified() => tokio::time::sleep_until(began + MIN_INTERVAL.min(wait)).await,
        }
    }
}

impl Client {
    fn new(url: &http::Uri, ca: &Path) -> anyhow::Result<Self> {
        let authority = url.authority().map_or("", http::uri::Authority::as_str);
        let origin = format!("{}://{authority}", url.scheme_str().unwrap_or_default());
        let target = Target::parse_setting(&origin).map_err(anyhow::Error::msg)?;
        let files = target.is_tls().then(|| ClientTlsFiles {
            ca: ca.to_owned(),
            identity: None,
            settings: ["jwks_ca", "", ""],
        });
        let tls = files.map(ClientTls::load).transpose()?;
        let options = Options {
            tls: tls.clone(),
            ..Options::default()
        };
        Ok(Self {
            upstream: Upstream::new(target, options),
            path: url
                .path_and_query()
                .map_or("/", http::uri::PathAndQuery::as_str)
                .to_owned(),
            tls,
        })
    }

    async fn keys(&self) -> Result<SigningKeys, String> {
        let document = tokio::time::timeout(TIMEOUT, self.get());
        let document = document
            .await
            .map_err(|_| format!("no answer within {TIMEOUT:?}"))??;
        SigningKeys::parse(&document)
    }

    async fn get(&self) -> Result<Bytes, String> {
        let request = Request::get(&self.path)
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .body(Full::default())
            .map_err(|error| error.to_string())?;
        let answer = self.upstream.send(Protocol::Http1, request).await;
        let answer = answer.map_err(|failure| error_chain(&failure.error))?;
        if answer.status() != StatusCode::OK {
            return Err(format!("expected status 200, got {}", answer.status().as_u16()));
        }
        let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
        body.map(http_body_util::Collected::to_bytes)
            .map_err(|error| error_chain(&*error))
    }
}
