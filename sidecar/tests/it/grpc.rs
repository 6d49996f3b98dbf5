//! What gRPC has beside plain unary calls: compressed messages and streams.

use bytes::Bytes;
use http::Request;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Full};
use plumbline_inference_protocol::coding::Coding;
use plumbline_inference_protocol::grpc::{self, Method, StreamedRequest};
use plumbline_testkit::predictor::{FakePredictor, Received, Reply, grpc_message};

use crate::harness::{TestSidecar, eventually, h2, h2_client, post, soon};
use crate::model::{Row, Rows, Wire, answer, grpc_answer, request};
use crate::observing::with_profile;

/// The body of a call for the predictions of `rows`.
async fn body_of(rows: &[Row]) -> Bytes {
    let body = request(Wire::GrpcRaw, rows).into_body();
    body.collect().await.expect("a body in memory").to_bytes()
}

fn call(method: Method, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut request = post(method.path(), grpc::CONTENT_TYPE, body);
    request.headers_mut().remove("host");
    request
}

#[tokio::test]
async fn compressed_messages_are_observed() {
    let predictor = FakePredictor::answering(answer).await;
    let sidecar = TestSidecar::start(&predictor.url(), with_profile).await;
    let rows = Rows::seeded(3).usual(2);
    let body = body_of(&rows).await;
    predictor.script({
        let body = body.clone();
        move |_| {
            let reply = grpc::compress_frame(&grpc_message(&grpc_answer(&body)), Coding::Deflate);
            Reply::status(http::StatusCode::OK)
                .header("content-type", grpc::CONTENT_TYPE)
                .header("grpc-encoding", "deflate")
                .chunk(reply)
                .trailer("grpc-status", "0")
        }
    });
    let mut request = call(Method::ModelInfer, grpc::compress_frame(&body, Coding::Gzip));
    let gzip = "gzip".parse().expect("a value");
    request.headers_mut().insert("grpc-encoding", gzip);
    let direct = h2(predictor.address(), request.clone()).await.comparable();
    assert_eq!(h2(sidecar.address, request).await.comparable(), direct);
    sidecar.nothing_is_lost(1).await;
    let rows = r#"plumbline_rows_observed_total{model="churn",version="3"}"#;
    assert_eq!(sidecar.metric(rows), 2.0);
    let labels = r#"code="OK",model="churn",protocol="grpc",version="3""#;
    let timed = format!("plumbline_request_duration_seconds_count{{{labels}}}");
    assert_eq!(sidecar.metric(&timed), 1.0);
}

/// Answers each message of a stream, or only the first.
fn streaming(received: &Received, answers: usize) -> Reply {
    let mut parser = grpc::FrameParser::new(1 << 20);
    parser.push(received.body.clone());
    let mut reply = Reply::status(http::StatusCode::OK).header("content-type", grpc::CONTENT_TYPE);
    let mut answered = 0;
    while let Some(message) = parser.next_message().expect("messages") {
        if answered < answers {
            let frame = grpc_message(&grpc_answer(&grpc_message(&message)));
            reply = reply.chunk(StreamedRequest::peek(message).succeeded(&frame));
            answered += 1;
        }
    }
    reply.trailer("grpc-status", "0")
}

#[tokio::test]
async fn a_stream_is_observed_message_by_message() {
    let predictor = FakePredictor::answering(|received| streaming(received, usize::MAX)).await;
    let sidecar = TestSidecar::start(&predictor.url(), with_profile).await;
    let mut stream = Vec::new();
    for rows in [1, 2, 3] {
        stream.extend_from_slice(&body_of(&Rows::seeded(rows).usual(rows as usize)).await);
    }
    let request = call(Method::ModelStreamInfer, stream.clone());
    let direct = h2(predictor.address(), request.clone()).await.comparable();
    assert_eq!(h2(sidecar.address, request).await.comparable(), direct);
    sidecar.nothing_is_lost(1).await;
    let rows = r#"plumbline_rows_observed_total{model="churn",version="3"}"#;
    assert_eq!(sidecar.metric(rows), 6.0);
    // Two answers to three requests without identifiers: nobody can say whose they are.
    predictor.script(|received| streaming(received, 2));
    h2(sidecar.address, call(Method::ModelStreamInfer, stream)).await;
    sidecar.nothing_is_lost(2).await;
    assert_eq!(sidecar.metric(rows), 6.0);
    assert_eq!(sidecar.skipped("streaming"), 6.0);
}

#[tokio::test]
async fn a_stream_without_end_is_observed_as_it_goes() {
    let predictor = FakePredictor::streaming_echo().await;
    let sidecar = TestSidecar::start(&predictor.url(), |config| {
        with_profile(config);
        config.capture_limit = 1_000;
    })
    .await;
    let (mut frames, body) = Channel::<Bytes, std::io::Error>::new(1);
    let request = Request::post(format!("http://churn.example{}", Method::ModelStreamInfer.path()))
        .header("content-type", grpc::CONTENT_TYPE)
        .body(body)
        .expect("a request");
    let mut client = h2_client(sidecar.address).await;
    let mut answer = soon(client.send_request(request))
        .await
        .expect("a head")
        .into_body();
    let message = body_of(&Rows::seeded(3).usual(2)).await;
    // Far more than is kept of a body. Each message comes back as it is, which as an answer says that there was an error.
    for sent in 1..=100 {
        soon(frames.send_data(message.clone())).await.expect("taken");
        let mut got = 0;
        while got < message.len() {
            let frame = soon(answer.frame()).await.expect("a frame").expect("no error");
            got += frame.into_data().expect("data").len();
        }
        if sent % 50 == 0 {
            let rows = 2.0 * f64::from(sent);
            eventually("each answered request is seen", || {
                sidecar.skipped("error_status") == rows
            })
            .await;
        }
    }
    assert_eq!(sidecar.skipped("too_large"), 0.0);
    drop(frames);
    soon(answer.collect()).await.expect("an end");
    sidecar.nothing_is_lost(1).await;
}
