//! A model server that derives each answer from the request's number, keeps nothing, and can be made to lie.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HOST};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::pieces::Pieces;
use crate::plan::{Cut, Examples, Plan, SEED};

/// What a proxy with a broken observer would do to answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Flaw {
    Status,
    HeaderGone,
    HeaderTwice,
    ByteFlipped,
    ByteMissing,
    TrailerChanged,
    TrailersGone,
    Broken,
    RequestChanged,
    NoAnswer,
}

impl Flaw {
    pub(crate) const ALL: [Self; 10] = [
        Self::Status,
        Self::HeaderGone,
        Self::HeaderTwice,
        Self::ByteFlipped,
        Self::ByteMissing,
        Self::TrailerChanged,
        Self::TrailersGone,
        Self::Broken,
        Self::RequestChanged,
        Self::NoAnswer,
    ];
}

/// Which flaw the answer to an exchange gets.
pub(crate) type Flaws = fn(&Plan) -> Option<Flaw>;

/// A running model server; it ends when dropped.
pub(crate) struct ModelServer {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl ModelServer {
    pub(crate) async fn start(examples: Arc<Examples>, flaws: Flaws) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _peer)) = listener.accept().await {
                stream.set_nodelay(true).expect("an option of the socket");
                while connections.try_join_next().is_some() {}
                let examples = Arc::clone(&examples);
                connections.spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        reply(Arc::clone(&examples), flaws, request)
                    });
                    // However it ends: answers that break off are what this is about.
                    let _ended = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, serving }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn reply(
    examples: Arc<Examples>,
    flaws: Flaws,
    request: Request<Incoming>,
) -> Result<Response<Pieces>, &'static str> {
    let (head, body) = request.into_parts();
    let Ok(collected) = body.collect().await else {
        return Err("the request broke off");
    };
    let seed = head
        .headers
        .get(SEED)
        .and_then(|seed| seed.to_str().ok()?.parse().ok());
    let Some(seed) = seed else {
        // The sidecar's question whether this server is ready.
        return Ok(Response::new(Pieces {
            told: Some(0),
            ..Pieces::default()
        }));
    };
    let plan = Plan::of(seed, &examples);
    let flaw = flaws(&plan);
    if plan.cut == Some(Cut::BeforeHead) || flaw == Some(Flaw::NoAnswer) {
        return Err("cut before the head");
    }
    let mut response = Response::new(plan.answer.clone());
    *response.status_mut() = plan.status;
    response.headers_mut().clone_from(&plan.answer_headers);
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    (
        head.method.as_str(),
        head.uri.path_and_query().map(http::uri::PathAndQuery::as_str),
    )
        .hash(&mut hasher);
    hash_fields(&head.headers, &mut hasher);
    hasher.write(&collected.to_bytes());
    hash_fields(&trailers, &mut hasher);
    flaw.filter(|flaw| *flaw == Flaw::RequestChanged)
        .hash(&mut hasher);
    // What arrived is part of the answer, so that a request that was changed on its way makes another one.
    response
        .headers_mut()
        .insert("x-request-digest", hasher.finish().into());
    if let Some(flaw) = flaw {
        spoil(&mut response, flaw);
    }
    Ok(response)
}

/// In their order; without what belongs to a connection.
fn hash_fields(headers: &HeaderMap, hasher: &mut DefaultHasher) {
    let mut fields: Vec<(&str, Vec<&[u8]>)> = headers
        .keys()
        .filter(|name| **name != HOST && **name != CONNECTION)
        .map(|name| {
            let values = headers.get_all(name).iter().map(http::HeaderValue::as_bytes);
            (name.as_str(), values.collect())
        })
        .collect();
    fields.sort_unstable();
    fields.hash(hasher);
}

fn spoil(response: &mut Response<Pieces>, flaw: Flaw) {
    let pieces = response.body_mut();
    match flaw {
        Flaw::Status => {
            *response.status_mut() = StatusCode::IM_A_TEAPOT;
        }
        Flaw::HeaderGone => {
            response.headers_mut().remove("x-request-digest");
        }
        Flaw::HeaderTwice => {
            response
                .headers_mut()
                .append("x-request-digest", http::HeaderValue::from_static("1"));
        }
        Flaw::ByteFlipped | Flaw::ByteMissing => {
            let mut last = pieces.data.pop_back().expect("a body").to_vec();
            if flaw == Flaw::ByteFlipped {
                last[0] ^= 1;
            } else {
                last.remove(0);
                pieces.told = pieces.told.map(|told| told - 1);
            }
            pieces.data.push_back(last.into());
        }
        Flaw::TrailerChanged => {
            let trailers = pieces.trailers.as_mut().expect("trailers");
            let name = trailers.keys().next().expect("a trailer").clone();
            trailers.insert(name, http::HeaderValue::from_static("other"));
        }
        Flaw::TrailersGone => pieces.trailers = None,
        Flaw::Broken => pieces.cut = true,
        Flaw::RequestChanged | Flaw::NoAnswer => {}
    }
}

/// Nothing in these tests takes this long, unless it never comes.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
