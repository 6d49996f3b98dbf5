//! The admin port, on a thread of its own so that probes and scrapes answer while the data port is busy.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, ORIGIN};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::handover::Handover;
use crate::metrics::Metrics;
use crate::process::Part;
use crate::serve::BindError;
use crate::{Readiness, Shutdown};

/// What an admin page answers.
pub type Page = Response<Full<Bytes>>;

type Handler = Arc<dyn Fn(&str) -> Page + Send + Sync>;

/// Connections that the admin port holds at once: a scraper, probes and a few people.
const MAX_CONNECTIONS: usize = 64;

/// What the admin port tells about a process.
#[derive(Clone)]
pub struct Admin(Arc<State>);

struct State {
    part: Part,
    metrics: Metrics,
    readiness: Readiness,
    config: serde_json::Value,
    pages: RwLock<BTreeMap<&'static str, Handler>>,
    actions: RwLock<BTreeMap<&'static str, Handler>>,
    address: OnceLock<SocketAddr>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin")
            .field("part", &self.0.part)
            .field("address", &self.0.address)
            .finish_non_exhaustive()
    }
}

impl Admin {
    pub(crate) fn new(part: Part, metrics: Metrics, readiness: Readiness, config: serde_json::Value) -> Self {
        let (pages, actions, address) = (RwLock::default(), RwLock::default(), OnceLock::new());
        Self(Arc::new(State {
            part,
            metrics,
            readiness,
            config,
            pages,
            actions,
            address,
        }))
    }

    /// Adds a page of the part, such as the sidecar's `/drift`. `page` gets the query string without `?`; it runs on
    /// the admin thread, must not block for long, and a panic in it answers 500.
    pub fn page(&self, path: &'static str, page: impl Fn(&str) -> Page + Send + Sync + 'static) {
        self.0
            .pages
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path, Arc::new(page));
    }

    /// Adds something that a `POST` to `path` does, as [`Admin::page`] adds what a `GET` tells. Not for browsers: what a foreign
    /// page sends is refused.
    pub fn action(&self, path: &'static str, act: impl Fn(&str) -> Page + Send + Sync + 'static) {
        self.0
            .actions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path, Arc::new(act));
    }

    /// Where the admin port listens.
    ///
    /// # Panics
    /// Never after [`crate::Process::start`], which is the only maker.
    pub fn address(&self) -> SocketAddr {
        *self.0.address.get().expect("set when the port was bound")
    }

    /// Binds and serves on a thread of its own until the process ends or the next one has the port.
    pub(crate) fn spawn(
        &self,
        address: SocketAddr,
        handover: &Handover,
        shutdown: &Shutdown,
    ) -> Result<(), BindError> {
        let listener = handover.listener(address, "admin_listen")?;
        let local = listener
            .local_addr()
            .map_err(|source| BindError::new(address, "admin_listen", source))?;
        self.0.address.set(local).expect("an admin port is spawned once");
        let (admin, handover, shutdown) = (self.clone(), handover.clone(), shutdown.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| BindError::new(address, "admin_listen", source))?;
        let name = format!("{}-admin", self.0.part.name);
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || runtime.block_on(admin.serve(listener, &handover, shutdown)));
        thread.map_err(|source| BindError::new(address, "admin_listen", source))?;
        tracing::info!(part = self.0.part.name, port = "admin", address = %local, "listening");
        Ok(())
    }

    async fn serve(self, listener: std::net::TcpListener, handover: &Handover, shutdown: Shutdown) {
        // Until then, who asks is told of the process before.
        handover.serving().await;
        let listener =
            tokio::net::TcpListener::from_std(listener).expect("a listener that was set non-blocking");
        let slots = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
        loop {
            let slot = Arc::clone(&slots)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.handed_over() => break,
            };
            let stream = match accepted {
                Ok((stream, _peer)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "admin connection not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (admin, shutdown) = (self.clone(), shutdown.clone());
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request| {
                    let page = admin.answer(&request);
                    std::future::ready(Ok::<_, Infallible>(page))
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(30))
                    .serve_connection(TokioIo::new(stream), service);
                let mut connection = std::pin::pin!(connection);
                let ended = tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = shutdown.handed_over() => {
                        // A scraper that keeps its connection has to come to the next process.
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                };
                if let Err(error) = ended {
                    tracing::debug!(%error, "admin connection ended");
                }
                drop(slot);
            });
        }
        drop(listener);
        // Answers that have begun end on this thread.
        std::future::pending::<()>().await;
    }

    fn answer(&self, request: &Request<Incoming>) -> Page {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or(""));
        let action = handler(&self.0.actions, path);
        match (request.method(), action) {
            // Browsers send it with every POST.
            (&Method::POST, Some(_)) if request.headers().contains_key(ORIGIN) => {
                text(StatusCode::FORBIDDEN, "not from a browser\n")
            }
            (&Method::POST, Some(action)) => run(&action, query),
            (&Method::GET | &Method::HEAD, None) => self.page_at(path, query),
            (_, Some(_)) => not_allowed("POST"),
            (_, None) => not_allowed("GET, HEAD"),
        }
    }

    fn page_at(&self, path: &str, query: &str) -> Page {
        let State {
            part,
            metrics,
            readiness,
            config,
            pages,
            ..
        } = &*self.0;
        match path {
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => match readiness.pending() {
                pending if pending.is_empty() => text(StatusCode::OK, "ok\n"),
                pending => text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("waiting for: {}\n", pending.join("; ")),
                ),
            },
            "/metrics" => {
                let mut page = text(StatusCode::OK, metrics.render());
                let exposition = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                page.headers_mut().insert(CONTENT_TYPE, exposition);
                page
            }
            "/version" => json(
                StatusCode::OK,
                &serde_json::json!({"part": part.name, "version": part.version}),
            ),
            "/config" => json(StatusCode::OK, config),
            _ => match handler(pages, path) {
                Some(page) => run(&page, query),
                None => text(StatusCode::NOT_FOUND, self.index()),
            },
        }
    }

    fn index(&self) -> String {
        let pages = self.0.pages.read().unwrap_or_else(PoisonError::into_inner);
        let mut text = "not found; there are /livez, /readyz, /metrics, /version, /config".to_owned();
        for path in pages.keys() {
            text.push_str(", ");
            text.push_str(path);
        }
        text.push('\n');
        text
    }
}

