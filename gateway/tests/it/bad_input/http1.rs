//! Requests that two readers could read in two ways: what reaches the endpoint is nothing, or exactly one request.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use plumbline_testkit::malformed;

use super::Scene;

const HEAD: &str = "POST /v2/models/churn/infer HTTP/1.1\r\nHost: gateway\r\n";

/// Sends bytes, expects one of these statuses and a close, and nothing at the endpoint.
async fn refused(scene: &Scene, request: &str, statuses: &[&str]) {
    malformed::refused(scene.gateway.address, request, statuses).await;
    assert_eq!(scene.predictor.received_so_far(), 0, "{request:?}");
}

#[tokio::test]
async fn lengths_that_are_no_single_number_are_refused() {
    let scene = Scene::start().await;
    for length in malformed::LENGTHS {
        let request = format!("{HEAD}Content-Length: {length}\r\n\r\nhello");
        refused(&scene, &request, &["400"]).await;
    }
    let twice = format!("{HEAD}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!");
    refused(&scene, &twice, &["400"]).await;
    scene.unharmed().await;
}

#[tokio::test]
async fn transfer_codings_other_than_chunked_are_refused() {
    let scene = Scene::start().await;
    for coding in malformed::TRANSFER_CODINGS {
        let request = format!("{HEAD}Transfer-Encoding: {coding}\r\n\r\n0\r\n\r\n");
        refused(&scene, &request, &["400", "501"]).await;
    }
    let old = "POST /v2/models/churn/infer HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    refused(&scene, old, &["400"]).await;
    scene.unharmed().await;
}

#[tokio::test]
async fn malformed_chunks_are_refused() {
    let scene = Scene::start().await;
    for chunk in malformed::CHUNKS {
        let request = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{chunk}");
        refused(&scene, &request, &["400"]).await;
    }
    scene.unharmed().await;
}

#[tokio::test]
async fn malformed_heads_are_refused() {
    let scene = Scene::start().await;
    for field in malformed::FIELDS.into_iter().chain(["Host: other"]) {
        let request = format!("{HEAD}{field}\r\n\r\n");
        refused(&scene, &request, &["400"]).await;
    }
    let no_host = "POST /v2/models/churn/infer HTTP/1.1\r\nContent-Length: 0\r\n\r\n";
    refused(&scene, no_host, &["400"]).await;
    let other_host = "POST http://other/v2/models/churn/infer HTTP/1.1\r\nHost: gateway\r\n\r\n";
    refused(&scene, other_host, &["400"]).await;
    scene.unharmed().await;
}

#[tokio::test]
async fn a_length_beside_chunked_never_reaches_an_endpoint() {
    let scene = Scene::start().await;
    let request = format!(
        "{HEAD}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /v2/models/churn HTTP/1.1\r\nHost: gateway\r\n\r\n"
    );
    let answer = malformed::raw(scene.gateway.address, request.as_bytes()).await;
    // Framed by the chunks, and nothing after it is read as a request.
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    let received = scene.predictor.received_so_far();
    assert!(received <= 1, "{received}");
    for request in scene.predictor.received(received).await {
        assert_eq!(request.body, "hello");
        assert_ne!(
            request.headers.contains_key("content-length"),
            request.headers.contains_key("transfer-encoding"),
        );
    }
    scene.unharmed().await;
}

#[tokio::test]
async fn large_heads_and_long_targets_are_named() {
    let scene = Scene::start().await;
    let long = format!(
        "GET /v2/{} HTTP/1.1\r\nHost: gateway\r\n\r\n",
        "x".repeat(17 << 10)
    );
    refused(&scene, &long, &["414"]).await;
    let large = format!("{HEAD}x: {}\r\n\r\n", "x".repeat(65 << 10));
    refused(&scene, &large, &["431"]).await;
    let many = format!("{HEAD}{}\r\n", "x: y\r\n".repeat(200));
    refused(&scene, &many, &["431"]).await;
    scene.unharmed().await;
}

