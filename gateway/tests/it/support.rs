//! A gateway on loopback, and clients that speak to it over connections of their own.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use plumbline_gateway::{App, Config, PART, RouteSpec};
use plumbline_inference_protocol::grpc::proto;
use plumbline_service::config::ParseSetting as _;
use plumbline_service::upstream::Target;
use plumbline_service::{Process, Readiness, Shutdown};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant};

pub(crate) use plumbline_testkit::predictor::{Cut, FakePredictor, RefusingPort, Reply, grpc_message};

/// Time for what happens beside a test; far more than it takes.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct TestGateway {
    pub(crate) address: SocketAddr,
    /// Of the port under TLS, if there is one.
    pub(crate) tls_address: Option<SocketAddr>,
    process: Process,
    served: JoinHandle<anyhow::Result<()>>,
}

/// `churn` at these endpoints.
pub(crate) fn churn(urls: &[String]) -> RouteSpec {
    route("churn", urls)
}

pub(crate) fn route(model: &str, urls: &[String]) -> RouteSpec {
    let target = |url: &String| Target::parse_setting(url).expect("an endpoint");
    RouteSpec::new(model, urls.iter().map(target).collect())
}

impl TestGateway {
    /// `churn` at one predictor.
    pub(crate) fn before(predictor: &FakePredictor) -> Self {
        Self::start(vec![churn(&[predictor.url()])], |_| {})
    }

    pub(crate) fn start(routes: Vec<RouteSpec>, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::on_loopback(routes);
        change(&mut config);
        let process = Process::start(PART, &config.common, serde_json::Value::Null).expect("an admin port");
        let app = App::bind(config, &process).expect("a data port");
        let (address, tls_address) = (app.address(), app.tls_address());
        let served = tokio::spawn(app.serve());
        Self {
            address,
            tls_address,
            process,
            served,
        }
    }

    pub(crate) fn readiness(&self) -> &Readiness {
        self.process.readiness()
    }

    /// Waits until what the gateway needs for a start is there.
    pub(crate) async fn ready(&self) {
        let mut changes = self.readiness().watch();
        let ready = changes.wait_for(|()| self.readiness().is_ready());
        let waited = tokio::time::timeout(PATIENCE, ready).await;
        waited
            .expect("the gateway does not become ready")
            .expect("the gateway is there");
    }

    /// Waits until a page of the admin port says so: it shows what happens beside the test.
    pub(crate) async fn until(&self, path: &str, holds: impl Fn(&str) -> bool) {
        let began = Instant::now();
        loop {
            let page = self.admin(path).await;
            if holds(&page) {
                return;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{path} does not come to say what is waited for:\n{page}"
            );
            tokio::task::yield_now().await;
        }
    }

    /// Waits until this is among the series.
    pub(crate) async fn until_counted(&self, series: &str) {
        self.until("/metrics", |page| page.contains(series)).await;
    }

    pub(crate) fn shutdown(&self) -> Shutdown {
        self.process.shutdown().clone()
    }

    pub(crate) fn begin_shutdown(&self) {
        self.process.shutdown().begin_now();
    }

    /// Waits until requests in flight have ended.
    pub(crate) async fn drained(self) {
        self.served.await.expect("the task ends").expect("no error");
    }

    /// One page of the admin port.
    pub(crate) async fn admin(&self, path: &str) -> String {
        let request = Request::get(path).body(Full::default());
        text(self.send_to_admin(request.expect("a request")).await).await
    }

    pub(crate) async fn send_to_admin(&self, mut request: Request<Full<Bytes>>) -> Response<Incoming> {
        let stream = TcpStream::connect(self.process.admin_address())
            .await
            .expect("connected");
        let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await.expect("handshake");
        tokio::spawn(connection);
        let host = HeaderValue::from_static("admin");
        request.headers_mut().insert(HOST, host);
        client.send_request(request).await.expect("an answer")
    }

