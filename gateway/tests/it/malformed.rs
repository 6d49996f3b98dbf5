//! Requests that two readers could read in two ways: what reaches the endpoint is nothing, or exactly one request.

use plumbline_testkit::malformed;

use crate::support::*;

const HEAD: &str = "POST /v2/models/churn/infer HTTP/1.1\r\nHost: gateway\r\n";

async fn gateway() -> (FakePredictor, TestGateway) {
    let predictor = FakePredictor::echo().await;
    let gateway = TestGateway::before(&predictor);
    (predictor, gateway)
}

/// Sends bytes, expects one of these statuses and a close, and nothing at the endpoint.
async fn refused(predictor: &FakePredictor, gateway: &TestGateway, request: &str, statuses: &[&str]) {
    malformed::refused(gateway.address, request, statuses).await;
    assert_eq!(predictor.received_so_far(), 0, "{request:?}");
}

#[tokio::test]
async fn lengths_that_are_no_single_number_are_refused() {
    let (predictor, gateway) = gateway().await;
    for length in malformed::LENGTHS {
        let request = format!("{HEAD}Content-Length: {length}\r\n\r\nhello");
        refused(&predictor, &gateway, &request, &["400"]).await;
    }
    let twice = format!("{HEAD}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!");
    refused(&predictor, &gateway, &twice, &["400"]).await;
}

#[tokio::test]
async fn transfer_codings_other_than_chunked_are_refused() {
    let (predictor, gateway) = gateway().await;
    for coding in malformed::TRANSFER_CODINGS {
        let request = format!("{HEAD}Transfer-Encoding: {coding}\r\n\r\n0\r\n\r\n");
        refused(&predictor, &gateway, &request, &["400", "501"]).await;
    }
    let old = "POST /v2/models/churn/infer HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    refused(&predictor, &gateway, old, &["400"]).await;
}

#[tokio::test]
async fn malformed_chunks_are_refused() {
    let (predictor, gateway) = gateway().await;
    for chunk in malformed::CHUNKS {
        let request = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{chunk}");
        refused(&predictor, &gateway, &request, &["400"]).await;
    }
}

#[tokio::test]
async fn malformed_heads_are_refused() {
    let (predictor, gateway) = gateway().await;
    for field in malformed::FIELDS.into_iter().chain(["Host: other"]) {
        let request = format!("{HEAD}{field}\r\n\r\n");
        refused(&predictor, &gateway, &request, &["400"]).await;
    }
    let no_host = "POST /v2/models/churn/infer HTTP/1.1\r\nContent-Length: 0\r\n\r\n";
    refused(&predictor, &gateway, no_host, &["400"]).await;
    let other_host = "POST http://other/v2/models/churn/infer HTTP/1.1\r\nHost: gateway\r\n\r\n";
    refused(&predictor, &gateway, other_host, &["400"]).await;
}

#[tokio::test]
async fn a_length_beside_chunked_never_reaches_an_endpoint() {
    let (predictor, gateway) = gateway().await;
    let request = format!(
        "{HEAD}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /v2/models/churn HTTP/1.1\r\nHost: gateway\r\n\r\n"
    );
    let answer = malformed::raw(gateway.address, request.as_bytes()).await;
    // Framed by the chunks, and nothing after it is read as a request.
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    let received = predictor.received_so_far();
    assert!(received <= 1, "{received}");
    for request in predictor.received(received).await {
        assert_eq!(request.body, "hello");
        assert_ne!(
            request.headers.contains_key("content-length"),
            request.headers.contains_key("transfer-encoding"),
        );
    }
}

#[tokio::test]
async fn large_heads_and_long_targets_are_named() {
    let (predictor, gateway) = gateway().await;
    let long = format!(
        "GET /v2/{} HTTP/1.1\r\nHost: gateway\r\n\r\n",
        "x".repeat(17 << 10)
    );
    refused(&predictor, &gateway, &long, &["414"]).await;
    let large = format!("{HEAD}x: {}\r\n\r\n", "x".repeat(65 << 10));
    refused(&predictor, &gateway, &large, &["431"]).await;
    let many = format!("{HEAD}{}\r\n", "x: y\r\n".repeat(200));
    refused(&predictor, &gateway, &many, &["431"]).await;
}

#[tokio::test]
async fn a_body_that_is_refused_is_not_read_as_the_next_request() {
    let (predictor, gateway) = gateway().await;
    let hidden = "GET /v2/models/churn HTTP/1.1\r\nHost: gateway\r\n\r\n";
    // Unknown model: the answer comes before the body, which then looks like a request.
    let request = format!(
        "POST /v2/models/nope/infer HTTP/1.1\r\nHost: gateway\r\nContent-Length: {}\r\n\r\n{hidden}GET / HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n",
        hidden.len()
    );
    let answer = malformed::raw(gateway.address, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert_eq!(predictor.received_so_far(), 0, "{answer}");
}

#[tokio::test]
async fn hop_by_hop_fields_stay_and_protected_ones_cannot_be_removed() {
    let (predictor, gateway) = gateway().await;
    let request = format!(
        "{HEAD}Connection: close, x-hop, authorization\r\nx-hop: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\nAuthorization: Bearer t\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"
    );
    let answer = malformed::raw(gateway.address, request.as_bytes()).await;
    assert!(answer.contains("HTTP/1.1 200 OK"), "{answer}");
    let requests = predictor.received(1).await;
    for gone in ["connection", "x-hop", "keep-alive", "upgrade", "expect"] {
        assert_eq!(requests[0].header(gone), "", "{gone}");
    }
    assert_eq!(requests[0].header("authorization"), "Bearer t");
    assert_eq!(requests[0].body, "hello");
}

#[tokio::test]
async fn connect_and_other_methods_are_not_allowed() {
    let (predictor, gateway) = gateway().await;
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
        refused(&predictor, &gateway, request, &statuses).await;
    }
}
