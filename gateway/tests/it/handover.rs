//! A gateway is replaced by another process while clients use it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::support::*;

const RESTARTS: usize = 20;

/// The program, in a process of its own.
struct Program {
    child: Child,
    log: mpsc::UnboundedReceiver<Value>,
}

impl Program {
    fn start(predictor: &FakePredictor, socket: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_plumbline-gateway"))
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .arg(format!("--route=churn={}", predictor.url()))
            .arg(format!("--handover={}", socket.display()))
            // Far more than a client of this test needs between two requests.
            .args(["--drain-delay", "2s", "--drain-timeout", "30s"])
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let (sender, log) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _nobody_listens = sender.send(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        });
        Self { child, log }
    }

    /// Waits for a line of the log.
    async fn says(&mut self, message: &str, is: impl Fn(&Value) -> bool) -> Value {
        let said = async {
            let mut before = Vec::new();
            loop {
                match self.log.recv().await {
                    Some(line) if line["message"] == message && is(&line) => return line,
                    Some(line) => before.push(line),
                    None => panic!("ended without {message:?}: {before:?}"),
                }
            }
        };
        timeout(PATIENCE, said).await.expect("it is said")
    }

    async fn listens(&mut self, port: &str) -> SocketAddr {
        let line = self.says("listening", |line| line["port"] == port).await;
        line["address"]
            .as_str()
            .expect("an address")
            .parse()
            .expect("an address")
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status();
        assert!(status.expect("kill").success());
    }

    /// Waits until it has ended as it should.
    async fn ends(mut self) {
        let ended = async {
            loop {
                match self.child.try_wait().expect("a child") {
                    Some(status) => return status,
                    None => sleep(tokio::time::Duration::from_millis(20)).await,
                }
            }
        };
        let status = timeout(PATIENCE, ended).await.expect("it ends");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
    }
}

