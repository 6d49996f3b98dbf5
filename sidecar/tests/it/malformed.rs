//! Clients and model servers that do not keep to their protocol: what two readers could read in two ways reaches nobody, what
//! only the observer cannot read passes as it is, and a connection that went wrong is not used again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderValue, Request, StatusCode};
use http_body_util::Full;
use plumbline_inference_protocol::rest;
use plumbline_testkit::malformed;
use plumbline_testkit::predictor::FakePredictor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::harness::{TestSidecar, h1, h1_client, h2, post, soon};
use crate::model::{INFER, PREDICT};
use crate::observing::with_profile;

const HEAD: &str = "POST /v2/models/churn/infer HTTP/1.1\r\nHost: churn\r\n";

struct Pair {
    predictor: FakePredictor,
    sidecar: TestSidecar,
    /// Questions whether the model server is ready, which are not the client's.
    probes: usize,
}

impl Pair {
    async fn start() -> Self {
        let predictor = FakePredictor::echo().await;
        let sidecar = TestSidecar::start(&predictor.url(), with_profile).await;
        let probes = soon(predictor.received(1)).await.len();
        Self {
            predictor,
            sidecar,
            probes,
        }
    }

    /// Sends bytes, expects one of these statuses and a close, and nothing at the model server.
    async fn refused(&self, request: &str, statuses: &[&str]) {
        soon(malformed::refused(self.sidecar.address, request, statuses)).await;
        assert_eq!(self.received().await.len(), 0, "{request:?}");
    }

    /// What clients have sent.
    async fn received(&self) -> Vec<plumbline_testkit::predictor::Received> {
        let mut received = soon(self.predictor.received(self.probes)).await;
        received.retain(|request| request.path() != "/v2/health/ready");
        received
    }
}

#[tokio::test]
async fn lengths_that_are_no_single_number_are_refused() {
    let pair = Pair::start().await;
    for length in malformed::LENGTHS {
        pair.refused(&format!("{HEAD}Content-Length: {length}\r\n\r\nhello"), &["400"])
            .await;
    }
    let twice = format!("{HEAD}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!");
    pair.refused(&twice, &["400"]).await;
}

#[tokio::test]
async fn transfer_codings_other_than_chunked_are_refused() {
    let pair = Pair::start().await;
    for coding in malformed::TRANSFER_CODINGS {
        let request = format!("{HEAD}Transfer-Encoding: {coding}\r\n\r\n0\r\n\r\n");
        pair.refused(&request, &["400", "501"]).await;
    }
    let old = "POST /v2/models/churn/infer HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    pair.refused(old, &["400"]).await;
}

#[tokio::test]
async fn malformed_heads_are_refused() {
    let pair = Pair::start().await;
    for field in malformed::FIELDS {
        pair.refused(&format!("{HEAD}{field}\r\n\r\n"), &["400"]).await;
    }
}

#[tokio::test]
async fn large_heads_are_named() {
    let pair = Pair::start().await;
    let large = format!("{HEAD}x: {}\r\n\r\n", "x".repeat(1 << 20));
    pair.refused(&large, &["431"]).await;
    let many = format!("{HEAD}{}\r\n", "x: y\r\n".repeat(2_000));
    pair.refused(&many, &["431"]).await;
}

/// A chunk that is none ends the exchange; the model server sees no whole request, and nothing that follows is one.
#[tokio::test]
async fn malformed_chunks_never_become_a_request() {
    let pair = Pair::start().await;
    for chunk in malformed::CHUNKS {
        let hidden = "GET /hidden HTTP/1.1\r\nHost: churn\r\n\r\n";
        let request = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{chunk}{hidden}");
        let answer = soon(malformed::raw(pair.sidecar.address, request.as_bytes())).await;
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{chunk:?}\n{answer}");
        assert!(!answer.starts_with("HTTP/1.1 2"), "{chunk:?}\n{answer}");
        assert_eq!(pair.received().await.len(), 0, "{chunk:?}");
    }
}

