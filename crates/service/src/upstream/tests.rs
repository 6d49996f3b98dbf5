use http::{HeaderMap, StatusCode};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Full};
use plumbline_testkit::predictor::{Cut, FakePredictor, Received, RefusingPort, Reply};

use super::*;
use crate::config::ParseSetting as _;

type Client = Upstream<Full<Bytes>>;

fn client_with<B>(url: &str, change: impl FnOnce(&mut Options)) -> Upstream<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let mut options = Options::default();
    change(&mut options);
    Upstream::new(Target::parse_setting(url).expect("an endpoint"), options)
}

fn client(predictor: &FakePredictor) -> Client {
    client_with(&predictor.url(), |_| {})
}

fn post(body: &'static str) -> Request<Full<Bytes>> {
    Request::post("/v2/models/churn/infer")
        .body(Full::from(body))
        .expect("a request")
}

async fn text(client: &Client, protocol: Protocol) -> String {
    let response = client.send(protocol, post("row")).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8(body.to_vec()).expect("text")
}

fn connections(requests: &[Received]) -> Vec<u64> {
    requests.iter().map(|request| request.connection).collect()
}

#[tokio::test]
async fn an_http1_connection_is_used_again() {
    let predictor = FakePredictor::echo().await;
    let client = client(&predictor);
    for _ in 0..3 {
        assert_eq!(text(&client, Protocol::Http1).await, "row");
    }
    let requests = predictor.received(3).await;
    assert_eq!(connections(&requests), [0, 0, 0]);
    assert_eq!(requests[2].header("host"), predictor.address().to_string());
}

#[tokio::test]
async fn a_connection_that_closed_while_idle_is_replaced_unnoticed() {
    let predictor = FakePredictor::echo().await;
    let client = client(&predictor);
    for protocol in [Protocol::Http1, Protocol::Http2] {
        text(&client, protocol).await;
        predictor.drop_connections().await;
        text(&client, protocol).await;
    }
    assert_eq!(connections(&predictor.received(4).await), [0, 1, 2, 3]);
}

#[tokio::test]
async fn idle_connections_are_bounded_in_number_and_time() {
    let predictor = FakePredictor::holding(Reply::echo).await;
    let client: Client = client_with(&predictor.url(), |options| {
        options.max_idle = 1;
        options.idle_timeout = Duration::from_millis(50);
    });
    let requests: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { text(&client, Protocol::Http1).await })
        })
        .collect();
    predictor.received(3).await;
    assert_eq!(predictor.open_connections(), 3);
    predictor.release();
    for request in requests {
        request.await.expect("answered");
    }
    predictor.open_connections_at_most(1).await;
    predictor.open_connections_at_most(0).await;
    assert_eq!(client.idle_http1(), 0);
}

#[tokio::test]
async fn two_closes_in_a_row_are_the_end_of_all_idle_connections() {
    let predictor = FakePredictor::holding(|request| {
        let reply = Reply::echo(request);
        if request.body == "last" {
            reply.header("connection", "close")
        } else {
            reply
        }
    })
    .await;
    let client = client(&predictor);
    let requests: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { text(&client, Protocol::Http1).await })
        })
        .collect();
    predictor.received(4).await;
    predictor.release();
    for request in requests {
        request.await.expect("answered");
    }
    for (body, idle) in [("last", 3), ("row", 3), ("last", 2), ("last", 0), ("row", 1)] {
        let answer = client.send(Protocol::Http1, post(body)).await.expect("answered");
        answer.into_body().collect().await.expect("whole");
        assert_eq!(client.idle_http1(), idle, "after {body}");
    }
}

#[tokio::test]
async fn dropping_a_request_cancels_it() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let predictor = FakePredictor::holding(Reply::echo).await;
        let client = client(&predictor);
        let request = tokio::spawn(async move { client.send(protocol, post("row")).await.is_ok() });
        predictor.received(1).await;
        request.abort();
        predictor.aborted(1).await;
    }
}

#[tokio::test]
async fn dropping_an_unfinished_answer_cancels_it() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let predictor = FakePredictor::streaming_echo().await;
        let client = client_with(&predictor.url(), |_| {});
        let (frames, body) = Channel::<Bytes, std::io::Error>::new(1);
        let request = Request::post("/").body(body).expect("a request");
        let response = client.send(protocol, request).await.expect("a head");
        drop(response);
        predictor.aborted(1).await;
        drop(frames);
        assert_eq!(client.idle_http1(), 0);
    }
}

#[tokio::test]
async fn bodies_and_trailers_stream_both_ways() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let predictor = FakePredictor::streaming_echo().await;
        let client = client_with(&predictor.url(), |_| {});
        let (mut frames, body) = Channel::<Bytes, std::io::Error>::new(4);
        let request = Request::post("/")
            .header("te", "trailers")
            .header("trailer", "x-checksum")
            .body(body)
            .expect("a request");
        let mut answer = client.send(protocol, request).await.expect("a head").into_body();
        for part in ["one", "two"] {
            frames.send_data(Bytes::from(part)).await.expect("taken");
            // The answer to a part arrives before the next part is sent.
            let frame = answer.frame().await.expect("a frame").expect("no error");
            assert_eq!(frame.into_data().expect("data"), part);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", HeaderValue::from_static("42"));
        frames.send_trailers(trailers).await.expect("taken");
        drop(frames);
        assert_eq!(predictor.received(1).await[0].trailers["x-checksum"], "42");
        assert!(answer.collect().await.is_ok());
    }
}

