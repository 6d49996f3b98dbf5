//! The tables.

use std::fmt::Write as _;

use plumbline_load_tests::process::Memory;
use plumbline_load_tests::proxy::{Figures, Load, Pick, Settings};
use plumbline_load_tests::ratio::{Interval, Verdict};
use plumbline_load_tests::table::{Table, figure, median};
use plumbline_load_tests::traffic::{Cell, Traffic};

use crate::contender::Name;
use crate::scale::{Found, Scale};

/// One mebibyte, and the megabyte in which goals are told.
const MIB: f64 = 1_048_576.0;
const MB: f64 = 1e6;

/// Everything that was found.
pub(crate) struct Outcome<'a> {
    pub(crate) figures: Figures<Name>,
    pub(crate) names: &'a [Name],
    pub(crate) idle: Vec<(Name, Memory)>,
    pub(crate) loaded: Vec<(Name, Memory)>,
    pub(crate) scale: Scale,
    pub(crate) large: Vec<Found>,
}

pub(crate) fn text(outcome: &Outcome<'_>, traffics: &[Traffic], settings: &Settings) -> String {
    let loads = settings.loads();
    let mut text = settings.told(&outcome.figures);
    text += "\nEach proxy is the one hop in front of the same two constant-answer servers and keeps its connections to them. nginx \
             has one worker, haproxy one thread, Envoy a concurrency of 1, the gateway one network thread; all choose among the \
             endpoints by requests in flight, the gateway also by latency. The gateway verifies an API key, asks a policy and counts; \
             the others do none of that. nginx and haproxy speak HTTP/2 without TLS on ports of their own here, Envoy could and the gateway does \
             on one port.\n";
    text += &goals(outcome, traffics, &loads);
    for traffic in traffics {
        let _never = write!(
            text,
            "\n## {}\n\nA body has {} bytes.\n\n",
            traffic.cell.label(),
            traffic.body_bytes()
        );
        text += &saturated(outcome, traffic.cell, loads[0]);
        for load in &loads[1..] {
            text += &latencies(outcome, traffic.cell, *load);
        }
    }
    text += &memory(outcome);
    text += &large(outcome);
    text
}

/// Throughput and CPU time.
fn saturated(outcome: &Outcome<'_>, cell: Cell, load: Load) -> String {
    let figures = &outcome.figures;
    let mut table = Table::new(&[
        &load.to_string(),
        "requests/s",
        "CPU µs/request",
        "÷ nginx",
        "÷ haproxy",
        "÷ Envoy",
    ]);
    for name in outcome.names {
        let against = |other| {
            if [other, Name::Direct].contains(name) {
                return "-".to_owned();
            }
            let [over, under] = figures.together(cell, load, [*name, other], |sample| sample.cpu);
            Interval::of_ratio(&over, &under).to_string()
        };
        table.row(&[
            name.label().to_owned(),
            figure(figures.median(cell, load, *name, |sample| sample.rate)),
            figure(figures.median(cell, load, *name, |sample| sample.cpu)),
            against(Name::Nginx),
            against(Name::Haproxy),
            against(Name::Envoy),
        ]);
    }
    table.text().to_owned()
}

/// Latency at a fixed rate.
fn latencies(outcome: &Outcome<'_>, cell: Cell, load: Load) -> String {
    let figures = &outcome.figures;
    let rate = figures.rates.get(&(cell, load)).copied().unwrap_or(f64::NAN);
    let title = format!("{load}: {} requests/s", figure(rate));
    let mut table = Table::new(&[
        &title,
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "added p50 µs",
        "added p99 µs",
        "added p99.9 µs",
        "CPU µs/request",
    ]);
    let quantiles: [Pick; 3] = [|sample| sample.p50, |sample| sample.p99, |sample| sample.p999];
    for name in outcome.names {
        let mut row = vec![name.label().to_owned()];
        row.extend(quantiles.map(|pick| figure(figures.median(cell, load, *name, pick))));
        row.extend(quantiles.map(|pick| {
            let [added] = figures.added(cell, load, Name::Direct, [*name], pick);
            if *name == Name::Direct {
                return "-".to_owned();
            }
            Interval::of_excess(&added, 0.0, &added).to_string()
        }));
        row.push(figure(figures.median(cell, load, *name, |sample| sample.cpu)));
        table.row(&row);
    }
    format!("\n{}", table.text())
}

fn memory(outcome: &Outcome<'_>) -> String {
    let mut table = Table::new(&[
        "all processes",
        "idle RSS MiB",
        "after the load RSS MiB",
        "PSS MiB",
    ]);
    for ((name, idle), (_, loaded)) in outcome.idle.iter().zip(&outcome.loaded) {
        table.row(&[
            name.label().to_owned(),
            figure(idle.resident as f64 / MIB),
            figure(loaded.resident as f64 / MIB),
            figure(loaded.proportional as f64 / MIB),
        ]);
    }
    format!("\n## Memory\n\n{}", table.text())
}

