//! No replica does its work: how many requests does the gateway make of one?

use std::time::Duration;

use http::StatusCode;
use plumbline_load_tests::load::{self, Plan};
use plumbline_load_tests::replica::{Behaviour, Replica};
use plumbline_load_tests::table::{Table, figure};

use crate::Arguments;
use crate::cluster::{Cluster, Gateway, REPLICAS, SERVICE, until};
use crate::goal::{Found, Goal, progress, verdict};

/// Requests a second; those that nobody answers are there until their connections give up.
const RATE: f64 = 300.0;

/// With all replicas well before each outage: budgets are full, and connections open.
const BEFORE: Duration = Duration::from_secs(2);

/// An outage, and how it begins.
#[derive(Clone, Copy)]
enum Outage {
    Unavailable,
    Error,
    HangUp,
    Refused,
    Silent,
}

impl Outage {
    const ALL: [Self; 5] = [
        Self::Unavailable,
        Self::Error,
        Self::HangUp,
        Self::Refused,
        Self::Silent,
    ];

    fn label(self) -> &'static str {
        match self {
            Outage::Unavailable => "all answer 503 at once",
            Outage::Error => "all answer 502 at once",
            Outage::HangUp => "all close the connection instead of an answer",
            Outage::Refused => "all are killed: connections are refused",
            Outage::Silent => "all links are down: packets vanish",
        }
    }

    /// False where it cannot be made.
    fn begin(self, cluster: &mut Cluster) -> anyhow::Result<bool> {
        match self {
            Outage::Unavailable => cluster.refuse(StatusCode::SERVICE_UNAVAILABLE),
            Outage::Error => cluster.refuse(StatusCode::BAD_GATEWAY),
            Outage::HangUp => {
                for replica in &cluster.replicas {
                    replica.behave(Behaviour::HangsUp);
                }
            }
            Outage::Refused => cluster.replicas.iter_mut().for_each(Replica::kill),
            Outage::Silent => return cluster.links(false),
        }
        Ok(true)
    }

    fn end(self, cluster: &mut Cluster) -> anyhow::Result<()> {
        match self {
            Outage::Unavailable | Outage::Error | Outage::HangUp => {
                cluster.heal(SERVICE);
                Ok(())
            }
            Outage::Refused => (0..REPLICAS).try_for_each(|index| cluster.restart(index)),
            Outage::Silent => cluster.links(true).map(|_| ()),
        }
    }
}

/// Attempts at replicas, however they ended, of which those that had no connection reached none.
fn attempts(gateway: &Gateway) -> anyhow::Result<f64> {
    gateway.counted("plumbline_gateway_upstream_requests_total", &[])
}

pub(crate) fn run(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<Found> {
    let mut table = Table::new(&[
        "outage",
        "requests of clients",
        "reached a replica",
        "attempts",
        "attempts ÷ requests",
        "answered 200 meanwhile",
        "p50 / p99 of the refusals, ms",
        "well again after, s",
    ]);
    let mut most = 0.0_f64;
    let duration = Duration::try_from_secs_f64(arguments.seconds)?;
    for outage in Outage::ALL {
        let gateway = cluster.gateway("idempotent = true")?;
        let before = load::run(&gateway.plan(RATE, BEFORE)?)?;
        anyhow::ensure!(
            before.tally.failed() == 0,
            "before the outage: {:?}",
            before.tally.faults
        );
        let mut plan = Plan {
            // As many as arrive within the time to connect, a few times over.
            connections: 2_000,
            ..gateway.plan(RATE, duration)?
        };
        plan.expect.may_refuse = true;
        let (arrived, attempted) = (cluster.requests(), attempts(&gateway)?);
        if !outage.begin(cluster)? {
            progress(&format!("{}: not without network namespaces", outage.label()));
            continue;
        }
        let report = load::run(&plan);
        let arrived: u64 = cluster.requests().iter().sum::<u64>() - arrived.iter().sum::<u64>();
        let attempted = attempts(&gateway).map(|now| now - attempted);
        outage.end(cluster)?;
        let (report, attempted) = (report?, attempted?);
        let ended = std::time::Instant::now();
        until("requests are answered again", || {
            let probe = load::run(&Plan {
                count: Some(1),
                connections: 1,
                ..gateway.plan(RATE, duration)?
            })?;
            Ok(probe.tally.failed() == 0)
        })?;
        let tally = &report.tally;
        let requests = report.answers() + tally.failed();
        let amplification = attempted.max(arrived as f64) / requests as f64;
        most = most.max(amplification);
        let refused = |quantile| figure(tally.refused.value_at_quantile(quantile) as f64 / 1e6);
        table.row(&[
            outage.label().to_owned(),
            requests.to_string(),
            arrived.to_string(),
            figure(attempted),
            format!("{amplification:.3}"),
            tally.ok.len().to_string(),
            format!("{} / {}", refused(0.5), refused(0.99)),
            figure(ended.elapsed().as_secs_f64()),
        ]);
    }
    Ok(Found {
        title: "No replica does its work".to_owned(),
        goals: vec![Goal {
            what: "full outage: attempts at replicas ÷ requests of clients, the most of all kinds".to_owned(),
            bound: "≤ 1.2",
            found: format!("{most:.3}"),
            verdict: verdict(most <= 1.2),
            exact: false,
        }],
        text: format!(
            "An idempotent route, which is what may be sent again, default budget (15 %). {BEFORE:?} with all replicas well, then the outage for \
             {duration:?}: {RATE} requests a second over as many connections as it takes. Attempts are the gateway's count, those included that had \
             no connection; what reached a replica is the replicas' count.\n\n{}",
            table.text()
        ),
    })
}
