//! Request smuggling, differentially: whatever a client sends, what reaches the endpoint is nothing or exactly one request
//! for each that the client made by RFC 9112, word for word.
//!
//! Connections of several requests are derived from their number ([`generate`]), most of them damaged. [`reading`] says what
//! they mean. The endpoint ([`recorder`]) takes the gateway's bytes apart strictly and looks each request up in what its
//! client has sent; the client ([`client`]) looks whether answers are those to its requests, in their order, and whether
//! sound requests before the first damaged one are all answered. The same with nginx and `HAProxy` between gateway and
//! recorder: what the gateway lets through they neither refuse nor read otherwise.
//!
//! `SMUGGLING_MESSAGES` says how many requests, `SMUGGLING_SEED` which ones. A violation tells its connection's bytes.

#[path = "../it/support.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with the tests in `it`, which use all of it"
)]
mod support;

mod client;
mod generate;
mod peers;
mod reading;
mod recorder;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::client::talk;
use crate::generate::Connection;
use crate::peers::Peer;
use crate::reading::Liberty;
use crate::recorder::{Findings, Recorder};
use crate::support::{TestGateway, churn};

/// Requests of a plain `cargo test`.
const FEW: u64 = 10_000;

/// Clients at once.
const CLIENTS: usize = 24;

/// Servers behind the gateway see one request in so many.
const SAMPLE: u64 = 10;

/// What came of all connections, as their clients saw it.
#[derive(Debug, Default)]
struct Sum {
    connections: u64,
    messages: u64,
    answered: u64,
    refused: BTreeMap<u16, u64>,
    /// Damages that were tried, and how often.
    damages: BTreeMap<&'static str, u64>,
    violations: u64,
    told: Vec<String>,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.messages += other.messages;
        self.answered += other.answered;
        self.violations += other.violations;
        for (status, count) in other.refused {
            *self.refused.entry(status).or_default() += count;
        }
        for (damage, count) in other.damages {
            *self.damages.entry(damage).or_default() += count;
        }
        self.told.extend(other.told);
        self.told.truncate(5);
    }
}

/// Sends connections until they have `count` requests.
async fn send(address: SocketAddr, seed: u64, count: u64) -> Sum {
    let (next, sent) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (next, sent) = (Arc::clone(&next), Arc::clone(&sent));
        clients.spawn(async move {
            let mut sum = Sum::default();
            while sent.load(Ordering::Relaxed) < count {
                let connection = Connection::new(seed, next.fetch_add(1, Ordering::Relaxed));
                let outcome = talk(address, &connection).await;
                sent.fetch_add(outcome.messages, Ordering::Relaxed);
                let violations = u64::from(outcome.violation.is_some());
                let mut damages = BTreeMap::new();
                for damage in connection.damages {
                    *damages.entry(damage).or_default() += 1;
                }
                sum.add(Sum {
                    connections: 1,
                    messages: outcome.messages,
                    answered: outcome.answered,
                    refused: outcome.refused,
                    damages,
                    violations,
                    told: outcome.violation.into_iter().collect(),
                });
            }
            sum
        });
    }
    let mut all = Sum::default();
    for sum in clients.join_all().await {
        all.add(sum);
    }
    all
}

/// A setting of the run, by the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} = {text}: expected a number"))
    })
}

#[expect(clippy::print_stdout, reason = "the figures of a run")]
fn report(figures: &str) {
    println!("{figures}");
}

/// Before endpoints that are kept busy for the whole run.
fn gateway(endpoint: String) -> TestGateway {
    TestGateway::start(vec![churn(&[endpoint])], |config| {
        config.upstream_idle_timeout = Duration::from_secs(2);
    })
}

/// Sends `count` requests to a gateway before `recorder`, or before `peer`, behind which it is; nothing may be wrong.
async fn run(what: &str, peer: Option<Peer>, recorder: Recorder, seed: u64, count: u64) -> Findings {
    let began = Instant::now();
    let endpoint = peer.as_ref().map_or_else(|| recorder.url(), Peer::url);
    let gateway = gateway(endpoint);
    let sum = send(gateway.address, seed, count).await;
    gateway.begin_shutdown();
    gateway.drained().await;
    // It would keep its connections.
    drop(peer);
    let findings = recorder.end().await;
    assert_eq!(sum.violations, 0, "{what}, clients:\n{}", sum.told.join("\n\n"));
    assert_eq!(
        findings.violations,
        0,
        "{what}, endpoint:\n{}",
        findings.told.join("\n\n")
    );
    // An answer can be lost with a connection that ends in the middle of the next request.
    assert!(findings.requests + findings.broken_off >= sum.answered, "{sum:?}");
    assert!(findings.requests > sum.messages / 4, "{sum:?} {findings:?}");
    report(&format!(
        "{what}: {} requests on {} connections in {:.0} s, {:?}; {} reached the endpoint whole, {} were broken off; \
         liberties {:?}; the gateway's own answers {:?}; no violation",
        sum.messages,
        sum.connections,
        began.elapsed().as_secs_f64(),
        sum.damages,
        findings.requests,
        findings.broken_off,
        findings.liberties,
        sum.refused,
    ));
    findings
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_or_exactly_one_request_reaches_the_endpoint() {
    let (count, seed) = (setting("SMUGGLING_MESSAGES", FEW), setting("SMUGGLING_SEED", 1));
    let recorder = Recorder::start(seed).await;
    let findings = run("recorder", None, recorder, seed, count).await;
    // What may be taken as one request is, so that the run has tried it.
    for liberty in Liberty::ALL {
        assert!(
            findings.liberties.contains_key(&liberty),
            "{liberty:?}: {findings:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx and HAProxy: make smuggling"]
async fn servers_behind_the_gateway_see_the_same_requests() {
    let (count, seed) = (
        setting("SMUGGLING_MESSAGES", FEW) / SAMPLE,
        setting("SMUGGLING_SEED", 1),
    );
    for (name, start) in [
        ("nginx", Peer::nginx as fn(SocketAddr) -> Peer),
        ("HAProxy", Peer::haproxy),
    ] {
        let recorder = Recorder::start(seed).await;
        let peer = start(recorder.address);
        peer.ready().await;
        run(name, Some(peer), recorder, seed, count).await;
    }
}

/// The same clients and recorder find what a proxy does wrong that passes on bytes as they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_careless_proxy_is_found() {
    let recorder = Recorder::start(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (address, endpoint) = (listener.local_addr().expect("bound"), recorder.address);
    let proxy = tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.expect("a connection");
            tokio::spawn(async move {
                let mut server = TcpStream::connect(endpoint).await.expect("connected");
                let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    let _sum = send(address, 1, FEW).await;
    proxy.abort();
    let findings = recorder.end().await;
    assert!(findings.violations > FEW / 10, "{findings:?}");
}
