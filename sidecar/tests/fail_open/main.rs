//! The sidecar fails open: whatever clients and the model server say to each other, and whatever happens to the observer, an
//! answer through the sidecar is the direct one, and every exchange is accounted for.
//!
//! Exchanges are derived from their number: six wire formats over HTTP/1.1 and HTTP/2, bodies in pieces, with and without a
//! told length, damaged, compressed, mislabelled, too large; statuses, repeated headers, trailers; answers that break off,
//! clients that leave. The model server puts a digest of the request that arrived into its answer, so that requests are
//! compared as well. Three sidecars share the load: one whose observer panics at one exchange in a hundred while the sink of
//! its events is moody, one whose queue has two places and whose sink is dead, one whose profile is corrupt. Rows shift and
//! come back all the time, so that there are episodes to tell of.
//!
//! `FAIL_OPEN_EXCHANGES` says how many, `FAIL_OPEN_SEED` from which number on. A difference names its exchange.

#[path = "../it/harness.rs"]
#[allow(dead_code, reason = "shared with the tests in `it`, which use all of it")]
mod harness;
#[path = "../it/model.rs"]
#[allow(dead_code, reason = "shared with the tests in `it`, which use all of it")]
mod model;

mod accounts;
mod client;
mod pieces;
mod plan;
mod server;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use plumbline_sidecar::{Config, Hook, NamedProfile};
use plumbline_testkit::predictor::RefusingPort;
use tokio::task::JoinSet;

use crate::accounts::{Events, MoodySink, skipped_rows};
use crate::client::{Difference, Peer, compare};
use crate::harness::TestSidecar;
use crate::plan::{Examples, PHASE, Plan};
use crate::server::{Flaw, ModelServer};

/// Exchanges of a plain `cargo test`.
const FEW: u64 = 2_000;

/// Clients at once.
const CLIENTS: u64 = 12;

/// One exchange in so many meets an observer that panics.
const PANIC_EVERY: u64 = 100;

/// What the panics of the test say, so that they are not printed a million times.
const PANIC: &str = "injected by the test";

/// Exchanges through one proxy that carried predictions.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    predictions: u64,
    /// Of those, broken off by the model server.
    cut: u64,
    /// Of those, left by the client.
    left: u64,
}

/// What came of all exchanges.
#[derive(Default)]
struct Sum {
    /// By proxy.
    sent: Vec<Sent>,
    answers: u64,
    differences: Vec<Difference>,
}

/// One that asks directly and through the proxies in turn.
struct Client {
    examples: Arc<Examples>,
    direct: Peer,
    proxies: Vec<Peer>,
    sum: Sum,
}

impl Client {
    /// Sends these exchanges, one after the other.
    async fn send(&mut self, seeds: impl Iterator<Item = u64>) {
        for seed in seeds {
            let plan = Plan::of(seed, &self.examples);
            // Not by the number, of which each client has every twelfth.
            let proxy = (seed / CLIENTS % self.proxies.len() as u64) as usize;
            let expected = self.direct.ask(&plan).await;
            let actual = self.proxies[proxy].ask(&plan).await;
            let sent = &mut self.sum.sent[proxy];
            sent.predictions += u64::from(plan.is_prediction);
            sent.cut += u64::from(plan.is_prediction && plan.cut.is_some());
            sent.left += u64::from(plan.is_prediction && plan.leaves);
            self.sum.answers += 1;
            let difference = compare(&plan, &expected, &actual).err();
            self.sum.differences.extend(difference);
        }
    }
}

/// Sends exchanges `first..first + count` directly and through the proxies in turn.
async fn run(
    examples: &Arc<Examples>,
    direct: SocketAddr,
    proxies: &[SocketAddr],
    first: u64,
    count: u64,
) -> Sum {
    let none = || Sum {
        sent: vec![Sent::default(); proxies.len()],
        ..Sum::default()
    };
    let client = |_| Client {
        examples: Arc::clone(examples),
        direct: Peer::new(direct),
        proxies: proxies.iter().copied().map(Peer::new).collect(),
        sum: none(),
    };
    let mut clients: Vec<Client> = (0..CLIENTS).map(client).collect();
    let (mut from, end) = (first, first + count);
    while from < end {
        // A phase begins when all clients have ended the one before: otherwise its rows mix with that one's.
        let to = end.min((from / PHASE + 1) * PHASE);
        let mut sending = JoinSet::new();
        for (start, mut client) in (from..).zip(clients) {
            sending.spawn(async move {
                client.send((start..to).step_by(CLIENTS as usize)).await;
                client
            });
        }
        clients = sending.join_all().await;
        from = to;
    }
    let mut all = none();
    for Client { sum, .. } in clients {
        for (all, of_client) in all.sent.iter_mut().zip(&sum.sent) {
            all.predictions += of_client.predictions;
            all.cut += of_client.cut;
            all.left += of_client.left;
        }
        all.answers += sum.answers;
        all.differences.extend(sum.differences);
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

fn quiet_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<&str>() != Some(&PANIC) {
            usual(panic);
        }
    }));
}

