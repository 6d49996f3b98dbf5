//! The program itself: SIGTERM loses nothing.

use std::net::SocketAddr;
use std::process::Stdio;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::mpsc;

use crate::models;
use crate::support::{PATIENCE, SentBody, models as directory, onnxruntime};

/// The running program.
struct Program {
    child: Child,
    data: SocketAddr,
    admin: SocketAddr,
    /// Read to the end, so that the program never waits for its log.
    _log: tokio::task::JoinHandle<()>,
}

impl Program {
    async fn start(models: &std::path::Path) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plumbline-model-server"));
        command
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--log-format", "json", "--drain-delay", "5m"])
            .arg("--model-repository")
            .arg(models)
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(library) = onnxruntime() {
            command.arg("--onnxruntime").arg(library);
        }
        let mut child = command.spawn().expect("started");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let admin = listening(&mut log, "admin").await;
        let data = listening(&mut log, "data").await;
        let log = tokio::spawn(async move {
            let mut rest = Vec::new();
            log.read_to_end(&mut rest).await.expect("read");
        });
        Program {
            child,
            data,
            admin,
            _log: log,
        }
    }

    fn signal(&self, signal: libc::c_int) {
        let pid = self.child.id().expect("it runs").cast_signed();
        // SAFETY: sends a signal to a child that was not waited for yet.
        let status = unsafe { libc::kill(pid, signal) };
        assert_eq!(status, 0, "{}", std::io::Error::last_os_error());
    }

    async fn readiness(&self) -> StatusCode {
        get(self.admin, "/readyz").await.0
    }
}

/// The address in the log's line about a port.
async fn listening(log: &mut BufReader<ChildStderr>, port: &str) -> SocketAddr {
    let find = async {
        loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).await.expect("a line"), 0, "it ended");
            if !line.contains("\"listening\"") || !line.contains(&format!("\"{port}\"")) {
                continue;
            }
            let (_, rest) = line.split_once("127.0.0.1:").expect("an address");
            let digits = rest.find(|c: char| !c.is_ascii_digit()).expect("more text");
            break SocketAddr::from(([127, 0, 0, 1], rest[..digits].parse().expect("a port")));
        }
    };
    tokio::time::timeout(PATIENCE, find).await.expect("it listens")
}

/// Status of a request on a connection of its own, and whether the connection ends with it.
async fn get(address: SocketAddr, path: &str) -> (StatusCode, bool) {
    let stream = TcpStream::connect(address).await.expect("connected");
    let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", "localhost")
        .body(Full::new(Bytes::new()))
        .expect("a request");
    let answer = client.send_request(request).await.expect("an answer");
    let ends = answer
        .headers()
        .get("connection")
        .is_some_and(|value| value == "close");
    (answer.status(), ends)
}

fn body() -> String {
    json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}).to_string()
}

#[tokio::test]
async fn sigterm_loses_nothing() {
    let models = directory(&[("m/model.onnx", models::plus(1.0))]);
    let mut program = Program::start(models.path()).await;
    let ready = async {
        while program.readiness().await != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("ready");

    // Two requests whose bodies are under way when the signal comes: HTTP/1.1 and HTTP/2.
    let body = body();
    let (half, rest) = body.split_at(body.len() / 2);
    let mut open = TcpStream::connect(program.data).await.expect("connected");
    let head = format!(
        "POST /v2/models/m/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{half}",
        body.len()
    );
    open.write_all(head.as_bytes()).await.expect("written");
    let stream = TcpStream::connect(program.data).await.expect("connected");
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("a handshake");
    let connection = tokio::spawn(connection);
    let (parts, sent) = mpsc::unbounded_channel::<Bytes>();
    let request = Request::post("http://localhost/v2/models/m/infer")
        .body(SentBody(sent))
        .expect("a request");
    parts.send(half.to_owned().into()).expect("open");
    let answer = tokio::spawn(async move { client.send_request(request).await });
    for _ in 0..10 {
        assert_eq!(
            get(program.data, "/v2/models/m/ready").await,
            (StatusCode::OK, false)
        );
    }

    program.signal(libc::SIGTERM);
    let unready = async {
        while program.readiness().await != 503 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, unready).await.expect("unready");
    // Endpoints that have not noticed yet still send: served, with a word that this connection is at its end.
    for _ in 0..50 {
        assert_eq!(
            get(program.data, "/v2/models/m/ready").await,
            (StatusCode::OK, true)
        );
        assert_eq!(
            get(program.data, "/v2/health/ready").await.0,
            StatusCode::SERVICE_UNAVAILABLE
        );
    }

    // Somebody is waiting: the delay is skipped, and the port closes.
    program.signal(libc::SIGINT);
    let closed = async {
        while TcpStream::connect(program.data).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("closed");
    open.write_all(rest.as_bytes()).await.expect("written");
    let mut told = String::new();
    open.read_to_string(&mut told).await.expect("an answer");
    assert!(
        told.starts_with("HTTP/1.1 200 ") && told.contains("[2.0]"),
        "{told}"
    );
    parts.send(rest.to_owned().into()).expect("open");
    drop(parts);
    let answer = answer.await.expect("a task").expect("an answer");
    assert_eq!(answer.status(), 200);
    let told = answer.into_body().collect().await.expect("a body").to_bytes();
    assert!(String::from_utf8_lossy(&told).contains("[2.0]"), "{told:?}");
    connection.await.expect("a task").expect("ended by GOAWAY");
    let status = tokio::time::timeout(PATIENCE, program.child.wait()).await;
    assert!(status.expect("it ends").expect("a status").success());
}