#[tokio::test]
async fn trailers_of_an_answer_arrive() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let predictor =
            FakePredictor::answering(|_| Reply::grpc(b"m").header("trailer", "grpc-status")).await;
        let mut request = post("");
        request
            .headers_mut()
            .insert(TE, HeaderValue::from_static("trailers"));
        let answer = client(&predictor)
            .send(protocol, request)
            .await
            .expect("an answer");
        let body = answer.into_body().collect().await.expect("a body");
        assert_eq!(
            body.trailers().expect("trailers")["grpc-status"],
            "0",
            "{protocol:?}"
        );
    }
}

#[tokio::test]
async fn a_burst_on_a_cold_endpoint_shares_one_http2_connection() {
    let predictor = FakePredictor::holding(Reply::echo).await;
    let client = client(&predictor);
    let requests = spawn_many(&client, 20);
    predictor.received(20).await;
    assert_eq!(predictor.accepted(), 1);
    predictor.release();
    for request in requests {
        request.await.expect("answered");
    }
    assert_eq!(client.http2_connections(), 1);
}

#[tokio::test]
async fn full_http2_connections_get_company_up_to_a_limit() {
    let predictor = FakePredictor::holding(Reply::echo).await;
    let client: Client = client_with(&predictor.url(), |options| {
        options.streams_per_connection = 2;
        options.max_http2_connections = 3;
    });
    let requests = spawn_many(&client, 9);
    let received = predictor.received(9).await;
    predictor.release();
    for request in requests {
        request.await.expect("answered");
    }
    let mut streams = [0, 0, 0];
    for request in &received {
        streams[request.connection as usize] += 1;
    }
    assert_eq!(
        streams,
        [3, 3, 3],
        "spread evenly once no other connection is allowed"
    );
}

fn spawn_many(client: &Client, count: usize) -> Vec<tokio::task::JoinHandle<String>> {
    let spawn = |_| {
        let client = client.clone();
        tokio::spawn(async move { text(&client, Protocol::Http2).await })
    };
    (0..count).map(spawn).collect()
}

#[tokio::test]
async fn after_goaway_requests_take_a_new_connection() {
    let predictor = FakePredictor::echo().await;
    let client = client(&predictor);
    text(&client, Protocol::Http2).await;
    predictor.go_away();
    predictor.open_connections_at_most(0).await;
    assert_eq!(text(&client, Protocol::Http2).await, "row");
    assert_eq!(connections(&predictor.received(2).await), [0, 1]);
}

#[tokio::test]
async fn a_refused_request_is_given_back() {
    let port = RefusingPort::new();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let client: Client = client_with(&port.url(), |_| {});
        let failure = client.send(protocol, post("row")).await.expect_err("refused");
        assert!(failure.error.is_connect(), "{failure}");
        assert_eq!(
            failure.error.to_string(),
            format!("cannot connect to {}", port.url())
        );
        let body = failure.unsent.expect("nothing was sent").into_body();
        assert_eq!(body.collect().await.expect("whole").to_bytes(), "row");
    }
}

#[tokio::test]
async fn a_request_that_was_sent_is_not_given_back() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let predictor = FakePredictor::answering(|_| Reply::json("{}").cut(Cut::BeforeHead)).await;
        let failure = client(&predictor)
            .send(protocol, post("row"))
            .await
            .expect_err("cut");
        assert!(
            matches!(failure.error, UpstreamError::Closed { reused: false, .. }),
            "{failure}"
        );
        assert!(failure.unsent.is_none());
        assert_eq!(predictor.received_so_far(), 1, "sent once, not retried");
    }
}

#[tokio::test]
async fn a_cut_answer_ends_with_an_error_and_its_connection_is_not_used_again() {
    let predictor = FakePredictor::answering(|_| Reply::json("0123456789").cut(Cut::MidBody)).await;
    let client = client(&predictor);
    let answer = client.send(Protocol::Http1, post("row")).await.expect("a head");
    assert!(answer.into_body().collect().await.is_err());
    assert_eq!(client.idle_http1(), 0);
}

#[tokio::test]
async fn a_unix_socket_is_an_endpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("predictor.sock");
    let predictor = FakePredictor::answering_on_unix(&path, Reply::echo);
    let client: Client = client_with(&format!("unix:{}", path.display()), |_| {});
    assert_eq!(text(&client, Protocol::Http1).await, "row");
    assert_eq!(text(&client, Protocol::Http2).await, "row");
    assert_eq!(predictor.received(2).await[0].header("host"), "localhost");
}

#[tokio::test]
async fn the_clients_host_survives_a_change_of_protocol() {
    let predictor = FakePredictor::echo().await;
    let client = client(&predictor);
    let mut from_http1 = post("");
    from_http1
        .headers_mut()
        .insert(HOST, HeaderValue::from_static("churn.example"));
    client.send(Protocol::Http2, from_http1).await.expect("an answer");
    let mut from_http2 = post("");
    *from_http2.uri_mut() = Uri::from_static("http://churn.example/v2?verbose=1");
    client.send(Protocol::Http1, from_http2).await.expect("an answer");
    let requests = predictor.received(2).await;
    assert_eq!(
        requests[0].uri.authority().expect("an authority"),
        "churn.example"
    );
    assert_eq!(requests[0].header("host"), "");
    assert_eq!(requests[1].uri, "/v2?verbose=1");
    assert_eq!(requests[1].header("host"), "churn.example");
}
