//! Runs that are ended, and requests that share one, with the real ONNX Runtime.

use std::num::NonZeroUsize;
use std::time::Duration;

use http::StatusCode;

use crate::models::Dim::{Name, Size};
use crate::models::{FLOAT, Graph, INT64, Message, node, simple, tensor_type, value};
use crate::support::TestServer;

const BOOL: i64 = 9;

/// Doubles 1 as often as `n` says: short with the zeros of a warm-up, endless with a large number.
fn doubling() -> Vec<u8> {
    let scalar = |name, element| value(name, tensor_type(element, &[]));
    let body = Message::default()
        .message(1, node("Identity", "", &["go_on"], &["go_on_out"], &[]))
        .message(1, node("Add", "", &["v", "v"], &["v_out"], &[]))
        .bytes(2, "body")
        .message(11, scalar("iteration", INT64))
        .message(11, scalar("go_on", BOOL))
        .message(11, scalar("v", FLOAT))
        .message(12, scalar("go_on_out", BOOL))
        .message(12, scalar("v_out", FLOAT));
    let body = Message::default().bytes(1, "body").int(20, 5).message(6, body);
    let one = Message::default()
        .int(2, FLOAT)
        .bytes(8, "one")
        .bytes(9, 1.0_f32.to_le_bytes());
    Graph {
        initializers: vec![one],
        nodes: vec![node("Loop", "", &["n", "", "one"], &["y"], &[body])],
        inputs: vec![scalar("n", INT64)],
        outputs: vec![scalar("y", FLOAT)],
    }
    .model()
}

/// Softmax over the rows: each depends on all others.
fn rows_that_depend() -> Vec<u8> {
    let axis = Message::default().bytes(1, "axis").int(3, 0).int(20, 2);
    let tensor = || tensor_type(FLOAT, &[Name("N"), Size(2)]);
    Graph {
        initializers: Vec::new(),
        nodes: vec![node("Softmax", "", &["x"], &["y"], &[axis])],
        inputs: vec![value("x", tensor())],
        outputs: vec![value("y", tensor())],
    }
    .model()
}

fn times(n: u64, timeout_us: u64) -> String {
    format!(
        r#"{{"inputs":[{{"name":"n","datatype":"INT64","shape":[],"data":[{n}]}}],"parameters":{{"timeout":{timeout_us}}}}}"#
    )
}

const ENDLESS: u64 = 1 << 60;
const INFER: &str = "/v2/models/doubling/infer";

async fn one_session() -> TestServer {
    TestServer::start_with(&[("doubling.onnx", doubling())], |config| {
        config.instances = Some(NonZeroUsize::MIN);
    })
    .await
}

#[tokio::test]
async fn a_run_past_its_deadline_is_ended_and_its_session_serves_again() {
    let server = one_session().await;
    for _ in 0..2 {
        // It looks short and begins on the network thread.
        let answer = server.post(INFER, times(ENDLESS, 100_000)).await;
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT, "{}", answer.error());
        let answer = server.post(INFER, times(3, 0)).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.json()["outputs"][0]["data"][0], 8.0);
    }
    let rejected =
        server.metric("plumbline_server_requests_rejected_total{model=\"doubling\",reason=\"deadline\"}");
    assert_eq!(rejected, Some(2.0));
}

#[tokio::test]
async fn a_request_without_a_deadline_gets_that_of_the_server() {
    let server = TestServer::start_with(&[("doubling.onnx", doubling())], |config| {
        config.request_timeout = Some(Duration::from_millis(100));
    })
    .await;
    let answer = server.post(INFER, times(ENDLESS, 0)).await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT, "{}", answer.error());
}

#[tokio::test]
async fn a_run_whose_client_leaves_is_ended() {
    let server = one_session().await;
    let patience = Duration::from_millis(200);
    let gave_up = tokio::time::timeout(patience, server.post(INFER, times(ENDLESS, 0))).await;
    assert!(gave_up.is_err());
    // The only session would never be free again.
    let answer = server.post(INFER, times(5, 0)).await;
    assert_eq!(answer.json()["outputs"][0]["data"][0], 32.0);
}

#[tokio::test]
async fn a_priority_is_a_whole_number() {
    let server = one_session().await;
    let with = |priority: &str| times(1, 0).replace(r#""timeout":0"#, &format!(r#""priority":{priority}"#));
    assert_eq!(server.post(INFER, with("2")).await.status, StatusCode::OK);
    for priority in ["-1", "\"high\"", "1.5", "true"] {
        let answer = server.post(INFER, with(priority)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(
            answer.error().contains("parameters.priority"),
            "{}",
            answer.error()
        );
    }
}

/// Sends requests side by side, until some share an execution or there were enough; each answer is that of the
/// request alone. Gives back requests and executions.
async fn send_many(
    model: &str,
    onnx: Vec<u8>,
    body: fn(usize) -> String,
    data: fn(usize) -> String,
) -> (f64, f64) {
    let settings = "instances = 1\nin_place = false\n[batching]\nrows = 16\n";
    let files = [
        (format!("{model}/model.onnx"), onnx),
        (format!("{model}/model.toml"), settings.into()),
    ];
    let files: Vec<(&str, Vec<u8>)> = files
        .iter()
        .map(|(path, bytes)| (path.as_str(), bytes.clone()))
        .collect();
    let server = TestServer::start(&files).await;
    let path = format!("/v2/models/{model}/infer");
    let series =
        |what: &str| format!("plumbline_server_batch_rows_{what}{{model=\"{model}\",version=\"1\"}}");
    let mut counts = (0.0, 0.0);
    for _ in 0..20 {
        let requests = (0..32).map(|index| {
            let (server, path) = (&server, &path);
            async move {
                let answer = server.post(path, body(index)).await;
                assert_eq!(
                    answer.status,
                    StatusCode::OK,
                    "{}",
                    String::from_utf8_lossy(&answer.body)
                );
                assert_eq!(answer.json()["outputs"][0]["data"].to_string(), data(index));
            }
        });
        all(requests).await;
        counts = (
            server.metric(&series("sum")).unwrap_or_default(),
            server.metric(&series("count")).unwrap_or_default(),
        );
        if counts.1 < counts.0 {
            break;
        }
    }
    counts
}

/// All of the futures, side by side.
async fn all(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.map(|future| Some(Box::pin(future))).collect();
    std::future::poll_fn(|context| {
        for slot in &mut futures {
            if slot
                .as_mut()
                .is_some_and(|future| future.as_mut().poll(context).is_ready())
            {
                *slot = None;
            }
        }
        if futures.iter().all(Option::is_none) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

#[tokio::test]
async fn requests_share_executions_where_rows_are_independent_and_only_there() {
    let body = |index: usize| {
        let input = |name: &str, value: usize| {
            format!(r#"{{"name":"{name}","datatype":"INT32","shape":[1,4],"data":[{value},0,0,1]}}"#)
        };
        format!(
            r#"{{"inputs":[{},{}]}}"#,
            input("INPUT0", index),
            input("INPUT1", 100)
        )
    };
    let data = |index: usize| format!("[{},0,0,2]", index + 100);
    let (requests, executions) = send_many("simple", simple(), body, data).await;
    assert!(
        executions < requests,
        "{executions} executions of {requests} requests"
    );

    let body = |index: usize| {
        format!(r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[1,2],"data":[{index},1]}}]}}"#)
    };
    let (requests, executions) = send_many("softmax", rows_that_depend(), body, |_| "[1.0,1.0]".into()).await;
    assert_eq!(executions, requests);
}
