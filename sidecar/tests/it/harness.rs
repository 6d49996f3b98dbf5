//! A sidecar on free ports, and clients that see everything of an answer.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Version};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use plumbline_service::config::ParseSetting as _;
use plumbline_service::upstream::Target;
use plumbline_service::{Part, Process};
use plumbline_sidecar::{App, Config};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Nothing in these tests takes this long, unless it never comes.
const LIMIT: Duration = Duration::from_secs(15);

/// A running sidecar.
pub(crate) struct TestSidecar {
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
    settled: watch::Receiver<u64>,
    serving: JoinHandle<anyhow::Result<()>>,
}

impl TestSidecar {
    /// Starts one in front of `upstream`.
    pub(crate) async fn start(upstream: &str, adjust: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::on_loopback(Target::parse_setting(upstream).expect("a URL"));
        config.model_dir = "/nonexistent".into();
        // Tests of learning ask for it; the others count what has no profile.
        config.learn_rows = 0;
        adjust(&mut config);
        let part = Part {
            name: "sidecar",
            version: "0",
        };
        let process = Process::start(part, &config.common, serde_json::Value::Null).expect("an admin port");
        let app = App::bind(config, &process).await.expect("bound");
        let (address, settled) = (app.address(), app.settled());
        let serving = tokio::spawn(app.serve());
        Self {
            address,
            process,
            settled,
            serving,
        }
    }

    /// Waits until the observer is done with `count` exchanges.
    pub(crate) async fn settled(&self, count: u64) {
        let mut settled = self.settled.clone();
        let reached = settled.wait_for(|settled| *settled >= count);
        tokio::time::timeout(LIMIT, reached)
            .await
            .expect("in time")
            .expect("the observer runs");
    }

    /// Stops it and waits for its end.
    pub(crate) async fn stop(self) -> Process {
        self.process.shutdown().begin_now();
        let ended = tokio::time::timeout(LIMIT, self.serving).await.expect("in time");
        ended.expect("no panic").expect("no error");
        self.process
    }

    /// The value of the series that starts with `series`, labels included; 0 when it is not there.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        metric(&self.process, series)
    }

    /// Waits until a series has this value.
    pub(crate) async fn metric_is(&self, series: &str, value: f64) {
        eventually(&format!("{series} = {value}"), || self.metric(series) == value).await;
    }

    /// Rows skipped for `reason`, over all models.
    pub(crate) fn skipped(&self, reason: &str) -> f64 {
        let label = format!("reason=\"{reason}\"");
        exposition(&self.process)
            .lines()
            .filter(|line| line.starts_with("plumbline_rows_skipped_total{") && line.contains(&label))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    /// Every exchange was either observed or skipped.
    pub(crate) async fn nothing_is_lost(&self, forwarded: u64) {
        let count = |outcome: &str| {
            self.metric(&format!(
                "plumbline_sidecar_exchanges_total{{outcome=\"{outcome}\"}}"
            ))
        };
        eventually("observed + skipped = forwarded", || {
            count("forwarded") == forwarded as f64 && count("observed") + count("skipped") == forwarded as f64
        })
        .await;
    }

    /// A page of the admin port.
    pub(crate) async fn admin(&self, path: &str) -> Answer {
        let request = Request::get(path)
            .header("host", "admin")
            .body(Full::default())
            .expect("a request");
        h1(self.process.admin_address(), request).await
    }
}

pub(crate) fn exposition(process: &Process) -> String {
    String::from_utf8(process.metrics().render()).expect("text")
}

pub(crate) fn metric(process: &Process, series: &str) -> f64 {
    let text = exposition(process);
    let line = text.lines().find(|line| {
        line.strip_prefix(series)
            .is_some_and(|rest| rest.starts_with(' '))
    });
    line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok())
        .unwrap_or(0.0)
}

/// Looks often until it holds; what it looks at has no event to wait for.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let looking = async {
        let mut often = tokio::time::interval(Duration::from_millis(2));
        while !holds() {
            often.tick().await;
        }
    };
    tokio::time::timeout(LIMIT, looking)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

/// Waits for an event that must come.
pub(crate) async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, event).await.expect("in time")
}

/// Everything of an answer.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
    /// The body did not come to its proper end.
    pub(crate) broken: bool,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// Without what RFC 9110 lets a proxy add.
    pub(crate) fn comparable(mut self) -> Self {
        self.headers.remove("date");
        self
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("connected");
    stream.set_nodelay(true).expect("an option of the socket");
    stream
}

pub(crate) async fn h1_client<B>(address: SocketAddr) -> http1::SendRequest<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let stream = connect(address).await;
    let (client, connection) = http1::handshake(TokioIo::new(stream)).await.expect("handshake");
    tokio::spawn(connection);
    client
}

pub(crate) async fn h2_client<B>(address: SocketAddr) -> http2::SendRequest<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let stream = connect(address).await;
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("handshake");
    tokio::spawn(connection);
    client
}

/// Sends one request on a connection of its own.
pub(crate) async fn h1<B>(address: SocketAddr, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let sending = async {
        h1_client(address)
            .await
            .send_request(request)
            .await
            .expect("an answer")
    };
    collect(tokio::time::timeout(LIMIT, sending).await.expect("in time")).await
}

/// The same over HTTP/2.
pub(crate) async fn h2<B>(address: SocketAddr, mut request: Request<B>) -> Answer
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static,
{
    *request.version_mut() = Version::HTTP_2;
    let what = format!("{} {}", request.method(), request.uri());
    let sending = async {
        let answer = h2_client(address).await.send_request(request).await;
        answer.unwrap_or_else(|error| panic!("{what} is not answered: {error:?}"))
    };
    collect(tokio::time::timeout(LIMIT, sending).await.expect("in time")).await
}

pub(crate) async fn collect(response: http::Response<hyper::body::Incoming>) -> Answer {
    let (head, mut body) = response.into_parts();
    let (mut data, mut trailers, mut broken) = (Vec::new(), None, false);
    while let Some(frame) = tokio::time::timeout(LIMIT, body.frame()).await.expect("in time") {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(piece)) => data.extend_from_slice(&piece),
            Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
            Err(_) => {
                broken = true;
                break;
            }
        }
    }
    Answer {
        status: head.status,
        headers: head.headers,
        body: data.into(),
        trailers,
        broken,
    }
}

/// A request with a body that is sent whole.
pub(crate) fn post(path: &str, content_type: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(format!("http://churn.example{path}"))
        .header("host", "churn.example")
        .header("content-type", content_type)
        .body(Full::new(body.into()))
        .expect("a request")
}
