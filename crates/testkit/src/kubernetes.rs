//! An API server that gets, lists and watches objects as Kubernetes does, has logs of containers, and misbehaves when the
//! test says so: it forgets history, repeats events, breaks off within one, forbids, falls silent, goes away and comes back.
//!
//! ```no_run
//! # async fn example() {
//! use plumbline_testkit::kubernetes::FakeApiServer;
//! let server = FakeApiServer::start().await;
//! server.apply(serde_json::json!({"kind": "InferenceService", "metadata": {"namespace": "models", "name": "churn"}}));
//! // … have `server.kubeconfig()` used …
//! server.watched("endpointslices", 1).await; // an event, not a delay
//! # }
//! ```
//!
//! Source of the behaviour: Kubernetes' documentation, "Kubernetes API Concepts": efficient detection of changes, 410 Gone,
//! watch bookmarks, retrieving large result sets in chunks.

mod connection;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A fake API server on loopback; it ends when dropped.
#[derive(Debug)]
pub struct FakeApiServer {
    address: SocketAddr,
    state: Arc<State>,
    /// Cancelled to go away.
    up: Mutex<CancellationToken>,
}

#[derive(Debug, Default)]
struct State {
    store: Mutex<Store>,
    /// Changes with each event.
    changed: watch::Sender<()>,
    /// Lists and watches begun, by plural.
    lists: watch::Sender<HashMap<String, usize>>,
    watches: watch::Sender<HashMap<String, usize>>,
    /// Connections that are open or listened for.
    open: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Store {
    version: u64,
    /// By plural, namespace and name.
    objects: BTreeMap<(String, String, String), Value>,
    history: Vec<Entry>,
    /// What came before this version is forgotten.
    oldest: u64,
    /// By namespace, pod, container, and whether it is that of the run before.
    logs: HashMap<(String, String, String, bool), String>,
    /// Verbs and resources, such as `get` and `pods/log`.
    forbidden: HashSet<(String, String)>,
    /// Resources that are never answered about.
    silent: HashSet<String>,
}

/// Something that watchers of a collection are told.
#[derive(Clone, Debug)]
struct Entry {
    version: u64,
    plural: String,
    namespace: String,
    labels: Value,
    told: Told,
}

#[derive(Clone, Debug)]
enum Told {
    Line(Bytes),
    /// These bytes, then the connection breaks.
    Cut(Bytes),
    /// The watch ends because history is forgotten.
    Gone,
}

impl FakeApiServer {
    /// Without objects.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let (state, up) = (Arc::<State>::default(), CancellationToken::new());
        tokio::spawn(connection::accept(listener, Arc::clone(&state), up.clone()));
        Self {
            address,
            state,
            up: Mutex::new(up),
        }
    }

    /// The text of a kubeconfig that leads here.
    pub fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "fake", "user": {}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
            "current-context": "fake",
        })
        .to_string()
    }

    /// Creates or replaces an object and tells it.
    pub fn apply(&self, object: Value) {
        let (mut store, key) = (self.store(), key(&object));
        let event = if store.objects.contains_key(&key) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        let object = store.write(object);
        let line = line(event, &object);
        store.tell(&object, Told::Line(line));
        self.wake(store);
    }

    /// Removes an object and tells it.
    ///
    /// # Panics
    /// When there is none: a mistake in the test.
    pub fn delete(&self, plural: &str, namespace: &str, name: &str) {
        let mut store = self.store();
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        let object = store.objects.remove(&key).expect("an object");
        store.version += 1;
        let mut object = object;
        object["metadata"]["resourceVersion"] = store.version.to_string().into();
        let line = line("DELETED", &object);
        store.tell(&object, Told::Line(line));
        self.wake(store);
    }

    /// Tells an event that nothing happened for: a repeated one, or one out of order.
    pub fn tell(&self, event: &str, object: &Value) {
        let mut store = self.store();
        let line = line(event, object);
        store.tell(object, Told::Line(line));
        self.wake(store);
    }

    /// Creates or replaces an object, and breaks every watch of its kind within the event that tells it.
    pub fn cut(&self, object: Value) {
        let mut store = self.store();
        let object = store.write(object);
        let whole = line("MODIFIED", &object);
        let half = whole.slice(..whole.len() / 2);
        // Whoever comes back for what was after gets the event whole.
        store.version += 1;
        let before = store.version - 2;
        store.tell(&object, Told::Line(whole));
        let cut = store.history.len() - 1;
        let mut entry = store.history[cut].clone();
        (entry.version, entry.told) = (before, Told::Cut(half));
        store.history.insert(cut, entry);
        self.wake(store);
    }

    /// Tells bookmarks, which say how far history has come.
    pub fn bookmark(&self) {
        let mut store = self.store();
        store.version += 1;
        for (kind, plural) in KINDS {
            let metadata = json!({"resourceVersion": store.version.to_string()});
            let bookmark = json!({"type": "BOOKMARK", "object": {"kind": kind, "apiVersion": "v1", "metadata": metadata}});
            let entry = Entry {
                version: store.version,
                plural: plural.to_owned(),
                namespace: String::new(),
                labels: Value::Null,
                told: Told::Line(format!("{bookmark}\n").into()),
            };
            store.history.push(entry);
        }
        self.wake(store);
    }

    /// Forgets history: watches that are open end with 410, and so do those that ask for what came before.
    pub fn expire(&self) {
        let mut store = self.store();
        store.version += 1;
        store.oldest = store.version;
        for (_, plural) in KINDS {
            let entry = Entry {
                version: store.version,
                plural: plural.to_owned(),
                namespace: String::new(),
                labels: Value::Null,
                told: Told::Gone,
            };
            store.history.push(entry);
        }
        self.wake(store);
    }

    /// Sets what a container has logged, each line with its time before it; of the run before its restart with `previous`.
    pub fn log(&self, namespace: &str, pod: &str, container: &str, previous: bool, text: &str) {
        let key = (
            namespace.to_owned(),
            pod.to_owned(),
            container.to_owned(),
            previous,
        );
        self.store().logs.insert(key, text.to_owned());
    }

    /// Answers 403 from now on when somebody wants to `verb` the resource, such as `get` and `pods/log`.
    pub fn forbid(&self, verb: &str, resource: &str) {
        self.store()
            .forbidden
            .insert((verb.to_owned(), resource.to_owned()));
    }

    /// Does not answer any more about a resource.
    pub fn fall_silent(&self, resource: &str) {
        self.store().silent.insert(resource.to_owned());
    }

    /// Stops listening and breaks all connections.
    pub async fn go_away(&self) {
        self.up().cancel();
        let mut open = self.state.open.subscribe();
        let closed = open.wait_for(|open| *open == 0).await;
        closed.expect("the sender lives as long as self");
    }

    /// Listens again, on the same address.
    pub fn come_back(&self) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option of the socket");
        socket.bind(self.address).expect("the port is free again");
        let listener = socket.listen(128).expect("listening");
        let up = CancellationToken::new();
        *self.up() = up.clone();
        tokio::spawn(connection::accept(listener, Arc::clone(&self.state), up));
    }

    /// Waits until `count` lists of a kind have begun, pages of one list counted once.
    pub async fn listed(&self, plural: &str, count: usize) {
        at_least(&self.state.lists, plural, count).await;
    }

    /// Waits until `count` watches of a kind have begun.
    pub async fn watched(&self, plural: &str, count: usize) {
        at_least(&self.state.watches, plural, count).await;
    }

    /// How many lists of a kind have begun so far.
    pub fn lists(&self, plural: &str) -> usize {
        self.state.lists.borrow().get(plural).copied().unwrap_or_default()
    }

    /// How many watches of a kind have begun so far.
    pub fn watches(&self, plural: &str) -> usize {
        self.state
            .watches
            .borrow()
            .get(plural)
            .copied()
            .unwrap_or_default()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.state.store)
    }

    fn up(&self) -> MutexGuard<'_, CancellationToken> {
        lock(&self.up)
    }

    fn wake(&self, store: MutexGuard<'_, Store>) {
        drop(store);
        self.state.changed.send_replace(());
    }
}

