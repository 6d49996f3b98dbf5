//! Bad input of every kind, with the answer that it has to get, while a good client on another connection is served.

mod endpoint;
mod frames;
mod grpc;
mod http1;
mod http2;
mod slow;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinHandle;

use crate::support::*;

/// A gateway with `churn`, which bad requests ask for, and `good`, which a good client asks for all the time.
struct Scene {
    gateway: TestGateway,
    /// Behind `churn`.
    predictor: FakePredictor,
    good: Good,
    _good_predictor: FakePredictor,
}

impl Scene {
    async fn start() -> Self {
        Self::with(FakePredictor::echo().await, |_| {}).await
    }

    /// `change` makes `churn` what the test needs.
    async fn with(predictor: FakePredictor, change: impl FnOnce(&mut plumbline_gateway::RouteSpec)) -> Self {
        let mut churn = churn(&[predictor.url()]);
        change(&mut churn);
        let good_predictor = FakePredictor::echo().await;
        let gateway = TestGateway::start(vec![churn, route("good", &[good_predictor.url()])], |_| {});
        let good = Good::start(&gateway).await;
        Self {
            gateway,
            predictor,
            good,
            _good_predictor: good_predictor,
        }
    }

    /// The good client was served before, meanwhile and now.
    async fn unharmed(self) {
        self.good.served().await;
    }
}

/// A client that asks again and again on one connection, and for which every answer has to be good.
struct Good {
    ends: Arc<AtomicBool>,
    asking: JoinHandle<()>,
}

impl Good {
    async fn start(gateway: &TestGateway) -> Self {
        let mut client = gateway.http1().await;
        let ends = Arc::new(AtomicBool::new(false));
        let mut ask = async move || {
            let answer = client.send_request(infer("good")).await.expect("an answer");
            assert_eq!(answer.status(), 200);
            assert_eq!(text(answer).await, ROW);
        };
        ask().await;
        let asking = tokio::spawn({
            let ends = Arc::clone(&ends);
            async move {
                while !ends.load(Ordering::Relaxed) {
                    ask().await;
                    tokio::task::yield_now().await;
                }
                ask().await;
            }
        });
        Self { ends, asking }
    }

    async fn served(self) {
        self.ends.store(true, Ordering::Relaxed);
        let served = tokio::time::timeout(PATIENCE, self.asking).await;
        served
            .expect("the good client waits")
            .expect("every answer is good");
    }
}
