//! What goes in comes out: direct and through the sidecar.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Full};
use plumbline_testkit::predictor::{Cut, FakePredictor, Received, RefusingPort, Reply, grpc_message};

use crate::harness::{Answer, TestSidecar, collect, eventually, h1, h1_client, h2, h2_client, post, soon};

const LARGE: usize = 3 << 20;

/// Answers of many kinds, by path.
fn script(request: &Received) -> Reply {
    match request.path() {
        "/json" => Reply::json(r#"{"predictions":[1]}"#)
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2"),
        "/head" => Reply::status(StatusCode::OK).header("content-length", "22"),
        "/missing" => Reply::json(r#"{"error":"no"}"#).with_status(StatusCode::NOT_FOUND),
        "/no-content" => Reply::status(StatusCode::NO_CONTENT).header("x-why", "nothing to say"),
        "/not-modified" => Reply::status(StatusCode::NOT_MODIFIED).header("etag", "\"1\""),
        "/large" => Reply::status(StatusCode::OK).chunk(vec![7; LARGE]),
        "/pieces" => Reply::status(StatusCode::OK)
            .chunk("one")
            .chunk("two")
            .chunk(vec![3; 70_000]),
        "/trailers" => Reply::status(StatusCode::OK)
            .chunk("body")
            .trailer("x-checksum", "abc"),
        "/cut" => Reply::json("0123456789").cut(Cut::MidBody),
        "/hop" => Reply::json("{}")
            .header("connection", "x-private")
            .header("x-private", "1")
            .header("x-public", "2"),
        _ => Reply::echo(request),
    }
}

/// The part of a request that must arrive as it was sent.
fn essence(request: &Received) -> (Method, String, HeaderMap, Bytes, HeaderMap) {
    let target = request.uri.path_and_query().expect("a path").to_string();
    let mut headers = request.headers.clone();
    headers.remove("host");
    headers.remove("connection");
    (
        request.method.clone(),
        target,
        headers,
        request.body.clone(),
        request.trailers.clone(),
    )
}

fn requests() -> Vec<Request<Full<Bytes>>> {
    let get = |path: &str| {
        let builder = Request::get(format!("http://churn.example{path}")).header("host", "churn.example");
        builder.body(Full::default()).expect("a request")
    };
    let mut with_trailers = get("/trailers");
    with_trailers
        .headers_mut()
        .insert("te", "trailers".parse().expect("a value"));
    let mut head = get("/head");
    *head.method_mut() = Method::HEAD;
    let mut odd = post(
        "/v2/models/ch%C3%BCrn/infer?x=1&y=%2F",
        "application/json",
        r#"{"inputs":[]}"#,
    );
    for (name, value) in [
        ("x-request-id", "order-17"),
        ("x-twice", "1"),
        ("x-twice", "2"),
        ("x-empty", ""),
    ] {
        odd.headers_mut().append(name, value.parse().expect("a value"));
    }
    vec![
        get("/json?q=1"),
        head,
        get("/missing"),
        get("/no-content"),
        get("/not-modified"),
        get("/large"),
        get("/pieces"),
        with_trailers,
        odd,
        post("/empty", "text/plain", ""),
        post("/upload", "application/octet-stream", vec![5; LARGE]),
        post("/v1/models/churn:predict", "application/json", "not JSON at all"),
    ]
}

#[tokio::test]
async fn http1_answers_and_requests_are_the_same_as_direct() {
    let predictor = FakePredictor::answering(script).await;
    let sidecar = TestSidecar::start(&predictor.url(), |_| {}).await;
    for (direct, through) in requests().into_iter().zip(requests()) {
        let what = format!("{} {}", direct.method(), direct.uri());
        let expected = h1(predictor.address(), direct).await.comparable();
        let actual = h1(sidecar.address, through).await.comparable();
        assert_eq!(actual, expected, "{what}");
        same_last_two(&predictor, &what).await;
    }
}

#[tokio::test]
async fn http2_answers_and_requests_are_the_same_as_direct() {
    let predictor = FakePredictor::answering(script).await;
    let sidecar = TestSidecar::start(&predictor.url(), |_| {}).await;
    for (mut direct, mut through) in requests().into_iter().zip(requests()) {
        let what = format!("{} {}", direct.method(), direct.uri());
        direct.headers_mut().remove("host");
        through.headers_mut().remove("host");
        let expected = h2(predictor.address(), direct).await.comparable();
        let actual = h2(sidecar.address, through).await.comparable();
        assert_eq!(actual, expected, "{what}");
        let last = same_last_two(&predictor, &what).await;
        assert_eq!(
            (last.version, last.uri.host()),
            (Version::HTTP_2, Some("churn.example")),
            "{what}"
        );
    }
}

/// The last two requests, one direct and one through the sidecar, were the same.
async fn same_last_two(predictor: &FakePredictor, what: &str) -> Received {
    let mut received: Vec<Received> = soon(predictor.received(2)).await;
    received.retain(|request| request.path() != "/v2/health/ready");
    let [.., direct, through] = received.as_slice() else {
        panic!("two requests")
    };
    assert_eq!(essence(through), essence(direct), "{what}");
    assert_eq!(through.version, direct.version, "{what}");
    through.clone()
}

#[tokio::test]
async fn what_belongs_to_a_connection_stays_there() {
    let predictor = FakePredictor::answering(script).await;
    let sidecar = TestSidecar::start(&predictor.url(), |_| {}).await;
    let mut request = post("/hop", "text/plain", "x");
    for (name, value) in [
        ("connection", "x-mine, authorization"),
        ("x-mine", "1"),
        ("authorization", "Bearer t"),
        ("keep-alive", "timeout=5"),
        ("x-theirs", "2"),
    ] {
        request
            .headers_mut()
            .insert(name, value.parse().expect("a value"));
    }
    let answer = h1(sidecar.address, request).await;
    assert_eq!(answer.headers.get("x-private"), None);
    assert_eq!(answer.headers["x-public"], "2");
    let received = soon(predictor.received(1))
        .await
        .into_iter()
        .find(|request| request.path() == "/hop");
    let received = received.expect("forwarded");
    assert_eq!(
        (received.header("x-mine"), received.header("keep-alive")),
        ("", "")
    );
    assert_eq!(
        (received.header("authorization"), received.header("x-theirs")),
        ("Bearer t", "2")
    );
}

#[tokio::test]
async fn grpc_calls_keep_their_trailers_and_errors() {
    let predictor = FakePredictor::answering(|request| match request.path() {
        "/inference.GRPCInferenceService/ModelReady" => Reply::grpc(b"\x08\x01"),
        _ => Reply::grpc_error(5, "Request for unknown model"),
    })
    .await;
    let sidecar = TestSidecar::start(&predictor.url(), |_| {}).await;
    for method in ["ModelReady", "ModelInfer"] {
        let request = || {
            let path = format!("/inference.GRPCInferenceService/{method}");
            let mut request = post(&path, "application/grpc", grpc_message(b"\x0a\x05churn"));
            request
                .headers_mut()
                .insert("te", "trailers".parse().expect("a value"));
            request
                .headers_mut()
                .insert("grpc-timeout", "5S".parse().expect("a value"));
            request.headers_mut().remove("host");
            request
        };
        let expected = h2(predictor.address(), request()).await.comparable();
        let actual = h2(sidecar.address, request()).await.comparable();
        assert_eq!(actual, expected, "{method}");
        same_last_two(&predictor, method).await;
    }
}

#[tokio::test]
async fn frames_pass_in_both_directions_before_the_stream_ends() {
    let predictor = FakePredictor::streaming_echo().await;
    let sidecar = TestSidecar::start(&predictor.url(), |_| {}).await;
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(4);
    let mut request = post(
        "/inference.GRPCInferenceService/ModelStreamInfer",
        "application/grpc",
        "",
    )
    .map(|_| body);
    request.headers_mut().remove("host");
    let mut client = h2_client(sidecar.address).await;
    let answer = tokio::spawn(async move { client.send_request(request).await.expect("an answer") });
    sender
        .send_data(grpc_message(b"first"))
        .await
        .expect("the body is read");
    let mut answer = answer.await.expect("the task ends").into_body();
    for text in ["first", "second", "third"] {
        // A proxy that waits for the end of either side would never get here.
        let frame = answer.frame().await.expect("a frame").expect("no error");
        assert_eq!(frame.into_data().expect("data"), grpc_message(text.as_bytes()));
        let next = if text == "first" { "second" } else { "third" };
        if text != "third" {
            sender
                .send_data(grpc_message(next.as_bytes()))
                .await
                .expect("the body is read");
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().expect("a value"));
    sender
        .send_trailers(trailers.clone())
        .await
        .expect("the body is read");
    drop(sender);
    let end = answer.frame().await.expect("trailers").expect("no error");
    assert_eq!(end.into_trailers().expect("trailers"), trailers);
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_end_cleanly() {
    let predictor = FakePredictor::answering(script).await;
    let sidecar = TestSidecar::start(&predictor.url(), |_| {}).await;
    let over_h1 = h1(sidecar.address, post("/cut", "text/plain", "x")).await;
    assert!(over_h1.broken);
    // A stream that is reset may have lost its head as well.
    let mut client = h2_client(sidecar.address).await;
    if let Ok(answer) = client.send_request(post("/cut", "text/plain", "x")).await {
        assert!(collect(answer).await.broken);
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let predictor = FakePredictor::holding(script).await;
    let sidecar = TestSidecar::start(&predictor.url(), |_| {}).await;
    for round in 1..=2_usize {
        let request = post("/v2/models/churn/infer", "application/json", "{}");
        let waiting = if round == 1 {
            let mut client = h1_client(sidecar.address).await;
            tokio::spawn(async move { drop(client.send_request(request).await) })
        } else {
            let mut client = h2_client(sidecar.address).await;
            tokio::spawn(async move { drop(client.send_request(request).await) })
        };
        let infers = || async {
            let received = soon(predictor.received(1)).await;
            received
                .iter()
                .filter(|request| request.path().ends_with("/infer"))
                .count()
        };
        while infers().await < round {
            soon(predictor.received(predictor.received_so_far() + 1)).await;
        }
        waiting.abort();
        eventually("the exchange is given up", || {
            sidecar.skipped("client_gone") == round as f64
        })
        .await;
    }
    soon(predictor.aborted(2)).await;
    sidecar.nothing_is_lost(2).await;
}

#[tokio::test]
async fn a_model_server_that_is_away_is_told_in_the_clients_protocol() {
    let port = RefusingPort::new();
    let sidecar = TestSidecar::start(&port.url(), |_| {}).await;
    let answer = h1(
        sidecar.address,
        post("/v2/models/churn/infer", "application/json", "{}"),
    )
    .await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.json()["error"], "cannot connect to the model server");
    assert_eq!(answer.headers["retry-after"], "1");
    let answer = h2(sidecar.address, grpc_infer()).await;
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b""[..]));
    assert_eq!(
        (&answer.headers["grpc-status"], &answer.headers["content-type"]),
        (
            &HeaderValue::from_static("14"),
            &HeaderValue::from_static("application/grpc"),
        )
    );
    assert!(sidecar.metric("plumbline_sidecar_upstream_failures_total{reason=\"connect\"}") >= 2.0);
    assert_eq!(sidecar.skipped("upstream_failed"), 2.0);
    sidecar.nothing_is_lost(2).await;
    let ready = sidecar.admin("/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        String::from_utf8_lossy(&ready.body).contains("the model server at"),
        "{ready:?}"
    );
}

fn grpc_infer() -> Request<Full<Bytes>> {
    let mut request = post(
        "/inference.GRPCInferenceService/ModelInfer",
        "application/grpc",
        grpc_message(b"\x0a\x05churn"),
    );
    request.headers_mut().remove("host");
    request
}

#[tokio::test]
async fn a_model_server_that_is_silent_times_out() {
    let predictor = FakePredictor::holding(script).await;
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        config.upstream_timeout = Duration::from_millis(50);
    })
    .await;
    let answer = h1(
        sidecar.address,
        post("/v2/models/churn/infer", "application/json", "{}"),
    )
    .await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    let answer = h2(sidecar.address, grpc_infer()).await;
    assert_eq!(answer.headers["grpc-status"], "4");
}