impl Drop for FakeApiServer {
    fn drop(&mut self) {
        self.up().cancel();
    }
}

impl Store {
    fn write(&mut self, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.objects.insert(key(&object), object.clone());
        object
    }

    fn tell(&mut self, object: &Value, told: Told) {
        let (plural, namespace, _) = key(object);
        self.history.push(Entry {
            version: self.version,
            plural,
            namespace,
            labels: object["metadata"]["labels"].clone(),
            told,
        });
    }
}

const KINDS: [(&str, &str); 10] = [
    ("InferenceService", "inferenceservices"),
    ("EndpointSlice", "endpointslices"),
    ("Pod", "pods"),
    ("Event", "events"),
    ("Node", "nodes"),
    ("PersistentVolumeClaim", "persistentvolumeclaims"),
    ("Deployment", "deployments"),
    ("ReplicaSet", "replicasets"),
    ("StatefulSet", "statefulsets"),
    ("Job", "jobs"),
];

fn key(object: &Value) -> (String, String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&object["kind"]);
    let known = KINDS.iter().find(|(known, _)| *known == kind);
    let (_, plural) = known.expect("one of the kinds that are known");
    let metadata = &object["metadata"];
    (
        (*plural).to_owned(),
        text(&metadata["namespace"]),
        text(&metadata["name"]),
    )
}

fn line(event: &str, object: &Value) -> Bytes {
    // The order of the fields is the API server's: type, then object.
    format!("{{\"type\":\"{event}\",\"object\":{object}}}\n").into()
}

async fn at_least(counter: &watch::Sender<HashMap<String, usize>>, plural: &str, count: usize) {
    let mut counter = counter.subscribe();
    let reached = counter.wait_for(|counts| counts.get(plural).is_some_and(|so_far| *so_far >= count));
    reached.await.expect("the sender lives as long as self");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An InferenceService of the namespace `models` in Standard mode, as its controller leaves it.
pub fn inference_service(name: &str) -> Value {
    json!({
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"namespace": "models", "name": name, "creationTimestamp": "2026-11-01T08:00:00Z"},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "onnx"}, "storageUri": "s3://models/x"}}},
        "status": {
            "deploymentMode": "Standard",
            "url": format!("http://{name}-models.example.com"),
            "components": {"predictor": {"url": format!("http://{name}-predictor-models.example.com")}},
        },
    })
}

/// The EndpointSlice of the predictor of [`inference_service`] `name`: its pods, all ready, and their port.
pub fn endpoint_slice(name: &str, pods: &[String], port: u16) -> Value {
    let endpoints: Vec<Value> = pods
        .iter()
        .map(|address| json!({"addresses": [address], "conditions": {"ready": true}}))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "models",
            "name": format!("{name}-predictor-abcde"),
            "labels": {"kubernetes.io/service-name": format!("{name}-predictor")},
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http1", "port": port, "protocol": "TCP"}],
    })
}
