//! A server on a free port, and clients that show everything of an answer.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use plumbline_inference_protocol::grpc;
use plumbline_model_server::{App, Config, ModelPath, PART};
use plumbline_service::Process;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Where `make setup` puts ONNX Runtime, unless the environment names another.
pub(crate) fn onnxruntime() -> Option<PathBuf> {
    if std::env::var_os("ORT_DYLIB_PATH").is_some() {
        return None;
    }
    let name = format!(
        "{}onnxruntime{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    );
    Some(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../.setup/onnxruntime/lib")
            .join(name),
    )
}

/// A directory of models: path and bytes.
pub(crate) fn models(files: &[(&str, Vec<u8>)]) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (path, bytes) in files {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        std::fs::write(path, bytes).expect("written");
    }
    directory
}

pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
    pub(crate) serving: JoinHandle<anyhow::Result<()>>,
    models: TempDir,
}

impl TestServer {
    /// Serves the models; fails with the server's own words when it does not start (`make setup` first).
    pub(crate) async fn start(files: &[(&str, Vec<u8>)]) -> TestServer {
        TestServer::start_with(files, |_| {}).await
    }

    pub(crate) async fn start_with(
        files: &[(&str, Vec<u8>)],
        change: impl FnOnce(&mut Config),
    ) -> TestServer {
        let mut server = TestServer::begin(files, change).await;
        tokio::select! {
            biased;
            outcome = &mut server.serving => panic!("the server does not start: {outcome:?}"),
            () = ready(&server.process) => {}
        }
        server
    }

    /// A server that answers and may still be loading its models.
    pub(crate) async fn begin(files: &[(&str, Vec<u8>)], change: impl FnOnce(&mut Config)) -> TestServer {
        TestServer::begin_in(models(files), change).await
    }

    /// The same on models that lie somewhere already.
    pub(crate) async fn begin_in(models: TempDir, change: impl FnOnce(&mut Config)) -> TestServer {
        let mut config = config(models.path());
        change(&mut config);
        let process = Process::start(PART, &config.common, serde_json::Value::Null).expect("an admin port");
        let app = match App::bind(config, &process).await {
            Ok(app) => app,
            Err(error) => panic!("the server does not start: {error:#}"),
        };
        let address = app.address();
        let serving = tokio::spawn(app.serve());
        TestServer {
            address,
            process,
            serving,
            models,
        }
    }

    /// Where its models lie.
    pub(crate) fn repository(&self) -> &Path {
        self.models.path()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(Method::POST, path, &[], body).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        send_to(self.address, method, path, headers, body).await
    }

    /// A page of the admin port.
    pub(crate) async fn admin(&self, path: &str) -> Answer {
        send_to(self.process.admin_address(), Method::GET, path, &[], Bytes::new()).await
    }

    /// The index: name, version, state and reason of each line.
    pub(crate) async fn index(&self) -> Vec<[String; 4]> {
        let lines = self.admin("/models").await.json();
        let text = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let lines = lines.as_array().expect("a list").iter();
        lines
            .map(|line| ["name", "version", "state", "reason"].map(|key| text(line, key)))
            .collect()
    }

    /// Calls an RPC with one message.
    pub(crate) async fn call<M: prost::Message, R: prost::Message + Default>(
        &self,
        path: &str,
        message: &M,
    ) -> Result<R, Failure> {
        let frame = grpc::encode_frame(message);
        self.call_raw(path, &[], frame)
            .await
            .map(|body| grpc::decode_frame(&body).expect("a message"))
    }

    /// Calls an RPC with the bytes of a body.
    pub(crate) async fn call_raw(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Bytes, Failure> {
        let stream = TcpStream::connect(self.address).await.expect("connected");
        let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("a handshake");
        tokio::spawn(connection);
        let mut request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).expect("a request");
        let (head, body) = client
            .send_request(request)
            .await
            .expect("an answer")
            .into_parts();
        assert_eq!(head.status, StatusCode::OK);
        assert_eq!(head.headers["content-type"], "application/grpc");
        assert!(head.headers.contains_key("x-request-id"));
        let collected = body.collect().await.expect("a body");
        let trailers = collected.trailers().cloned();
        let body = collected.to_bytes();
        let status = trailers.as_ref().unwrap_or(&head.headers);
        let code = status["grpc-status"]
            .to_str()
            .expect("a number")
            .parse()
            .expect("a number");
        if code == 0 {
            assert!(trailers.is_some(), "success is told after the message");
            return Ok(body);
        }
        assert!(trailers.is_none() && body.is_empty(), "an error is trailers only");
        let message = status
            .get("grpc-message")
            .map_or(&b""[..], |message| message.as_bytes());
        Err(Failure {
            code,
            message: grpc::decode_status_message(message),
        })
    }