/// What clients come to.
#[derive(Default)]
struct Clients {
    stop: AtomicBool,
    answered: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Clients {
    fn ended(&self, outcome: Result<StatusCode, hyper::Error>) {
        match outcome {
            Ok(StatusCode::OK) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            other => self.failed(format!("{other:?}")),
        }
    }

    fn failed(&self, failure: String) {
        self.failures.lock().expect("no panic").push(failure);
    }

    fn go_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    async fn more_answers(&self, more: usize) {
        let until = self.answered.load(Ordering::Relaxed) + more;
        let answered = async {
            while self.answered.load(Ordering::Relaxed) < until {
                sleep(tokio::time::Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, answered).await.expect("clients are answered");
    }

    async fn connect(&self, address: SocketAddr) -> Option<TokioIo<TcpStream>> {
        match TcpStream::connect(address).await {
            Ok(stream) => Some(TokioIo::new(stream)),
            Err(error) => {
                self.failed(format!("refused: {error}"));
                None
            }
        }
    }

    /// `requests` on a connection, or as many as the gateway leaves it: a POST is never sent twice.
    async fn use_http1(self: Arc<Self>, address: SocketAddr, requests: usize) {
        while self.go_on() {
            let Some(io) = self.connect(address).await else {
                return;
            };
            let (mut client, connection) = http1::handshake(io).await.expect("handshake");
            tokio::spawn(connection);
            for _ in 0..requests {
                let mut closes = false;
                let answered = async {
                    let answer = client.send_request(infer("churn")).await?;
                    closes = answer
                        .headers()
                        .get("connection")
                        .is_some_and(|value| value == "close");
                    let status = answer.status();
                    answer.into_body().collect().await?;
                    Ok(status)
                };
                let answered = answered.await;
                let failed = answered.is_err();
                self.ended(answered);
                if closes || failed || !self.go_on() {
                    break;
                }
            }
        }
    }

    /// Goes on elsewhere when it is told to, with what was not taken.
    async fn use_http2(self: Arc<Self>, address: SocketAddr) {
        let request = || -> Request<Full<Bytes>> {
            let mut request = infer("churn");
            *request.uri_mut() = "http://gateway/v2/models/churn/infer".parse().expect("a URI");
            request
        };
        while self.go_on() {
            let Some(io) = self.connect(address).await else {
                return;
            };
            let (mut client, connection) = http2::handshake(TokioExecutor::new(), io)
                .await
                .expect("handshake");
            tokio::spawn(connection);
            while self.go_on() && client.ready().await.is_ok() {
                match client.try_send_request(request()).await {
                    Ok(answer) => {
                        let status = answer.status();
                        self.ended(answer.into_body().collect().await.map(|_| status));
                    }
                    Err(error) if error.message().is_some() => break,
                    Err(error) => self.ended(Err(error.into_error())),
                }
            }
        }
    }
}

struct Place {
    _directory: tempfile::TempDir,
    socket: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("gateway.sock");
        Self {
            _directory: directory,
            socket,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_under_load_fail_no_request() {
    let predictor = FakePredictor::echo().await;
    let place = Place::new();
    let mut current = Program::start(&predictor, &place.socket, &[]);
    let address = current.listens("data").await;
    let clients = Arc::new(Clients::default());
    let mut using = Vec::new();
    for requests in [1, 3, usize::MAX] {
        using.push(tokio::spawn(Arc::clone(&clients).use_http1(address, requests)));
    }
    using.push(tokio::spawn(Arc::clone(&clients).use_http2(address)));
    let mut before = Vec::new();
    for _ in 0..RESTARTS {
        clients.more_answers(20).await;
        let mut next = Program::start(&predictor, &place.socket, &[]);
        next.says("took over from the process before", |_| true).await;
        assert_eq!(next.listens("data").await, address);
        before.push(std::mem::replace(&mut current, next));
    }
    clients.more_answers(20).await;
    for program in before {
        program.ends().await;
    }
    // Nobody else is left to answer.
    clients.more_answers(20).await;
    clients.stop.store(true, Ordering::Relaxed);
    for client in using {
        client.await.expect("no panic");
    }
    let failures = clients.failures.lock().expect("no panic").clone();
    let answered = clients.answered.load(Ordering::Relaxed);
    assert!(
        failures.is_empty(),
        "{} of {answered} failed: {failures:?}",
        failures.len()
    );
    current.signal("-INT");
    current.ends().await;
    assert!(!place.socket.exists(), "nobody offers anything there");
    assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn a_process_that_does_not_become_ready_changes_nothing() {
    let predictor = FakePredictor::echo().await;
    let place = Place::new();
    let mut first = Program::start(&predictor, &place.socket, &[]);
    let address = first.listens("data").await;
    // A server of Kubernetes that nobody can reach: there is no first list.
    let kubeconfig = place.socket.with_file_name("kubeconfig");
    let refusing = RefusingPort::new();
    let text = format!(
        "{{apiVersion: v1, kind: Config, current-context: a, \
         contexts: [{{name: a, context: {{cluster: a, user: a}}}}], users: [{{name: a, user: {{}}}}], \
         clusters: [{{name: a, cluster: {{server: \"{}\"}}}}]}}",
        refusing.url()
    );
    std::fs::write(&kubeconfig, text).expect("written");
    let flag = format!("--kubeconfig={}", kubeconfig.display());
    let mut second = Program::start(&predictor, &place.socket, &["--kubernetes", &flag]);
    second
        .says("the API server cannot be followed; trying again", |_| true)
        .await;
    second.signal("-TERM");
    second.ends().await;
    first
        .says(
            "a process that was to take over ended before it was ready",
            |_| true,
        )
        .await;
    let clients = Arc::new(Clients::default());
    let client = tokio::spawn(Arc::clone(&clients).use_http1(address, 1));
    clients.more_answers(10).await;
    clients.stop.store(true, Ordering::Relaxed);
    client.await.expect("no panic");
    assert!(clients.failures.lock().expect("no panic").is_empty());
    // It still has what the next one needs.
    let mut third = Program::start(&predictor, &place.socket, &[]);
    third.says("took over from the process before", |_| true).await;
    first.ends().await;
}
