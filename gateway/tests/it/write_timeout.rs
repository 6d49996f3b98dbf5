//! Clients that take nothing of their answers.

use http::StatusCode;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Duration;

use crate::support::*;

/// More than sockets and windows hold.
const LARGE: usize = 32 << 20;

fn gateway_before(predictor: &FakePredictor) -> TestGateway {
    TestGateway::start(vec![churn(&[predictor.url()])], |config| {
        config.common.client_write_timeout = Duration::from_millis(200);
    })
}

async fn large() -> FakePredictor {
    FakePredictor::answering(|_| Reply::json(vec![b' '; LARGE])).await
}

async fn given_up(gateway: &TestGateway) {
    for told in [
        "plumbline_client_write_timeouts_total 1",
        r#"plumbline_gateway_requests_total{code="aborted",model="churn",protocol="v2"} 1"#,
        "plumbline_gateway_in_flight 0",
    ] {
        gateway.until_counted(told).await;
    }
}

#[tokio::test]
async fn an_http1_client_that_never_reads_loses_its_connection() {
    let predictor = large().await;
    let gateway = gateway_before(&predictor);
    let mut client = TcpStream::connect(gateway.address).await.expect("connected");
    let head = format!(
        "POST /v2/models/churn/infer HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{ROW}",
        ROW.len()
    );
    client.write_all(head.as_bytes()).await.expect("written");
    given_up(&gateway).await;
    let mut came = Vec::new();
    // Closed with bytes unsent, which the kernel may tell with a reset.
    let _end = client.read_to_end(&mut came).await;
    assert!(
        came.starts_with(b"HTTP/1.1 200 ") && came.len() < LARGE,
        "{}",
        came.len()
    );
}

#[tokio::test]
async fn an_http2_client_that_gives_no_window_loses_its_stream_alone() {
    let predictor = large().await;
    let gateway = gateway_before(&predictor);
    let mut client = gateway.http2().await;
    let request = |path| {
        let mut request = post(path, ROW);
        request.headers_mut().remove("host");
        *request.uri_mut() = format!("http://gateway{path}").parse().expect("a URI");
        request
    };
    let answer = client
        .send_request(request("/v2/models/churn/infer"))
        .await
        .expect("a head");
    assert_eq!(answer.status(), StatusCode::OK);
    given_up(&gateway).await;
    let other = client
        .send_request(request("/v2/models/nope/infer"))
        .await
        .expect("the connection lives");
    assert_eq!(other.status(), StatusCode::NOT_FOUND);
    let error = answer.into_body().collect().await.expect_err("reset");
    let reason = std::error::Error::source(&error).map(ToString::to_string);
    // CANCEL, in h2's words.
    assert!(
        reason
            .as_deref()
            .is_some_and(|reason| reason.contains("stream no longer needed")),
        "{reason:?}"
    );
}