#[tokio::test]
async fn a_slow_upload_is_not_a_slow_answer() {
    let predictor = FakePredictor::answering(script).await;
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        config.upstream_timeout = Duration::from_millis(20);
    })
    .await;
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    let request = post("/upload", "text/plain", "").map(|_| body);
    let mut client = h1_client(sidecar.address).await;
    let answer = tokio::spawn(async move { client.send_request(request).await.expect("an answer") });
    sender.send_data("first".into()).await.expect("the body is read");
    soon(predictor.started(1)).await;
    // Several times the limit, by the same clock.
    tokio::time::timeout(Duration::from_millis(100), predictor.received(1_000))
        .await
        .expect_err("still open");
    assert!(!answer.is_finished());
    sender.send_data(" last".into()).await.expect("the body is read");
    drop(sender);
    let answer: Answer = collect(answer.await.expect("the task ends")).await;
    assert_eq!(
        (answer.status, &answer.body[..]),
        (StatusCode::OK, &b"first last"[..])
    );
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_costs_no_request() {
    let predictor = FakePredictor::answering(script).await;
    let sidecar = TestSidecar::start(&predictor.url(), |_| {}).await;
    for _round in 0..20 {
        let posted = h1(sidecar.address, post("/json", "text/plain", "x")).await;
        assert_eq!(posted.status, StatusCode::OK);
        let over_h2 = h2(sidecar.address, post("/json", "text/plain", "x")).await;
        assert_eq!(over_h2.status, StatusCode::OK);
        soon(predictor.drop_connections()).await;
        let request = Request::get("/json")
            .header("host", "churn")
            .body(Full::<Bytes>::default());
        let got = h1(sidecar.address, request.expect("a request")).await;
        assert_eq!(got.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn connections_to_the_model_server_are_reused() {
    let predictor = FakePredictor::answering(script).await;
    let sidecar = TestSidecar::start(&predictor.url(), |_| {}).await;
    eventually("ready", || sidecar.process.readiness().is_ready()).await;
    let mut client = h1_client(sidecar.address).await;
    for path in ["/json", "/pieces", "/no-content", "/large", "/json"].repeat(10) {
        let answer = client
            .send_request(post(path, "text/plain", "x"))
            .await
            .expect("an answer");
        collect(answer).await;
        client.ready().await.expect("kept alive");
    }
    // One for the client, and at most one more for the readiness probe that came in between.
    assert!(predictor.accepted() <= 3, "{} connections", predictor.accepted());
}

#[tokio::test]
async fn a_client_that_waits_for_continue_gets_it() {
    let predictor = FakePredictor::answering(script).await;
    let sidecar = TestSidecar::start(&predictor.url(), |_| {}).await;
    let mut stream = tokio::net::TcpStream::connect(sidecar.address)
        .await
        .expect("connected");
    let (mut read, mut write) = stream.split();
    let head = "POST /echo HTTP/1.1\r\nhost: churn\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut write, head.as_bytes())
        .await
        .expect("written");
    let text = read_until(&mut read, "\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 100 "), "{text}");
    tokio::io::AsyncWriteExt::write_all(&mut write, b"rows")
        .await
        .expect("written");
    let text = read_until(&mut read, "rows").await;
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
}

async fn read_until(read: &mut (impl tokio::io::AsyncRead + Unpin), end: &str) -> String {
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).ends_with(end) {
        let byte = tokio::io::AsyncReadExt::read_u8(read).await.expect("more");
        text.push(byte);
    }
    String::from_utf8(text).expect("text")
}

#[tokio::test]
async fn a_get_with_a_body_of_unknown_length_keeps_it() {
    let predictor = FakePredictor::answering(script).await;
    let sidecar = TestSidecar::start(&predictor.url(), |_| {}).await;
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(2);
    for piece in ["one", "two"] {
        sender.send_data(piece.into()).await.expect("room");
    }
    drop(sender);
    let request = Request::get("/echo")
        .header("host", "churn")
        .header("transfer-encoding", "chunked");
    let answer = h1(sidecar.address, request.body(body).expect("a request")).await;
    assert_eq!(answer.body, "onetwo");
}

#[tokio::test]
async fn readiness_follows_the_model_server() {
    let predictor = FakePredictor::answering(|_| Reply::status(StatusCode::SERVICE_UNAVAILABLE)).await;
    let sidecar = TestSidecar::start(&predictor.url(), |_| {}).await;
    soon(predictor.received(1)).await;
    let ready = || sidecar.process.readiness().is_ready();
    assert!(!ready());
    predictor.script(script);
    eventually("ready", ready).await;
    predictor.script(|_| Reply::status(StatusCode::SERVICE_UNAVAILABLE));
    eventually("not ready", || !ready()).await;
    assert_eq!(sidecar.admin("/livez").await.status, StatusCode::OK);
    // A server without the V2 health API.
    predictor.script(|_| Reply::status(StatusCode::NOT_FOUND));
    eventually("ready again", ready).await;
}

#[tokio::test]
async fn a_model_server_may_listen_on_a_unix_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("model.sock");
    let _predictor = FakePredictor::answering_on_unix(&path, script);
    let sidecar = TestSidecar::start(&format!("unix:{}", path.display()), |_| {}).await;
    let over_h1 = h1(sidecar.address, post("/echo", "text/plain", "rows")).await;
    let over_h2 = h2(sidecar.address, post("/echo", "text/plain", "rows")).await;
    assert_eq!(
        (&over_h1.body[..], &over_h2.body[..]),
        (&b"rows"[..], &b"rows"[..])
    );
    eventually("ready", || sidecar.process.readiness().is_ready()).await;
}

#[tokio::test]
async fn a_tunnel_is_refused() {
    let predictor = FakePredictor::echo().await;
    let sidecar = TestSidecar::start(&predictor.url(), |_| {}).await;
    let request = Request::connect("elsewhere:443")
        .header("host", "elsewhere:443")
        .body(Full::<Bytes>::default());
    let answer = h1(sidecar.address, request.expect("a request")).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
}