/// Analysis that finds an episode in each phase of shifted rows, and its end after it: small windows, and a threshold that what is
/// damaged does not reach.
fn with_profile(config: &mut Config) {
    config.profiles = vec![NamedProfile {
        model: "churn".to_owned(),
        profile: model::profile(),
    }];
    config.capture_limit = 64 << 10;
    let drift = &mut config.drift;
    (drift.window_rows, drift.min_rows) = (20, 20);
    (drift.warning_effect, drift.drift_effect) = (1.0, 1.0);
    drift.false_alarm_rate = 1e-3;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_through_the_sidecar_are_the_direct_ones_whatever_happens() {
    let (count, first) = (setting("FAIL_OPEN_EXCHANGES", FEW), setting("FAIL_OPEN_SEED", 1));
    quiet_panics();
    let examples = Arc::new(Examples::collect().await);
    let server = ModelServer::start(Arc::clone(&examples), |_| None).await;
    let (dead_sink, moody_sink) = (RefusingPort::new(), MoodySink::start().await);
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("churn")).expect("created");
    std::fs::write(
        directory.path().join("churn/profile.json"),
        b"{\"format\":\"plumb",
    )
    .expect("written");

    let (seen, panics) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let panicking = TestSidecar::start(&server.url(), |config| {
        with_profile(config);
        config.events_to = Some(moody_sink.url().parse().expect("a URL"));
        let panics = Arc::clone(&panics);
        config.before_analysis = Some(Hook::new(move || {
            if seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(PANIC_EVERY) {
                panics.fetch_add(1, Ordering::Relaxed);
                std::panic::panic_any(PANIC);
            }
        }));
    })
    .await;
    let crowded = TestSidecar::start(&server.url(), |config| {
        with_profile(config);
        config.queue_items = NonZeroUsize::new(2).expect("not 0");
        config.events_to = Some(dead_sink.url().parse().expect("a URL"));
    })
    .await;
    let corrupt = TestSidecar::start(&server.url(), |config| {
        config.model_dir = directory.path().to_owned();
    })
    .await;

    let sidecars = [&panicking, &crowded, &corrupt];
    let began = Instant::now();
    let sum = run(
        &examples,
        server.address(),
        &sidecars.map(|sidecar| sidecar.address),
        first,
        count,
    )
    .await;
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(sum.answers, count);
    assert!(
        sum.differences.is_empty(),
        "{} of {count} exchanges differ, such as {:#?}",
        sum.differences.len(),
        &sum.differences[..sum.differences.len().min(3)]
    );
    let mut skipped = Vec::new();
    for (sidecar, sent) in sidecars.into_iter().zip(&sum.sent) {
        let rows = skipped_rows(sidecar, sent.predictions).await;
        assert_eq!(rows["upstream_failed"], sent.cut, "{sent:?} {rows:?}");
        assert_eq!(rows["client_gone"], sent.left, "{sent:?} {rows:?}");
        skipped.push(rows);
    }
    let injected = panics.load(Ordering::Relaxed);
    assert!(
        injected >= count / 3 / PANIC_EVERY / 2,
        "{injected} panics of {count} exchanges"
    );
    assert_eq!(skipped[0].get("panic"), Some(&injected));
    assert_eq!(
        panicking.metric("plumbline_sidecar_observer_panics_total"),
        injected as f64
    );
    // Each way of not observing was tried.
    for reason in [
        "upstream_failed",
        "error_status",
        "encoded",
        "unparsable",
        "too_large",
    ] {
        assert!(
            skipped[0].get(reason).copied().unwrap_or(0) > 0,
            "{reason}: {skipped:?}"
        );
    }
    assert!(skipped[1]["queue_full"] > 0, "{skipped:?}");
    assert!(skipped[2]["no_profile"] > 0, "{skipped:?}");
    let heard = Events::settled(&panicking, Some(&moody_sink)).await;
    assert_eq!(
        heard.contradictions(&moody_sink.told()),
        Vec::<String>::new(),
        "{heard:?}"
    );
    // Of two for each phase of shifted rows.
    assert!(heard.raised >= count / (2 * PHASE), "{heard:?}");
    let unheard = Events::settled(&crowded, None).await;
    assert_eq!((unheard.delivered, unheard.refused), (0, 0), "{unheard:?}");
    println!(
        "{count} exchanges from {first} on in {seconds:.0} s, none differs; {:?}; {injected} panics; skipped rows \
         {skipped:?}; of a dead sink {unheard:?}; of a moody one {heard:?}",
        sum.sent,
    );
}

/// The same comparison before a proxy that changes one answer in ten finds each of them, whatever is changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_changes_something_is_found() {
    fn flaw(plan: &Plan) -> Option<Flaw> {
        if !plan.seed.is_multiple_of(10) || plan.cut.is_some() || plan.leaves {
            return None;
        }
        let flaw = Flaw::ALL[(plan.seed / 10 % Flaw::ALL.len() as u64) as usize];
        let applies = match flaw {
            Flaw::ByteFlipped | Flaw::ByteMissing => !plan.answer.data.is_empty(),
            Flaw::TrailerChanged | Flaw::TrailersGone => plan.answer.trailers.is_some(),
            // A body that ended with its told length cannot break off after it.
            Flaw::Broken => plan.answer.told.is_none() && !plan.answer.data.is_empty(),
            _ => true,
        };
        applies.then_some(flaw)
    }
    let examples = Arc::new(Examples::collect().await);
    let honest = ModelServer::start(Arc::clone(&examples), |_| None).await;
    let flawed = ModelServer::start(Arc::clone(&examples), flaw).await;
    let sum = run(&examples, honest.address(), &[flawed.address()], 1, 3_000).await;
    let expected: BTreeMap<u64, Flaw> = (1..=3_000)
        .filter_map(|seed| Some((seed, flaw(&Plan::of(seed, &examples))?)))
        .collect();
    let found: Vec<u64> = {
        let mut found: Vec<u64> = sum.differences.iter().map(|difference| difference.seed).collect();
        found.sort_unstable();
        found
    };
    assert_eq!(found, expected.keys().copied().collect::<Vec<_>>());
    let tried: std::collections::BTreeSet<&Flaw> = expected.values().collect();
    assert_eq!(tried.len(), Flaw::ALL.len(), "{tried:?}");
}