    /// A new HTTP/1.1 connection.
    pub(crate) async fn http1<B>(&self) -> http1::SendRequest<B>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream = connect(self.address).await;
        let (client, connection) = http1::handshake(TokioIo::new(stream)).await.expect("handshake");
        tokio::spawn(connection);
        client
    }

    /// A new HTTP/2 connection.
    pub(crate) async fn http2<B>(&self) -> http2::SendRequest<B>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream = connect(self.address).await;
        let io = TokioIo::new(stream);
        let (client, connection) = http2::handshake(TokioExecutor::new(), io)
            .await
            .expect("handshake");
        tokio::spawn(connection);
        client
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        self.http1().await.send_request(request).await.expect("an answer")
    }

    pub(crate) async fn infer(&self, model: &str) -> Response<Incoming> {
        self.send(infer(model)).await
    }

    /// A request to `churn` whose answer is awaited elsewhere.
    pub(crate) async fn spawn_infer(&self) -> JoinHandle<(StatusCode, String)> {
        let mut client = self.http1().await;
        tokio::spawn(async move {
            let answer = client.send_request(infer("churn")).await.expect("an answer");
            (answer.status(), text(answer).await)
        })
    }

    pub(crate) async fn grpc(&self, request: Request<Full<Bytes>>) -> Grpc {
        let answer = self.http2().await.send_request(request).await.expect("an answer");
        Grpc::of(answer).await
    }
}

/// A connection whose small frames do not wait for each other's acknowledgements.
async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("connected");
    stream.set_nodelay(true).expect("an option of the socket");
    stream
}

/// A whole gRPC answer.
#[derive(Debug)]
pub(crate) struct Grpc {
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Grpc {
    pub(crate) async fn of(answer: Response<Incoming>) -> Self {
        assert_eq!(
            answer.status(),
            StatusCode::OK,
            "gRPC speaks through its own status"
        );
        let (head, body) = answer.into_parts();
        let body = body.collect().await.expect("a body");
        Self {
            headers: head.headers,
            trailers: body.trailers().cloned().unwrap_or_default(),
            body: body.to_bytes(),
        }
    }

    /// Of the trailers, or of the headers when there are only those.
    pub(crate) fn status(&self) -> &str {
        let value = self
            .trailers
            .get("grpc-status")
            .or(self.headers.get("grpc-status"));
        value.and_then(|value| value.to_str().ok()).unwrap_or("none")
    }

    pub(crate) fn message(&self) -> &str {
        let value = self
            .trailers
            .get("grpc-message")
            .or(self.headers.get("grpc-message"));
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

pub(crate) const ROW: &str = r#"{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1]}]}"#;

pub(crate) fn infer(model: &str) -> Request<Full<Bytes>> {
    post(&format!("/v2/models/{model}/infer"), ROW)
}

pub(crate) fn post(path: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::post(path)
        .header("host", "gateway")
        .header("content-type", "application/json")
        .body(Full::from(body))
        .expect("a request")
}

pub(crate) fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path)
        .header("host", "gateway")
        .body(Full::default())
        .expect("a request")
}

pub(crate) fn grpc_infer(model: &str) -> Request<Full<Bytes>> {
    grpc_request("inference.GRPCInferenceService/ModelInfer", model_infer(model))
}

pub(crate) fn grpc_request(method: &str, body: Bytes) -> Request<Full<Bytes>> {
    Request::post(format!("http://gateway/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(body))
        .expect("a request")
}

/// A framed `ModelInferRequest`.
pub(crate) fn model_infer(model: &str) -> Bytes {
    let request = proto::ModelInferRequest {
        model_name: model.to_owned(),
        raw_input_contents: vec![Bytes::from_static(&[0; 64])],
        ..proto::ModelInferRequest::default()
    };
    plumbline_inference_protocol::grpc::encode_frame(&request)
}

pub(crate) async fn text(answer: Response<Incoming>) -> String {
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8(body.to_vec()).expect("text")
}

pub(crate) async fn error_of(answer: Response<Incoming>) -> String {
    assert_eq!(answer.headers()["content-type"], "application/json");
    let body: serde_json::Value = serde_json::from_str(&text(answer).await).expect("JSON");
    body["error"].as_str().expect("an error").to_owned()
}
