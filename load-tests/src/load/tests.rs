use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;
use crate::client::Http;
use crate::request::Encoding;

/// A server on a thread of its own that answers every request with what `answer` makes of its number; HTTP/1.1 and h2c.
fn server(answer: impl Fn(u64) -> (u16, &'static str) + Send + Sync + 'static) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    listener.set_nonblocking(true).expect("a setting");
    let state = Arc::new((answer, AtomicU64::new(0)));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |_request| {
                        let (status, body) = state.0(state.1.fetch_add(1, Ordering::Relaxed));
                        async move {
                            let body = Full::new(Bytes::from_static(body.as_bytes()));
                            Ok::<_, Infallible>(
                                Response::builder()
                                    .status(status)
                                    .header("retry-after", "1")
                                    .body(body)
                                    .expect("an answer"),
                            )
                        }
                    });
                    let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _client_gone = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
    });
    address
}

const GOOD: &str = r#"{"outputs":[{"name":"y","data":[1]}]}"#;

fn plan(address: SocketAddr, http: Http) -> Plan {
    let request = Request::post("/v2/models/m/infer", &json!({})).expect("a request");
    let request = Request {
        encoding: Encoding::V2,
        ..request
    };
    Plan {
        connections: 4,
        warm_up: Duration::ZERO,
        // Never reached: the count ends the run.
        duration: Duration::from_secs(30),
        ..Plan::new(Targets::new(vec![address]), Transport::plain(http), vec![request])
    }
}

#[test]
fn a_closed_loop_sends_what_was_asked_over_both_versions_of_http() {
    for http in [Http::One, Http::Two] {
        let report = run(&Plan {
            count: Some(101),
            threads: 2,
            ..plan(server(|_| (200, GOOD)), http)
        })
        .expect("answers");
        assert_eq!(
            (report.tally.ok.len(), report.tally.failed()),
            (101, 0),
            "{http:?} {report}"
        );
        assert_eq!(report.tally.reconnects, 0);
    }
}

#[test]
fn an_open_loop_sends_each_arrival_once() {
    for arrivals in [Arrivals::Constant(5_000.0), Arrivals::Poisson(5_000.0)] {
        let report = run(&Plan {
            count: Some(200),
            arrivals,
            ..plan(server(|_| (200, GOOD)), Http::One)
        })
        .expect("answers");
        assert_eq!(report.tally.ok.len(), 200, "{report}");
        assert_eq!((report.tally.due, report.tally.failed()), (200, 0));
    }
}

#[test]
fn refusals_and_failures_are_told_apart() {
    let answer = |number| match number % 4 {
        0 => (429, "busy"),
        1 => (500, "oh"),
        2 => (200, r#"{"outputs":[]}"#),
        _ => (200, GOOD),
    };
    let mut asked = Plan {
        count: Some(40),
        connections: 1,
        ..plan(server(answer), Http::One)
    };
    asked.expect.may_refuse = true;
    let tally = run(&asked).expect("answers").tally;
    assert_eq!((tally.ok.len(), tally.refused.len()), (10, 10));
    assert_eq!(tally.refused_without_retry_after, 0);
    assert_eq!(
        tally.faults.into_iter().collect::<Vec<_>>(),
        [(Fault::Status(500), 10), (Fault::Empty, 10)]
    );
    assert!(
        tally.examples.contains(&"status 500: oh".to_owned()),
        "{:?}",
        tally.examples
    );
}

#[test]
fn a_server_that_is_not_there_is_an_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    assert!(run(&plan(address, Http::One)).is_err());
}

/// The server takes the request and never answers: the run still ends, and says so.
#[test]
fn an_answer_that_never_comes_is_a_failure() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let report = run(&Plan {
        connections: 1,
        duration: Duration::from_millis(20),
        timeout: Duration::from_millis(20),
        arrivals: Arrivals::Constant(100.0),
        ..plan(listener.local_addr().expect("bound"), Http::One)
    })
    .expect("a connection");
    assert_eq!(report.tally.faults.get(&Fault::Unanswered), Some(&1), "{report}");
    assert_eq!(report.tally.faults.get(&Fault::Unsent), Some(&1), "{report}");
    assert!(report.doubt().is_some());
}

#[test]
fn endpoints_can_change_while_a_load_runs() {
    let (asked_new, new_was_asked) = std::sync::mpsc::channel();
    let (asked_old, old_was_asked) = std::sync::mpsc::channel();
    let old = server(move |_| {
        let _first = asked_old.send(());
        (200, GOOD)
    });
    let new = server(move |_| {
        // Nobody listens any more after the first.
        let _first = asked_new.send(());
        (500, "new")
    });
    let asked = Plan {
        connections: 2,
        arrivals: Arrivals::Constant(1_000.0),
        wait: Wait::Sleep,
        ..plan(old, Http::One)
    };
    let (targets, stop) = (Arc::clone(&asked.targets), Arc::clone(&asked.stop));
    let change = std::thread::spawn(move || {
        // The connections are made: they have to be left.
        let _asked = old_was_asked.recv_timeout(Duration::from_secs(20));
        targets.set(vec![new]);
        let reached = new_was_asked.recv_timeout(Duration::from_secs(20));
        stop.store(true, Ordering::Relaxed);
        reached
    });
    let tally = run(&asked).expect("answers").tally;
    change
        .join()
        .expect("no panic")
        .expect("the new endpoint was asked");
    assert!(
        tally.faults.contains_key(&Fault::Status(500)),
        "{:?}",
        tally.faults
    );
}

/// One answer stalls, and holds up everything that was due meanwhile: each request counts the part that it waited.
#[test]
fn a_stall_shows_in_every_request_that_it_held_up() {
    let stall = Duration::from_millis(60);
    let address = server(move |number| {
        if number == 0 {
            // The service time of a slow server; longer on a busy machine, which the test does not mind.
            std::thread::sleep(stall);
        }
        (200, GOOD)
    });
    let report = run(&Plan {
        connections: 1,
        count: Some(20),
        arrivals: Arrivals::Constant(1_000.0),
        ..plan(address, Http::One)
    })
    .expect("answers");
    // The last one was due 19 ms after the first was, and before the stall was over.
    let least = Duration::from_nanos(report.tally.ok.min());
    assert_eq!(report.tally.ok.len(), 20);
    assert!(least + Duration::from_millis(20) > stall, "{least:?}\n{report}");
}
