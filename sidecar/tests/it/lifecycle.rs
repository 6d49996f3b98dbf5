//! Beginning before the model server, and leaving before, after or with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use plumbline_sidecar::Config;
use plumbline_testkit::predictor::{FakePredictor, Received, RefusingPort, Reply};
use tokio::task::JoinSet;

use crate::harness::{TestSidecar, eventually, h1, post, soon};
use crate::model::INFER;

const READY: &str = "/v2/health/ready";

/// A delay that no test waits for.
const LONG: Duration = Duration::from_mins(10);

fn slow_drain(config: &mut Config) {
    config.common.drain_delay = LONG;
}

/// A model server that can be told to leave: it says that it is not ready, and goes on answering.
async fn model_server() -> (FakePredictor, Arc<AtomicBool>) {
    let leaving = Arc::new(AtomicBool::new(false));
    let script = {
        let leaving = Arc::clone(&leaving);
        move |request: &Received| match request.path() {
            READY if leaving.load(Ordering::SeqCst) => Reply::status(StatusCode::SERVICE_UNAVAILABLE),
            READY => Reply::json("{}"),
            _ => Reply::echo(request),
        }
    };
    (FakePredictor::answering(script).await, leaving)
}

async fn ready(sidecar: &TestSidecar) {
    eventually("the sidecar is ready", || sidecar.process.readiness().is_ready()).await;
}

/// Clients that send as long as they see a ready endpoint, each with a last request under way when it is gone.
fn load(sidecar: &TestSidecar) -> JoinSet<usize> {
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let (address, readiness) = (sidecar.address, sidecar.process.readiness().clone());
        clients.spawn(async move {
            let mut answered = 0;
            loop {
                let listed = readiness.is_ready();
                let answer = h1(address, post(INFER, "text/plain", "rows")).await;
                assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"rows"[..]));
                answered += 1;
                if !listed {
                    return answered;
                }
            }
        });
    }
    clients
}

async fn all_answered(clients: JoinSet<usize>) -> usize {
    soon(clients.join_all()).await.into_iter().sum()
}

#[tokio::test]
async fn it_starts_before_the_model_server_and_is_ready_after_it() {
    let port = RefusingPort::new();
    let sidecar = TestSidecar::start(&port.url(), |_| {}).await;
    // A native sidecar has to be started before the model server is: its startup probe asks for this page.
    assert_eq!(sidecar.admin("/livez").await.status, StatusCode::OK);
    let readyz = sidecar.admin("/readyz").await;
    assert_eq!(readyz.status, StatusCode::SERVICE_UNAVAILABLE);
    let told = String::from_utf8_lossy(&readyz.body).into_owned();
    assert!(
        told.contains(&format!("the model server at {}", port.url())),
        "{told}"
    );
    let address = port.address();
    drop(port);
    let _server = FakePredictor::answering_on(address, |_| Reply::json("{}"));
    ready(&sidecar).await;
    assert_eq!(sidecar.admin("/readyz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_model_server_that_is_gone_is_noticed_with_the_first_request() {
    let (server, _) = model_server().await;
    let sidecar = TestSidecar::start(&server.url(), |config| config.upstream_probe = LONG).await;
    ready(&sidecar).await;
    server.stop().await;
    let answer = h1(sidecar.address, post(INFER, "text/plain", "rows")).await;
    assert!(answer.status.is_server_error(), "{}", answer.status);
    eventually("the sidecar is not ready", || {
        !sidecar.process.readiness().is_ready()
    })
    .await;
}

#[tokio::test]
async fn a_sidecar_whose_model_server_has_gone_does_not_wait_for_endpoints() {
    let (server, leaving) = model_server().await;
    let sidecar = TestSidecar::start(&server.url(), slow_drain).await;
    ready(&sidecar).await;
    leaving.store(true, Ordering::SeqCst);
    server.stop().await;
    let shutdown = sidecar.process.shutdown().clone();
    let begun = tokio::spawn(async move { shutdown.begin().await });
    soon(begun).await.expect("no panic");
    sidecar.stop().await;
}

#[tokio::test]
async fn no_request_fails_in_whatever_order_the_two_leave() {
    #[derive(Clone, Copy, Debug)]
    enum First {
        Sidecar,
        ModelServer,
        Both,
    }
    let mut answered = 0;
    for _ in 0..34 {
        for first in [First::Sidecar, First::ModelServer, First::Both] {
            let (server, leaving) = model_server().await;
            let sidecar = TestSidecar::start(&server.url(), |config| {
                slow_drain(config);
                config.upstream_probe = Duration::from_millis(20);
            })
            .await;
            ready(&sidecar).await;
            let clients = load(&sidecar);
            let shutdown = sidecar.process.shutdown().clone();
            if let First::ModelServer | First::Both = first {
                leaving.store(true, Ordering::SeqCst);
            }
            let begun = match first {
                First::Sidecar | First::Both => Some(tokio::spawn(async move { shutdown.begin().await })),
                First::ModelServer => None,
            };
            // Endpoints have noticed, and the last requests are over: in a pod, that is what the delays are for.
            answered += all_answered(clients).await;
            if let Some(begun) = begun {
                // The sidecar's delay ends before the model server's.
                sidecar.process.shutdown().cut_delay();
                soon(begun).await.expect("no panic");
                sidecar.stop().await;
                server.stop().await;
            } else {
                // A native sidecar is told to leave when the model server has left.
                server.stop().await;
                sidecar.stop().await;
            }
        }
    }
    assert!(answered >= 4 * 102, "{answered}");
}
