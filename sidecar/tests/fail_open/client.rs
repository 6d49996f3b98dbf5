//! One client that asks the model server directly and through a proxy, and compares what it gets.

use std::net::SocketAddr;

use http::{Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};

use crate::harness::{Answer, collect, h1_client, h2_client};
use crate::pieces::Pieces;
use crate::plan::Plan;
use crate::server::LIMIT;

/// A connection of each version to one server, made again when it has ended.
pub(crate) struct Peer {
    address: SocketAddr,
    http1: Option<http1::SendRequest<Pieces>>,
    http2: Option<http2::SendRequest<Pieces>>,
}

/// What came back.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    /// A head, and a body that is whole or broken.
    Answer(Box<Answer>),
    /// The connection or the stream ended first.
    Nothing,
    /// The client had the head and left.
    Left(StatusCode),
}

/// Why two outcomes are not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) seed: u64,
    pub(crate) what: String,
}

impl Peer {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            http1: None,
            http2: None,
        }
    }

    /// Sends the request of `plan`.
    pub(crate) async fn ask(&mut self, plan: &Plan) -> Outcome {
        let asking = async {
            if plan.http2 {
                let response = self.http2().await.send_request(plan.request()).await;
                Self::outcome(plan, response).await
            } else {
                let mut client = self.http1().await;
                let response = client.send_request(plan.request()).await;
                let outcome = Self::outcome(plan, response).await;
                if matches!(&outcome, Outcome::Answer(answer) if !answer.broken) {
                    self.http1 = Some(client);
                }
                outcome
            }
        };
        tokio::time::timeout(LIMIT, asking)
            .await
            .unwrap_or_else(|_| panic!("no end of exchange {}: {plan:?}", plan.seed))
    }

    async fn outcome(plan: &Plan, response: hyper::Result<Response<Incoming>>) -> Outcome {
        match response {
            Err(_) => Outcome::Nothing,
            Ok(response) if plan.leaves => Outcome::Left(response.status()),
            Ok(response) => Outcome::Answer(Box::new(collect(response).await.comparable())),
        }
    }

    async fn http1(&mut self) -> http1::SendRequest<Pieces> {
        if let Some(mut client) = self.http1.take()
            && client.ready().await.is_ok()
        {
            return client;
        }
        h1_client(self.address).await
    }

    async fn http2(&mut self) -> &mut http2::SendRequest<Pieces> {
        let open = match &mut self.http2 {
            Some(client) => client.ready().await.is_ok(),
            None => false,
        };
        if !open {
            self.http2 = None;
        }
        match &mut self.http2 {
            Some(client) => client,
            none => none.insert(h2_client(self.address).await),
        }
    }
}

/// Whether a client can tell the two apart. An answer that was not whole was not whole; how much of it had come when it broke
/// off is a matter of time, but what came is what was planned.
pub(crate) fn compare(plan: &Plan, direct: &Outcome, through: &Outcome) -> Result<(), Difference> {
    let differ = |what: String| {
        Err(Difference {
            seed: plan.seed,
            what,
        })
    };
    match (direct, through) {
        (Outcome::Left(direct), Outcome::Left(through)) if direct == through => Ok(()),
        (Outcome::Answer(direct), Outcome::Answer(through)) if !direct.broken => {
            if direct == through {
                return Ok(());
            }
            differ(format!("direct {direct:?}\nthrough {through:?}"))
        }
        (direct, through) if is_broken(direct) => match through {
            Outcome::Nothing => Ok(()),
            Outcome::Answer(answer) if is_planned_part(plan, answer) || is_own_failure(plan, answer) => {
                Ok(())
            }
            through => differ(format!("direct {direct:?}\nthrough {through:?}")),
        },
        (direct, through) => differ(format!("direct {direct:?}\nthrough {through:?}")),
    }
}

fn is_broken(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Nothing => true,
        Outcome::Answer(answer) => answer.broken,
        Outcome::Left(_) => false,
    }
}

fn is_planned_part(plan: &Plan, answer: &Answer) -> bool {
    answer.broken && answer.status == plan.status && plan.answer.bytes().starts_with(&answer.body)
}

/// What the sidecar says where the model server gave no head: 502, or gRPC's UNAVAILABLE without a message.
fn is_own_failure(plan: &Plan, answer: &Answer) -> bool {
    if answer.broken {
        return false;
    }
    let grpc_status = answer.headers.get("grpc-status").map(http::HeaderValue::as_bytes);
    match grpc_status {
        Some(status) => plan.http2 && status == b"14" && answer.body.is_empty(),
        None => {
            answer.status == StatusCode::BAD_GATEWAY
                && serde_json::from_slice::<serde_json::Value>(&answer.body)
                    .is_ok_and(|body| body["error"].is_string())
        }
    }
}
