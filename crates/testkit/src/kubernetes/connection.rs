//! Connections of the fake API server: objects, lists in pages, watches from a version on, logs.

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
                async move { Ok::<_, Infallible>(answer(state, &request).await) }
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
    /// `KEY=VALUE`, separated by commas, or empty.
    selector: String,
    /// The same, of fields such as `involvedObject.name`.
    fields: String,
}

impl Collection {
    fn has(&self, plural: &str, namespace: &str, labels: &Value) -> bool {
        let selected = pairs(&self.selector)
            .all(|(key, value)| labels[key] == value || labels.is_null() && namespace.is_empty());
        // Bookmarks and the end are for everybody, and have no namespace.
        let in_namespace = self.namespace.is_empty() || namespace.is_empty() || namespace == self.namespace;
        plural == self.plural && in_namespace && selected
    }
}

impl Collection {
    fn has_fields(&self, object: &Value) -> bool {
        pairs(&self.fields).all(|(path, value)| {
            let field = path.split('.').fold(object, |object, name| &object[name]);
            field == value
        })
    }
}

fn pairs(selector: &str) -> impl Iterator<Item = (&str, &str)> {
    selector.split(',').filter_map(|pair| pair.split_once('='))
}

async fn answer(state: Arc<State>, request: &Request<Incoming>) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let query: HashMap<&str, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name, decoded(value)))
        .collect();
    let parts: Vec<&str> = request.uri().path().split('/').skip(1).collect();
    let within = match parts.as_slice() {
        ["api", _, within @ ..] | ["apis", _, _, within @ ..] => within,
        _ => &[],
    };
    let (namespace, plural, name, subresource) = match *within {
        [plural] => ("", plural, "", ""),
        ["namespaces", namespace, plural] => (namespace, plural, "", ""),
        ["namespaces", namespace, plural, name] => (namespace, plural, name, ""),
        ["namespaces", namespace, plural, name, subresource] => (namespace, plural, name, subresource),
        [plural, name] => ("", plural, name, ""),
        _ => return not_found("the server could not find the requested resource"),
    };
    let resource = if subresource.is_empty() {
        plural.to_owned()
    } else {
        format!("{plural}/{subresource}")
    };
    let verb = match (name, query.contains_key("watch")) {
        ("", false) => "list",
        ("", true) => "watch",
        _ => "get",
    };
    if lock(&state.store).silent.contains(&resource) {
        std::future::pending::<()>().await;
    }
    if lock(&state.store)
        .forbidden
        .contains(&(verb.to_owned(), resource.clone()))
    {
        let message =
            format!("{resource} is forbidden: User \"worker\" cannot {verb} resource \"{resource}\"");
        return status(StatusCode::FORBIDDEN, "Forbidden", &message);
    }
    if subresource == "log" {
        return log(&state, namespace, name, &query);
    }
    if !name.is_empty() {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        return match lock(&state.store).objects.get(&key) {
            Some(object) => respond(StatusCode::OK, object.to_string()),
            None => not_found(&format!("{plural} \"{name}\" not found")),
        };
    }
    let collection = Collection {
        plural: plural.to_owned(),
        namespace: namespace.to_owned(),
        selector: query.get("labelSelector").cloned().unwrap_or_default(),
        fields: query.get("fieldSelector").cloned().unwrap_or_default(),
    };
    let text = |name: &str| query.get(name).map_or("", String::as_str);
    if text("watch").is_empty() {
        list(&state, &collection, text("limit"), text("continue"))
    } else {
        watch(state, collection, text("resourceVersion"))
    }
}

/// The end of a log: as many lines, and of those as many bytes from the first on, as are asked for.
fn log(state: &State, namespace: &str, pod: &str, query: &HashMap<&str, String>) -> Response<Body> {
    let text = |name: &str| query.get(name).map_or("", String::as_str);
    let (container, previous) = (text("container"), text("previous") == "true");
    let key = (
        namespace.to_owned(),
        pod.to_owned(),
        container.to_owned(),
        previous,
    );
    let Some(log) = lock(&state.store).logs.get(&key).cloned() else {
        let what = if previous {
            "previous terminated container"
        } else {
            "container"
        };
        let message = format!("{what} \"{container}\" in pod \"{pod}\" not found");
        return status(StatusCode::BAD_REQUEST, "BadRequest", &message);
    };
    let number = |name: &str| text(name).parse().unwrap_or(usize::MAX);
    let lines: Vec<&str> = log.split_inclusive('\n').collect();
    let from = lines.len().saturating_sub(number("tailLines"));
    let mut body = lines[from..].concat().into_bytes();
    body.truncate(number("limitBytes"));
    let mut response = respond(StatusCode::OK, String::from_utf8_lossy(&body).into_owned());
    let plain = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    response
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
        collection.has(plural, namespace, &object["metadata"]["labels"]) && collection.has_fields(object)
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

/// Percent-decoded.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = (*first == b'%').then(|| after.get(..2)).flatten();
        let byte = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn not_found(message: &str) -> Response<Body> {
    status(StatusCode::NOT_FOUND, "NotFound", message)
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