#[tokio::test]
async fn a_length_beside_chunked_is_one_request_at_most() {
    let pair = Pair::start().await;
    let request = format!(
        "{HEAD}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: churn\r\n\r\n"
    );
    let answer = soon(malformed::raw(pair.sidecar.address, request.as_bytes())).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    let received = pair.received().await;
    assert!(received.len() <= 1, "{received:?}");
    for request in received {
        assert_eq!(request.body, "hello");
        assert_ne!(
            request.headers.contains_key("content-length"),
            request.headers.contains_key("transfer-encoding"),
        );
    }
}

/// Bodies that a decoder must not trust, by path and content type; each is answered with itself.
fn unreadable() -> Vec<Request<Full<bytes::Bytes>>> {
    let json = |path: &str, body: String| post(path, rest::JSON, body);
    let binary = |length: &str, body: &str| {
        let mut request = post(INFER, rest::OCTET_STREAM, body.to_owned());
        request.headers_mut().insert(
            rest::HEADER_LENGTH,
            HeaderValue::from_str(length).expect("a value"),
        );
        request
    };
    let tensor = |shape: &str, data: &str| {
        let body =
            format!(r#"{{"inputs":[{{"name":"tenure","datatype":"FP32","shape":{shape},"data":{data}}}]}}"#);
        json(INFER, body)
    };
    let sized = r#"{"inputs":[{"name":"tenure","datatype":"FP32","shape":[1,1],"parameters":{"binary_data_size":9}}]}"#;
    vec![
        json(INFER, "[".repeat(100_000)),
        json(PREDICT, "{\"instances\":".to_owned() + &"[".repeat(100_000)),
        tensor("[1,1]", "[1e999]"),
        tensor("[1,1]", "[NaN]"),
        tensor("[9223372036854775807,9223372036854775807]", "[1]"),
        tensor(&format!("[{}1]", "1,".repeat(100_000)), "[1]"),
        tensor("[-1,1]", "[1]"),
        tensor("[2,1]", "[1]"),
        json(INFER, r#"{"inputs":[{"name":"\ud800"}]}"#.to_owned()),
        json(INFER, String::new()),
        binary("1000", "{}"),
        binary("-1", "{}"),
        binary("18446744073709551616", "{}"),
        binary(&sized.len().to_string(), &format!("{sized}abcd")),
    ]
}

#[tokio::test]
async fn what_only_the_observer_cannot_read_passes_as_it_is() {
    let pair = Pair::start().await;
    let mut sent = 0;
    for request in unreadable() {
        let body = request.body().clone();
        let what = format!("{:?}", request.headers());
        let answer = h1(pair.sidecar.address, request).await;
        assert_eq!(answer.status, StatusCode::OK, "{what}");
        let expected = h1(
            pair.predictor.address(),
            post("/", "text/plain", whole(body).await),
        )
        .await;
        assert_eq!(answer.body, expected.body, "{what}");
        sent += 1;
    }
    pair.sidecar.nothing_is_lost(sent).await;
    assert_eq!(pair.sidecar.skipped("unparsable"), sent as f64);
    assert_eq!(
        pair.sidecar.metric("plumbline_sidecar_observer_panics_total"),
        0.0
    );
}

async fn whole(body: Full<bytes::Bytes>) -> bytes::Bytes {
    use http_body_util::BodyExt as _;
    body.collect().await.expect("in memory").to_bytes()
}

#[tokio::test]
async fn grpc_frames_that_lie_pass_as_they_are() {
    let pair = Pair::start().await;
    let bodies: [&'static [u8]; 6] = [
        b"\x00\xff\xff\xff\xffabc",
        b"\x00\x00\x00\x00\x09abc",
        b"\x01\x00\x00\x00\x03abc",
        b"\x00\x00",
        b"\x00\x00\x00\x00\x02\x0a\xff",
        b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    ];
    for body in bodies {
        let mut request = post(
            "/inference.GRPCInferenceService/ModelInfer",
            "application/grpc",
            body,
        );
        request.headers_mut().remove("host");
        let answer = h2(pair.sidecar.address, request).await;
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, body));
    }
    pair.sidecar.nothing_is_lost(bodies.len() as u64).await;
}