#[tokio::test]
async fn a_body_that_is_refused_is_not_read_as_the_next_request() {
    let scene = Scene::start().await;
    let hidden = "GET /v2/models/churn HTTP/1.1\r\nHost: gateway\r\n\r\n";
    // Unknown model: the answer comes before the body, which then looks like a request.
    let request = format!(
        "POST /v2/models/nope/infer HTTP/1.1\r\nHost: gateway\r\nContent-Length: {}\r\n\r\n{hidden}GET / HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n",
        hidden.len()
    );
    let answer = malformed::raw(scene.gateway.address, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert_eq!(scene.predictor.received_so_far(), 0, "{answer}");
    scene.unharmed().await;
}

#[tokio::test]
async fn hop_by_hop_fields_stay_and_protected_ones_cannot_be_removed() {
    let scene = Scene::start().await;
    let request = format!(
        "{HEAD}Connection: close, x-hop, authorization\r\nx-hop: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\nAuthorization: Bearer t\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"
    );
    let answer = malformed::raw(scene.gateway.address, request.as_bytes()).await;
    assert!(answer.contains("HTTP/1.1 200 OK"), "{answer}");
    let requests = scene.predictor.received(1).await;
    for gone in ["connection", "x-hop", "keep-alive", "upgrade", "expect"] {
        assert_eq!(requests[0].header(gone), "", "{gone}");
    }
    assert_eq!(requests[0].header("authorization"), "Bearer t");
    assert_eq!(requests[0].body, "hello");
    scene.unharmed().await;
}

#[tokio::test]
async fn connect_and_other_methods_are_not_allowed() {
    let scene = Scene::start().await;
    for (request, statuses) in [
        (
            "CONNECT gateway:80 HTTP/1.1\r\nHost: gateway:80\r\nConnection: close\r\n\r\n",
            ["404", "405"],
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n",
            ["404", "405"],
        ),
        (
            "DELETE /v2/models/churn HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n",
            ["405", "405"],
        ),
    ] {
        refused(&scene, request, &statuses).await;
    }
    scene.unharmed().await;
}

#[tokio::test]
async fn a_body_has_no_trailers() {
    let scene = Scene::start().await;
    let chunks = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n");
    for trailers in [
        "X-A: b\r\n\r\n",
        "Content-Length: 5\r\n\r\n",
        // LF alone: an end for some, and then this is a request.
        "\nGET /v2/models/churn HTTP/1.1\r\nHost: gateway\r\n\r\n",
    ] {
        refused(&scene, &format!("{chunks}{trailers}"), &["400"]).await;
    }
    // Nor are they looked for the next request's sake when nobody reads the body.
    let unread = "POST /v2/models/nope/infer HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\nGET /v2/models/churn HTTP/1.1\r\nHost: gateway\r\n\r\n";
    refused(&scene, unread, &["404"]).await;
    scene.unharmed().await;
}

#[tokio::test]
async fn a_read_keeps_its_body() {
    let scene = Scene::start().await;
    for framing in [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let request =
            format!("GET /v2/models/churn HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n{framing}");
        let answer = malformed::raw(scene.gateway.address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let requests = scene.predictor.received(2).await;
    assert!(
        requests.iter().all(|request| request.body == "hello"),
        "{requests:?}"
    );
    scene.unharmed().await;
}

#[tokio::test]
async fn an_upgrade_is_not_waited_for_and_not_passed_on() {
    let scene = Scene::start().await;
    let request = format!(
        "{HEAD}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 5\r\n\r\nhelloGET /v2/models/churn HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n"
    );
    let answer = malformed::raw(scene.gateway.address, request.as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 2, "{answer}");
    for request in scene.predictor.received(2).await {
        assert_eq!(
            (request.header("upgrade"), request.header("http2-settings")),
            ("", "")
        );
    }
    scene.unharmed().await;
}

#[tokio::test]
async fn an_expectation_is_met_when_the_body_is_asked_for() {
    let scene = Scene::start().await;
    let request =
        format!("{HEAD}Connection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    let answer = malformed::raw(scene.gateway.address, request.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 "),
        "{answer}"
    );
    // Nobody asks for this one's, and its bytes are no request.
    let unasked = "POST /v2/models/nope/infer HTTP/1.1\r\nHost: gateway\r\nExpect: 100-continue\r\nContent-Length: 62\r\n\r\n";
    let answer = malformed::raw(
        scene.gateway.address,
        format!("{unasked}GET /v2/models/churn HTTP/1.1\r\nHost: gateway\r\n\r\n").as_bytes(),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    scene.unharmed().await;
}

#[tokio::test]
async fn paths_that_could_be_read_in_two_ways_reach_no_model() {
    let scene = Scene::start().await;
    for path in [
        "/v2/models/churn/..;/churn/infer",
        "/v2/models/../models/churn",
        "/v2/models/nope/../churn",
        "//v2/models/churn",
        "/v2//models/churn",
        "/v2/models/churn%00",
        "/v2/models/%2e%2e/churn",
        "/v2%2fmodels%2fchurn",
        "/v2/models/%c0%afchurn",
        "/v2/models/churn%2finfer",
        "/v2/models/%ff",
        "/v2/models/",
        "/v2\\models\\churn",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
        refused(&scene, &request, &["400", "404"]).await;
    }
    let beyond_ascii = "GET /v2/models/churn?\u{e9} HTTP/1.1\r\nHost: gateway\r\n\r\n";
    refused(&scene, beyond_ascii, &["400"]).await;
    scene.unharmed().await;
}

#[tokio::test]
async fn a_host_is_one_host() {
    let scene = Scene::start().await;
    for host in [
        "user@gateway",
        "gateway other",
        "gateway/",
        "",
        "gateway\\",
        "\u{e9}",
    ] {
        let request = format!("GET /v2/models/churn HTTP/1.1\r\nHost: {host}\r\n\r\n");
        refused(&scene, &request, &["400"]).await;
    }
    for target in ["http://user@gateway", "ftp://gateway"] {
        let request = format!("GET {target}/v2/models/churn HTTP/1.1\r\nHost: gateway\r\n\r\n");
        refused(&scene, &request, &["400"]).await;
    }
    let none = "GET http://gateway/v2/models/churn HTTP/1.1\r\n\r\n";
    refused(&scene, none, &["400"]).await;
    scene.unharmed().await;
}

/// What is in a body is the model server's business: depth, numbers that are none, compressed bombs, lengths that lie.
#[tokio::test]
async fn bodies_are_forwarded_as_they_are() {
    let scene = Scene::start().await;
    let bodies: [Vec<u8>; 5] = [
        [vec![b'['; 100_000], vec![b']'; 100_000]].concat(),
        br#"{"inputs":[1e999,NaN,"\ud800"],"inputs":0}"#.to_vec(),
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03".repeat(1_000),
        vec![0xff; 1 << 20],
        br#"{"inputs":[{"name":"x","shape":[9223372036854775807,9223372036854775807],"datatype":"FP32"}]}"#
            .to_vec(),
    ];
    let mut client = scene.gateway.http1().await;
    for body in &bodies {
        let request = Request::post("/v2/models/churn/infer")
            .header("host", "gateway")
            .header("inference-header-content-length", "99999999999999999999")
            .header("content-encoding", "gzip")
            .body(Full::new(Bytes::from(body.clone())));
        let answer = client
            .send_request(request.expect("a request"))
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 200);
        let echo = answer.into_body().collect().await.expect("a body").to_bytes();
        assert!(echo == *body);
    }
    let received = scene.predictor.received(bodies.len()).await;
    assert!(
        received
            .iter()
            .zip(&bodies)
            .all(|(received, body)| received.body == *body)
    );
    scene.unharmed().await;
}
