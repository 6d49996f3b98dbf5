//! The tables.

use std::fmt::Write as _;

use plumbline_load_tests::process::Memory;
use plumbline_load_tests::proxy::{Figures, Load, Pick, Settings};
use plumbline_load_tests::ratio::{Interval, Verdict};
use plumbline_load_tests::table::{Table, figure, median};
use plumbline_load_tests::traffic::Traffic;

use crate::contender::Name;

/// One mebibyte.
const MIB: f64 = 1_048_576.0;

pub(crate) fn text(
    figures: &Figures<Name>,
    traffics: &[Traffic],
    contenders: &[Name],
    memories: &[(String, Memory)],
    settings: &Settings,
) -> String {
    let loads = &settings.loads();
    let mut text = settings.told(figures);
    text += &goals(figures, traffics, loads);
    for traffic in traffics {
        let _never = write!(
            text,
            "\n## {}\n\nA body has {} bytes.\n\n",
            traffic.cell.label(),
            traffic.body_bytes()
        );
        text += &saturated(figures, traffic, loads, contenders);
        text += &latencies(figures, traffic, loads, contenders);
    }
    text += "\n## Memory\n\n";
    let mut table = Table::new(&["what", "RSS MiB", "PSS MiB"]);
    for (what, memory) in memories {
        table.row(&[
            what.clone(),
            figure(memory.resident as f64 / MIB),
            figure(memory.proportional as f64 / MIB),
        ]);
    }
    text += table.text();
    text
}

/// Throughput and CPU time.
fn saturated(figures: &Figures<Name>, traffic: &Traffic, loads: &[Load], contenders: &[Name]) -> String {
    let mut table = Table::new(&[
        "saturated",
        "requests/s",
        "CPU µs/request",
        "÷ nginx",
        "÷ analysis off",
        "rows observed",
    ]);
    let load = loads[0];
    let cell = traffic.cell;
    for contender in contenders {
        let against = |other| {
            let pairs = figures.together(cell, load, [*contender, other], |sample| sample.cpu);
            if *contender == other || *contender == Name::Direct {
                return "-".to_owned();
            }
            Interval::of_ratio(&pairs[0], &pairs[1]).to_string()
        };
        let middle = |pick: Pick| figure(figures.median(cell, load, *contender, pick));
        table.row(&[
            contender.label().to_owned(),
            middle(|sample| sample.rate),
            middle(|sample| sample.cpu),
            against(Name::Nginx),
            against(Name::Off),
            middle(|sample| sample.observed),
        ]);
    }
    table.text().to_owned()
}

/// Latency at fixed rates.
fn latencies(figures: &Figures<Name>, traffic: &Traffic, loads: &[Load], contenders: &[Name]) -> String {
    let cell = traffic.cell;
    let mut text = String::new();
    for load in &loads[1..] {
        let rate = figures.rates.get(&(cell, *load)).copied().unwrap_or(f64::NAN);
        let title = format!("{load}: {} requests/s", figure(rate));
        let mut table = Table::new(&[
            &title,
            "p50 µs",
            "p99 µs",
            "added p50 µs",
            "added p99 µs",
            "CPU µs/request",
            "rows observed",
        ]);
        for contender in contenders {
            let middle = |pick: Pick| figure(figures.median(cell, *load, *contender, pick));
            let added = |pick: Pick| {
                let [added] = figures.added(cell, *load, Name::Direct, [*contender], pick);
                if *contender == Name::Direct {
                    return "-".to_owned();
                }
                Interval::of_excess(&added, 0.0, &added).to_string()
            };
            table.row(&[
                contender.label().to_owned(),
                middle(|sample| sample.p50),
                middle(|sample| sample.p99),
                added(|sample| sample.p50),
                added(|sample| sample.p99),
                middle(|sample| sample.cpu),
                middle(|sample| sample.observed),
            ]);
        }
        text += "\n";
        text += table.text();
    }
    text
}

/// What should be so, and what is.
struct Goal {
    what: String,
    found: String,
    verdict: Verdict,
}

fn goals(figures: &Figures<Name>, traffics: &[Traffic], loads: &[Load]) -> String {
    let mut table = Table::new(&["goal", "cell", "found", "verdict"]);
    for traffic in traffics {
        for goal in of_cell(figures, traffic, loads) {
            table.row(&[
                goal.what,
                traffic.cell.label().to_owned(),
                goal.found,
                goal.verdict.to_string(),
            ]);
        }
    }
    format!("\n## Goals\n\n{}", table.text())
}

fn of_cell(figures: &Figures<Name>, traffic: &Traffic, loads: &[Load]) -> Vec<Goal> {
    use Name::{Nginx, Off, On};

    let cell = traffic.cell;
    let all = |load, contenders: &[Name]| {
        contenders
            .iter()
            .all(|contender| figures.has(cell, load, *contender))
    };
    let mut goals = Vec::new();
    if all(loads[0], &[On, Nginx]) {
        let [on, nginx] = figures.together(cell, loads[0], [On, Nginx], |sample| sample.cpu);
        let ratio = Interval::of_ratio(&on, &nginx);
        goals.push(Goal {
            what: "CPU a request, everything on, ÷ nginx ≤ 1.5".to_owned(),
            found: ratio.to_string(),
            verdict: ratio.at_most(1.5),
        });
    }
    for load in &loads[1..] {
        let quantiles: [(&str, f64, Pick); 2] = [
            ("p50", 1.0, |sample| sample.p50),
            ("p99", 1.1, |sample| sample.p99),
        ];
        for (quantile, times, pick) in quantiles {
            if all(*load, &[On, Nginx, Name::Direct]) {
                let [on, nginx] = figures.added(cell, *load, Name::Direct, [On, Nginx], pick);
                goals.push(Goal {
                    what: format!("added {quantile} ≤ {times} × nginx's, {load}"),
                    found: format!("{} µs, nginx {} µs", figure(median(&on)), figure(median(&nginx))),
                    verdict: Interval::of_excess(&on, times, &nginx).at_most(0.0),
                });
            }
        }
        if all(*load, &[On, Off]) {
            let [on, off] = figures.together(cell, *load, [On, Off], |sample| sample.p99);
            let ratio = Interval::of_ratio(&on, &off);
            goals.push(Goal {
                what: format!("p99, analysis on ÷ off ≤ 1.05, {load}"),
                found: ratio.to_string(),
                verdict: ratio.at_most(1.05),
            });
        }
    }
    goals
}
