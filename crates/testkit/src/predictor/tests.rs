use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::*;

async fn h1(predictor: &FakePredictor) -> http1::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(predictor.address()).await.expect("connected");
    let (client, connection) = http1::handshake(TokioIo::new(stream)).await.expect("handshake");
    tokio::spawn(connection);
    client
}

async fn h2(predictor: &FakePredictor) -> http2::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(predictor.address()).await.expect("connected");
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("handshake");
    tokio::spawn(connection);
    client
}

fn post(predictor: &FakePredictor, body: &'static str) -> Request<Full<Bytes>> {
    Request::post(format!("{}/v2/models/churn/infer", predictor.url()))
        .header("host", "localhost")
        .body(Full::from(body))
        .expect("a request")
}

#[tokio::test]
async fn a_held_request_is_recorded_before_it_is_answered() {
    let predictor = FakePredictor::holding(|_| Reply::json("{}")).await;
    let mut client = h1(&predictor).await;
    let answer = tokio::spawn(client.send_request(post(&predictor, "row")));
    let requests = predictor.received(1).await;
    assert_eq!(
        (requests[0].path(), &requests[0].body[..]),
        ("/v2/models/churn/infer", &b"row"[..])
    );
    assert!(!answer.is_finished());
    predictor.release_one();
    let answer = answer.await.expect("the task ends").expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn grpc_trailers_arrive_after_the_message() {
    let predictor = FakePredictor::answering(|_| Reply::grpc(b"message")).await;
    let mut client = h2(&predictor).await;
    let answer = client
        .send_request(post(&predictor, ""))
        .await
        .expect("an answer");
    let body = answer.into_body().collect().await.expect("a body");
    assert_eq!(body.trailers().expect("trailers")["grpc-status"], "0");
    assert_eq!(body.to_bytes(), grpc_message(b"message"));
}

#[tokio::test]
async fn cuts_break_off_where_they_say() {
    let predictor = FakePredictor::answering(|_| Reply::json("0123456789").cut(Cut::BeforeHead)).await;
    assert!(
        h1(&predictor)
            .await
            .send_request(post(&predictor, ""))
            .await
            .is_err()
    );

    predictor.script(|_| Reply::json("0123456789").cut(Cut::AfterHead));
    let answer = h1(&predictor).await.send_request(post(&predictor, "")).await;
    let mut body = answer.expect("a head").into_body();
    assert!(body.frame().await.expect("an end").is_err());

    predictor.script(|_| Reply::json("0123456789").cut(Cut::MidBody));
    let answer = h1(&predictor).await.send_request(post(&predictor, "")).await;
    let mut body = answer.expect("a head").into_body();
    let first = body.frame().await.expect("a frame").expect("data");
    assert_eq!(first.into_data().expect("data"), "01234");
    assert!(body.frame().await.expect("an end").is_err());
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed() {
    let predictor = FakePredictor::holding(|_| Reply::json("{}")).await;
    let mut client = h2(&predictor).await;
    let answer = tokio::spawn(client.send_request(post(&predictor, "row")));
    predictor.received(1).await;
    answer.abort();
    predictor.aborted(1).await;
}

#[tokio::test]
async fn dropped_connections_end_and_a_stopped_predictor_refuses() {
    let predictor = FakePredictor::echo().await;
    let mut client = h1(&predictor).await;
    client
        .send_request(post(&predictor, "row"))
        .await
        .expect("an answer");
    assert_eq!((predictor.accepted(), predictor.open_connections()), (1, 1));
    predictor.drop_connections().await;
    assert_eq!(predictor.open_connections(), 0);
    h1(&predictor).await;
    let address = predictor.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
    FakePredictor::answering_on(address, Reply::echo);
}

#[tokio::test]
async fn a_refusing_port_refuses() {
    let port = RefusingPort::new();
    let error = TcpStream::connect(port.address()).await.expect_err("refused");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}