/// A gateway with very many routes.
fn large(outcome: &Outcome<'_>) -> String {
    if outcome.large.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        "routes from",
        "idle RSS MiB",
        "a change effective, p50 ms",
        "least ms",
        "most ms",
    ]);
    for found in &outcome.large {
        let (least, most) = found
            .milliseconds
            .iter()
            .fold((f64::INFINITY, 0.0_f64), |(least, most), value| {
                (least.min(*value), most.max(*value))
            });
        table.row(&[
            found.what.to_owned(),
            figure(found.memory.resident as f64 / MIB),
            figure(median(&found.milliseconds)),
            figure(least),
            figure(most),
        ]);
    }
    format!(
        "\n## {} routes with {} endpoints each\n\n{} changes, each of which gives one more model an endpoint; effective with the first \
         request that it answers, asked for without a pause.\n\n{}",
        outcome.scale.routes,
        outcome.scale.endpoints,
        outcome.scale.changes,
        table.text()
    )
}

/// What should be so, and what is.
struct Goal {
    what: String,
    found: String,
    verdict: Verdict,
}

fn goals(outcome: &Outcome<'_>, traffics: &[Traffic], loads: &[Load]) -> String {
    let mut table = Table::new(&["goal", "of", "found", "verdict"]);
    let mut add = |of: &str, goal: Goal| {
        table.row(&[goal.what, of.to_owned(), goal.found, goal.verdict.to_string()]);
    };
    for traffic in traffics {
        for goal in of_cell(outcome, traffic.cell, loads) {
            add(traffic.cell.label(), goal);
        }
    }
    if let Some((_, idle)) = outcome.idle.iter().find(|(name, _)| *name == Name::Gateway) {
        add("idle", at_most("RSS", "MB", 15.0, idle.resident as f64 / MB));
    }
    for found in &outcome.large {
        add(
            found.what,
            at_most(
                "RSS with all routes",
                "MB",
                40.0,
                found.memory.resident as f64 / MB,
            ),
        );
        let took = median(&found.milliseconds);
        add(found.what, at_most("a change effective, p50", "ms", 10.0, took));
    }
    format!("\n## Goals\n\n{}", table.text())
}

/// A goal for one figure.
fn at_most(what: &str, unit: &str, goal: f64, found: f64) -> Goal {
    Goal {
        what: format!("{what} ≤ {goal} {unit}"),
        found: format!("{} {unit}", figure(found)),
        verdict: if found <= goal {
            Verdict::Met
        } else {
            Verdict::Missed
        },
    }
}

fn of_cell(outcome: &Outcome<'_>, cell: Cell, loads: &[Load]) -> Vec<Goal> {
    use Name::{Direct, Gateway, Haproxy, Nginx};

    let figures = &outcome.figures;
    let mut goals = Vec::new();
    // Told for HTTP/1.1 and for gRPC; HTTP/2 to HTTP/1.1 has none of its own.
    let times = match cell {
        Cell::SmallJsonHttp2 => None,
        Cell::SmallGrpc | Cell::WideGrpc => Some(1.0),
        Cell::SmallJson | Cell::WideJson | Cell::WideBinary => Some(1.25),
    };
    let has = |load, names: &[Name]| names.iter().all(|name| figures.has(cell, load, *name));
    if let Some(times) = times.filter(|_| has(loads[0], &[Gateway, Nginx])) {
        let [gateway, nginx] = figures.together(cell, loads[0], [Gateway, Nginx], |sample| sample.cpu);
        let ratio = Interval::of_ratio(&gateway, &nginx);
        goals.push(Goal {
            what: format!("CPU a request ÷ nginx ≤ {times}"),
            found: ratio.to_string(),
            verdict: ratio.at_most(times),
        });
    }
    let quantiles: [(&str, f64, Pick); 2] = [
        ("p50", 1.1, |sample| sample.p50),
        ("p99", 1.0, |sample| sample.p99),
    ];
    for load in loads[1..].iter().filter(|load| has(**load, &Name::ALL[..])) {
        for (quantile, times, pick) in quantiles {
            let [gateway, nginx, haproxy] =
                figures.added(cell, *load, Direct, [Gateway, Nginx, Haproxy], pick);
            let (better, other) = if median(&nginx) <= median(&haproxy) {
                ("nginx", nginx)
            } else {
                ("haproxy", haproxy)
            };
            goals.push(Goal {
                what: format!("added {quantile} ≤ {times} × the better of nginx and haproxy, {load}"),
                found: format!(
                    "{} µs, {better} {} µs",
                    figure(median(&gateway)),
                    figure(median(&other))
                ),
                verdict: Interval::of_excess(&gateway, times, &other).at_most(0.0),
            });
        }
    }
    goals
}