fn handler(handlers: &RwLock<BTreeMap<&'static str, Handler>>, path: &str) -> Option<Handler> {
    handlers
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .get(path)
        .cloned()
}

fn run(handler: &Handler, query: &str) -> Page {
    let page = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| handler(query)));
    page.unwrap_or_else(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "the page failed\n"))
}

fn not_allowed(allowed: &'static str) -> Page {
    let mut page = text(StatusCode::METHOD_NOT_ALLOWED, format!("only {allowed}\n"));
    page.headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    page
}

/// A plain-text page.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Page {
    respond(status, "text/plain; charset=utf-8", body.into())
}

/// An HTML page. Nothing of other places is loaded into it, and no script runs in it.
pub fn html(status: StatusCode, body: impl Into<Bytes>) -> Page {
    let mut page = respond(status, "text/html; charset=utf-8", body.into());
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
    page.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    page
}

/// A JSON page.
pub fn json(status: StatusCode, body: &impl serde::Serialize) -> Page {
    match serde_json::to_vec(body) {
        Ok(body) => respond(status, "application/json", body.into()),
        Err(error) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("not representable as JSON: {error}\n"),
        ),
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: Bytes) -> Page {
    let mut page = Response::new(Full::new(body));
    *page.status_mut() = status;
    page.headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    page.headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn admin() -> Admin {
        let part = Part {
            name: "gateway",
            version: "1.2.3",
        };
        Admin::new(
            part,
            Metrics::default(),
            Readiness::default(),
            serde_json::json!({"api_key": "***"}),
        )
    }

    async fn body(page: Page) -> String {
        let bytes = page.into_body().collect().await.expect("a full body").to_bytes();
        String::from_utf8(bytes.to_vec()).expect("text")
    }

    #[tokio::test]
    async fn readiness_tells_what_is_missing() {
        let admin = admin();
        let token = admin.0.readiness.wait_for("model `churn` is loading");
        let page = admin.page_at("/readyz", "");
        assert_eq!(page.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body(page).await, "waiting for: model `churn` is loading\n");
        drop(token);
        assert_eq!(admin.page_at("/readyz", "").status(), StatusCode::OK);
        assert_eq!(admin.page_at("/livez", "").status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn a_part_adds_pages_and_a_failing_one_answers_500() {
        let admin = admin();
        admin.page("/drift", |query| text(StatusCode::OK, query.to_owned()));
        admin.page("/broken", |_| panic!("a page that fails"));
        assert_eq!(
            body(admin.page_at("/drift", "subject=tenure")).await,
            "subject=tenure"
        );
        assert_eq!(
            admin.page_at("/broken", "").status(),
            StatusCode::INTERNAL_SERVER_ERROR
        );
        let missing = admin.page_at("/nothing", "");
        assert_eq!(missing.status(), StatusCode::NOT_FOUND);
        assert!(body(missing).await.contains("/config, /broken, /drift"));
    }
}
