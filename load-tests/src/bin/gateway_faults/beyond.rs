//! More arrives than the replicas can do: how much of what they can do is still done?

use std::time::Duration;

use plumbline_load_tests::load::{self, Plan};
use plumbline_load_tests::schedule::Arrivals;
use plumbline_load_tests::table::{Table, figure};

use crate::Arguments;
use crate::cluster::Cluster;
use crate::goal::{Found, Goal, verdict};

/// Service time: slow enough that three times the peak is nothing for the gateway and the generator.
const SERVICE: Duration = Duration::from_millis(20);

/// Arrivals as a multiple of the peak.
const TIMES: f64 = 3.0;

/// An answer that comes later after its request was due is of no use any more.
const USEFUL: Duration = Duration::from_millis(250);

/// For the limit to find its place.
const WARM_UP: Duration = Duration::from_secs(3);

/// Connections of the closed loop that finds the peak.
const PEAK_CONNECTIONS: usize = 64;

/// Connections of the overload: more than are ever answered in time.
const CONNECTIONS: usize = 1_000;

pub(crate) fn run(cluster: &Cluster, arguments: &Arguments) -> anyhow::Result<Found> {
    cluster.heal(SERVICE);
    let duration = Duration::try_from_secs_f64(arguments.seconds * 2.0)?;
    let mut table = Table::new(&[
        "route",
        "peak req/s",
        "due req/s",
        "good req/s",
        "goodput ÷ peak",
        "p50 / p99 of what was answered, ms",
        "of it too late",
        "refused",
        "p50 / p99 to refuse, ms",
        "failed",
        "steal",
        "",
    ]);
    let (mut peak, mut limited) = (0.0_f64, 0.0);
    for (what, more) in [
        ("without a limit", ""),
        ("`[route.concurrency]`", "[route.concurrency]"),
    ] {
        let gateway = cluster.gateway(more)?;
        let mut plan = Plan {
            arrivals: Arrivals::Closed,
            connections: PEAK_CONNECTIONS,
            warm_up: WARM_UP,
            ..gateway.plan(1.0, duration)?
        };
        plan.expect.may_refuse = true;
        // One peak for both: what the replicas do is not less because one of the gateways holds them back.
        peak = peak.max(load::run(&plan)?.rate());
        plan.arrivals = Arrivals::Poisson(peak * TIMES);
        plan.connections = CONNECTIONS;
        let report = load::run(&plan)?;
        let tally = &report.tally;
        let useful = tally.ok.count_between(0, USEFUL.as_nanos() as u64);
        let good = useful as f64 / report.elapsed.as_secs_f64();
        limited = good / peak;
        let pair = |histogram: &hdrhistogram::Histogram<u64>| {
            let milliseconds = |quantile| figure(histogram.value_at_quantile(quantile) as f64 / 1e6);
            format!("{} / {}", milliseconds(0.5), milliseconds(0.99))
        };
        table.row(&[
            what.to_owned(),
            figure(peak),
            figure(peak * TIMES),
            figure(good),
            format!("{limited:.3}"),
            pair(&tally.ok),
            (tally.ok.len() - useful).to_string(),
            tally.refused.len().to_string(),
            pair(&tally.refused),
            tally.failed().to_string(),
            format!("{:.3}", report.steal),
            report.doubt().unwrap_or_default(),
        ]);
    }
    Ok(Found {
        title: "Three times the peak".to_owned(),
        goals: vec![Goal {
            what: format!("{TIMES} times the peak, `[route.concurrency]`: answers within {USEFUL:?} ÷ peak"),
            bound: "≥ 0.9",
            found: format!("{limited:.3}"),
            verdict: verdict(limited >= 0.9),
            exact: false,
        }],
        text: format!(
            "{SERVICE:?} a request. The peak is that of a closed loop of {PEAK_CONNECTIONS} connections through the gateway, the larger one of the two \
             routes; then Poisson arrivals of {TIMES} times as much for {duration:?} over {CONNECTIONS} connections. Good is what is answered 200 within \
             {USEFUL:?} of the time at which its request was due. The limit is off unless a route asks for it; the first row is what it is for.\n\n{}",
            table.text()
        ),
    })
}