/// A model server of one answer: takes a head and a short body, says these bytes, and closes or waits.
struct Hostile {
    address: SocketAddr,
    connections: Arc<AtomicU64>,
    serving: JoinHandle<()>,
}

impl Hostile {
    async fn saying(answer: Vec<u8>, closes: bool) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let connections = Arc::new(AtomicU64::new(0));
        let serving = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move {
                let mut kept = Vec::new();
                while let Ok((mut stream, _peer)) = listener.accept().await {
                    let mut request = [0; 4_096];
                    let length = stream.read(&mut request).await.unwrap_or(0);
                    if request[..length].starts_with(b"GET /v2/health/ready ") {
                        let ready = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
                        let _gone = stream.write_all(ready).await;
                        continue;
                    }
                    connections.fetch_add(1, Ordering::Relaxed);
                    let _gone = stream.write_all(&answer).await;
                    if !closes {
                        kept.push(stream);
                    }
                }
            }
        });
        Self {
            address,
            connections,
            serving,
        }
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[tokio::test]
async fn answers_that_are_none_become_bad_gateway() {
    let large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(4 << 20));
    for answer in [
        "",
        "HTTP/1.1 200",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello",
        "HTTP/1.1 99 Odd\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64",
        &large,
    ] {
        let server = Hostile::saying(answer.as_bytes().to_vec(), true).await;
        let sidecar = TestSidecar::start(&format!("http://{}", server.address), |_| {}).await;
        let through = h1(sidecar.address, post(INFER, rest::JSON, "{}")).await;
        let what = &answer[..answer.len().min(60)];
        assert_eq!(through.status, StatusCode::BAD_GATEWAY, "{what:?}");
        assert!(through.json()["error"].is_string(), "{what:?}");
        sidecar.nothing_is_lost(1).await;
        assert_eq!(sidecar.skipped("upstream_failed"), 1.0, "{what:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_shorter_than_it_says_is_no_whole_one() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    ] {
        let server = Hostile::saying(answer.as_bytes().to_vec(), true).await;
        let sidecar = TestSidecar::start(&format!("http://{}", server.address), |_| {}).await;
        let mut client = h1_client(sidecar.address).await;
        // The head may be lost with the connection.
        if let Ok(through) = client.send_request(post(INFER, rest::JSON, "{}")).await {
            assert!(crate::harness::collect(through).await.broken, "{answer:?}");
        }
        sidecar.nothing_is_lost(1).await;
        assert_eq!(sidecar.skipped("upstream_failed"), 1.0, "{answer:?}");
    }
}

/// What follows an answer on its connection is no answer to the next request.
#[tokio::test]
async fn a_connection_with_bytes_left_over_is_not_used_again() {
    let answer =
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    let server = Hostile::saying(answer.as_bytes().to_vec(), false).await;
    let sidecar = TestSidecar::start(&format!("http://{}", server.address), |_| {}).await;
    for _ in 0..3 {
        let through = h1(sidecar.address, post(INFER, rest::JSON, "{}")).await;
        assert_eq!((through.status, &through.body[..]), (StatusCode::OK, &b"{}"[..]));
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 3);
}

/// Interim answers are passed over, not taken for the answer.
#[tokio::test]
async fn a_storm_of_interim_answers_ends_in_the_answer() {
    let mut answer = "HTTP/1.1 102 Processing\r\n\r\n".repeat(50);
    answer += "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    let server = Hostile::saying(answer.into_bytes(), true).await;
    let sidecar = TestSidecar::start(&format!("http://{}", server.address), |_| {}).await;
    let through = h1(sidecar.address, post(INFER, rest::JSON, "{}")).await;
    assert_eq!((through.status, &through.body[..]), (StatusCode::OK, &b"{}"[..]));
}