    /// Opens a streaming RPC. An RPC that takes one message is sent it as `whole`, and nothing after it.
    pub(crate) async fn open(&self, path: &str, headers: &[(&str, &str)], whole: Option<Bytes>) -> Call {
        let tcp = TcpStream::connect(self.address).await.expect("connected");
        let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
            .await
            .expect("a handshake");
        tokio::spawn(connection);
        let mut request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (sender, body) = mpsc::unbounded_channel();
        let mut sender = Some(sender);
        if let Some(whole) = whole {
            let sender = sender.take().expect("made above");
            sender.send(whole).expect("the body is there");
        }
        let request = request.body(SentBody(body)).expect("a request");
        let answer = client.send_request(request).await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        let (head, body) = answer.into_parts();
        Call {
            sender,
            head: head.headers,
            body,
            parser: grpc::FrameParser::new(1 << 20),
        }
    }

    /// A line of the metrics page.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let text = String::from_utf8(self.process.metrics().render()).expect("text");
        let line = text.lines().find(|line| {
            line.strip_prefix(series)
                .is_some_and(|rest| rest.starts_with(' '))
        })?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

/// One request on a connection of its own.
async fn send_to(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let stream = TcpStream::connect(address).await.expect("connected");
    let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).expect("a request");
    let (head, body) = client
        .send_request(request)
        .await
        .expect("an answer")
        .into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    Answer {
        status: head.status,
        headers: head.headers,
        body,
    }
}

/// A request's body, piece by piece.
pub(crate) struct SentBody(pub(crate) mpsc::UnboundedReceiver<Bytes>);

impl Body for SentBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = self.0.poll_recv(context);
        piece.map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// A streaming RPC that is open.
pub(crate) struct Call {
    sender: Option<mpsc::UnboundedSender<Bytes>>,
    head: HeaderMap,
    body: Incoming,
    parser: grpc::FrameParser,
}

impl Call {
    /// Sends bytes of the body.
    pub(crate) fn send(&self, bytes: impl Into<Bytes>) {
        let sender = self.sender.as_ref().expect("the client is not done");
        sender.send(bytes.into()).expect("the call is open");
    }

    /// Sends no more.
    pub(crate) fn done(&mut self) {
        self.sender = None;
    }

    /// The next message, or the status at the end: its code and text.
    pub(crate) async fn next<M: prost::Message + Default>(&mut self) -> Result<M, Failure> {
        let status = |headers: &HeaderMap| Failure {
            code: headers["grpc-status"]
                .to_str()
                .expect("text")
                .parse()
                .expect("a number"),
            message: headers.get("grpc-message").map_or(String::new(), |message| {
                grpc::decode_status_message(message.as_bytes())
            }),
        };
        if self.head.contains_key("grpc-status") {
            return Err(status(&self.head));
        }
        loop {
            if let Some(message) = self.parser.next_message().expect("frames") {
                return Ok(M::decode(message).expect("a message"));
            }
            let frame = self.body.frame().await.expect("a status at the end");
            match frame.expect("a frame").into_data() {
                Ok(data) => self.parser.push(data),
                Err(trailers) => return Err(status(trailers.trailers_ref().expect("trailers"))),
            }
        }
    }
}

/// Waits until the process is ready.
pub(crate) async fn ready(process: &Process) {
    let ready = async {
        while !process.readiness().is_ready() {
            tokio::task::yield_now().await;
        }
    };
    let outcome = tokio::time::timeout(PATIENCE, ready).await;
    assert!(outcome.is_ok(), "not ready: {:?}", process.readiness().pending());
}

/// Waits until `check` holds, asking again and again.
pub(crate) async fn eventually(what: &str, check: impl AsyncFn() -> bool) {
    let holds = async {
        while !check().await {
            tokio::task::yield_now().await;
        }
    };
    let outcome = tokio::time::timeout(PATIENCE, holds).await;
    assert!(outcome.is_ok(), "it never happens that {what}");
}

/// For what must happen, however slow the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn config(repository: &Path) -> Config {
    let mut config = Config::on_loopback(Vec::<ModelPath>::new());
    config.repository.model_repository = Some(repository.to_owned());
    config.onnxruntime = onnxruntime();
    config
}

/// Starts a server that must not start, and returns what it says.
pub(crate) async fn start_error(config: Config) -> String {
    let process = Process::start(PART, &config.common, serde_json::Value::Null).expect("an admin port");
    let outcome = match App::bind(config, &process).await {
        Ok(app) => tokio::time::timeout(PATIENCE, app.serve())
            .await
            .expect("the server starts"),
        Err(error) => Err(error),
    };
    format!("{:#}", outcome.expect_err("the server does not serve"))
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().expect("an error text").to_owned()
    }
}

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: i32,
    pub(crate) message: String,
}
