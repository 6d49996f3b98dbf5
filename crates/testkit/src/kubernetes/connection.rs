//! Connections of the fake API server: lists in pages, watches from a version on.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Entry, State, Told, lock};

type Body = BoxBody<Bytes, std::io::Error>;

/// Accepts until `up` is cancelled, and takes the connections with it.
pub(super) async fn accept(listener: TcpListener, state: Arc<State>, up: CancellationToken) {
    let _open = Open::new(&state);
    loop {
        let accepted = up.run_until_cancelled(listener.accept()).await;
        let Some(accepted) = accepted else { return };
        let (stream, _) = accepted.expect("accepted");
        let (state, up) = (Arc::clone(&state), up.clone());
        let open = Open::new(&state);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(answer(state, &request)) }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _ended = up.run_until_cancelled(connection).await;
            drop(open);
        });
    }
}

/// Counts one that is open until it is dropped.
struct Open(Arc<State>);

impl Open {
    fn new(state: &Arc<State>) -> Self {
        state.open.send_modify(|open| *open += 1);
        Self(Arc::clone(state))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

/// What a request asks for.
struct Collection {
    plural: String,
    /// Empty for all.
    namespace: String,
    /// `KEY=VALUE`, or empty.
    selector: String,
}

impl Collection {
    fn has(&self, plural: &str, namespace: &str, labels: &Value) -> bool {
        let selected = match self.selector.split_once('=') {
            Some((key, value)) => labels[key] == value || labels.is_null() && namespace.is_empty(),
            None => true,
        };
        // Bookmarks and the end are for everybody, and have no namespace.
        let in_namespace = self.namespace.is_empty() || namespace.is_empty() || namespace == self.namespace;
        plural == self.plural && in_namespace && selected
    }
}

fn answer(state: Arc<State>, request: &Request<Incoming>) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let query: HashMap<&str, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| {
            (
                name,
                value.replace("%3D", "=").replace("%3A", ":").replace("%2F", "/"),
            )
        })
        .collect();
    let parts: Vec<&str> = request.uri().path().split('/').skip(1).collect();
    let (namespace, plural) = match parts.as_slice() {
        ["apis", _, _, plural] => ("", *plural),
        ["apis", _, _, "namespaces", namespace, plural] => (*namespace, *plural),
        _ => {
            return status(
                StatusCode::NOT_FOUND,
                "NotFound",
                "the server could not find the requested resource",
            );
        }
    };
    let collection = Collection {
        plural: plural.to_owned(),
        namespace: namespace.to_owned(),
        selector: query.get("labelSelector").cloned().unwrap_or_default(),
    };
    let text = |name: &str| query.get(name).map_or("", String::as_str);
    if text("watch").is_empty() {
        list(&state, &collection, text("limit"), text("continue"))
    } else {
        watch(state, collection, text("resourceVersion"))
    }
}

fn list(state: &State, collection: &Collection, limit: &str, token: &str) -> Response<Body> {
    if token.is_empty() {
        state
            .lists
            .send_modify(|counts| *counts.entry(collection.plural.clone()).or_default() += 1);
    }
    let store = lock(&state.store);
    let limit = limit.parse().unwrap_or(usize::MAX);
    let (version, offset) = match token.split_once(':') {
        Some((version, offset)) => (version.parse().unwrap_or(0), offset.parse().unwrap_or(0)),
        None => (store.version, 0_usize),
    };
    if version < store.oldest {
        return gone();
    }
    let mut items = Vec::new();
    let mut left = false;
    let matching = store.objects.iter().filter(|((plural, namespace, _), object)| {
        collection.has(plural, namespace, &object["metadata"]["labels"])
    });
    for (_, object) in matching.skip(offset) {
        if items.len() == limit {
            left = true;
            break;
        }
        items.push(object);
    }
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if left {
        metadata["continue"] = format!("{version}:{}", offset + limit).into();
    }
    let list = json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items});
    respond(StatusCode::OK, list.to_string())
}

fn watch(state: Arc<State>, collection: Collection, from: &str) -> Response<Body> {
    let from: u64 = from.parse().unwrap_or(0);
    if from < lock(&state.store).oldest {
        return gone();
    }
    state
        .watches
        .send_modify(|counts| *counts.entry(collection.plural.clone()).or_default() += 1);
    let (sender, body) = Channel::new(16);
    tokio::spawn(tell(state, collection, from, sender));
    Response::new(body.boxed())
}

/// Tells a watcher what happened after a version, and what happens.
async fn tell(state: Arc<State>, collection: Collection, from: u64, mut body: Sender<Bytes, std::io::Error>) {
    let mut changed = state.changed.subscribe();
    // A cut hits only those that were there.
    let mut next = 0;
    let begun = lock(&state.store).history.len();
    loop {
        let entries: Vec<(usize, Entry)> = {
            let store = lock(&state.store);
            let entries = store.history.iter().enumerate().skip(next);
            let entries = entries.map(|(index, entry)| (index, entry.clone())).collect();
            next = store.history.len();
            entries
        };
        for (index, entry) in entries {
            if !collection.has(&entry.plural, &entry.namespace, &entry.labels) {
                continue;
            }
            let is_new = index >= begun;
            let sent = match entry.told {
                Told::Line(line) if is_new || entry.version > from => body.send_data(line).await,
                Told::Cut(half) if is_new => {
                    let _sent = body.send_data(half).await;
                    body.abort(std::io::Error::other("cut"));
                    return;
                }
                Told::Gone if is_new => {
                    let status = failure(StatusCode::GONE, "Expired", "too old resource version");
                    let line = format!("{{\"type\":\"ERROR\",\"object\":{status}}}\n");
                    let _sent = body.send_data(line.into()).await;
                    return;
                }
                Told::Line(_) | Told::Cut(_) | Told::Gone => continue,
            };
            if sent.is_err() {
                return;
            }
        }
        if changed.changed().await.is_err() {
            return;
        }
    }
}

fn gone() -> Response<Body> {
    status(StatusCode::GONE, "Expired", "too old resource version")
}

fn status(code: StatusCode, reason: &str, message: &str) -> Response<Body> {
    respond(code, failure(code, reason, message).to_string())
}

fn failure(code: StatusCode, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    })
}

fn respond(code: StatusCode, body: String) -> Response<Body> {
    let body = Full::new(Bytes::from(body)).map_err(|never: Infallible| match never {});
    let mut response = Response::new(body.boxed());
    *response.status_mut() = code;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}
