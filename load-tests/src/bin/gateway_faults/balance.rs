//! One replica of four is slow, or refuses: how much of it do clients see?

use std::time::Duration;

use http::StatusCode;
use plumbline_load_tests::load::{self, Plan, Report};
use plumbline_load_tests::ratio::Interval;
use plumbline_load_tests::replica::Behaviour;
use plumbline_load_tests::table::{Table, figure};

use crate::Arguments;
use crate::cluster::{Cluster, Gateway, REPLICAS, SERVICE, WORKERS};
use crate::goal::{Found, Goal, verdict};

/// How many times slower the slow replica is.
const TIMES: u32 = 10;

/// Before all replicas are well again in the eyes of the gateway: the latency that it has seen decays with 2 s.
const FORGET: Duration = Duration::from_secs(5);

/// Half of what the replicas can do.
fn rate() -> f64 {
    (REPLICAS * WORKERS) as f64 / SERVICE.as_secs_f64() / 2.0
}

/// The last replica's share of what arrived since `before`.
fn share(cluster: &Cluster, before: &[u64]) -> f64 {
    let now = cluster.requests();
    let arrived: Vec<u64> = now.iter().zip(before).map(|(now, before)| now - before).collect();
    let all: u64 = arrived.iter().sum();
    arrived[REPLICAS - 1] as f64 / all as f64
}

fn row(what: &str, report: &Report, share: f64) -> Vec<String> {
    let tally = &report.tally;
    vec![
        what.to_owned(),
        (report.answers() + tally.failed()).to_string(),
        tally.failed().to_string(),
        figure(report.micros(0.5) / 1e3),
        figure(report.micros(0.99) / 1e3),
        figure(report.micros(0.999) / 1e3),
        format!("{:.2} %", share * 100.0),
        format!("{:.3}", report.steal),
        report.doubt().unwrap_or_default(),
    ]
}

const COLUMNS: [&str; 9] = [
    "round",
    "requests",
    "failed",
    "p50, ms",
    "p99, ms",
    "p99.9, ms",
    "share of the last replica",
    "steal",
    "",
];

pub(crate) fn slow(cluster: &Cluster, arguments: &Arguments) -> anyhow::Result<Found> {
    let gateway = cluster.gateway("")?;
    let duration = Duration::try_from_secs_f64(arguments.seconds)?;
    let mut table = Table::new(&COLUMNS);
    let (mut well, mut ill) = (Vec::new(), Vec::new());
    for round in 1..=arguments.rounds {
        for slow in [false, true] {
            let service = if slow { SERVICE * TIMES } else { SERVICE };
            cluster.replicas[REPLICAS - 1].behave(Behaviour::Answers(service));
            let plan = Plan {
                // The moment in which a replica becomes slow is part of being slow; its coming back is of neither.
                warm_up: if slow { Duration::ZERO } else { FORGET },
                seed: round as u64,
                ..gateway.plan(rate(), duration)?
            };
            let before = cluster.requests();
            let report = load::run(&plan)?;
            let what = format!("{round}, {}", if slow { "one slow" } else { "all well" });
            table.row(&row(&what, &report, share(cluster, &before)));
            if slow { &mut ill } else { &mut well }.push(report.micros(0.99));
        }
    }
    let ratio = Interval::of_ratio(&ill, &well);
    Ok(Found {
        title: "One replica ten times slower".to_owned(),
        goals: vec![Goal {
            what: format!(
                "one of {REPLICAS} replicas {TIMES} times slower: p99 of all requests ÷ that with all well"
            ),
            bound: "≤ 1.3",
            found: ratio.to_string(),
            verdict: ratio.at_most(1.3),
            exact: false,
        }],
        text: format!(
            "By turns all replicas answer after {SERVICE:?}, and the last one after {:?}. Poisson arrivals, {} a second, half of what the \
             replicas can do, over 128 connections; default settings of the route. A round with a slow replica begins when the replica becomes \
             slow; between it and the next one, {FORGET:?} pass unrecorded. Latency counts from when a request was due; ratio of the medians over \
             the rounds, 95 % bootstrap interval.\n\n{}",
            SERVICE * TIMES,
            figure(rate()),
            table.text()
        ),
    })
}

pub(crate) fn refusing(cluster: &Cluster, arguments: &Arguments) -> anyhow::Result<Found> {
    let mut table = Table::new(&COLUMNS);
    let mut most = 0.0_f64;
    for (what, more) in [("as it is", ""), ("`idempotent`", "idempotent = true")] {
        cluster.heal(SERVICE);
        let gateway: Gateway = cluster.gateway(more)?;
        let mut plan = gateway.plan(rate(), Duration::try_from_secs_f64(arguments.seconds * 4.0)?)?;
        plan.expect.may_refuse = true;
        cluster.replicas[REPLICAS - 1].behave(Behaviour::Refuses(StatusCode::TOO_MANY_REQUESTS));
        let before = cluster.requests();
        let report = load::run(&plan)?;
        let share = share(cluster, &before);
        table.row(&row(what, &report, share));
        most = most.max(share);
    }
    Ok(Found {
        title: "A replica that answers 429 at once".to_owned(),
        goals: vec![Goal {
            what: "a replica that answers 429 at once: its share of the requests".to_owned(),
            bound: "< 3 %",
            found: format!("{:.2} %", most * 100.0),
            verdict: verdict(most < 0.03),
            exact: false,
        }],
        text: format!(
            "The last replica refuses from the first request on, as fast as it can; the others answer after {SERVICE:?}. {} requests a second; \
             what reaches each replica is counted there. A 429 is the client's: it is not sent again, on an idempotent route either.\n\n{}",
            figure(rate()),
            table.text()
        ),
    })
}
