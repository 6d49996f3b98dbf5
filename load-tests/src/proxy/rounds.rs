//! Everything in turn, again and again.

use std::io::Write as _;

use anyhow::Context as _;

use super::measure::{Care, Figures, Load, arrivals};
use super::{Contender, Settings};
use crate::schedule::Arrivals;
use crate::table::median;
use crate::traffic::Traffic;

/// Closed loops from which the slowest contender's peak is taken.
const LOOKS: u64 = 3;

/// Measures each contender, with its name, at every load with all of the traffics, in interleaved rounds. `upstreams`
/// are the processes of the constant-answer servers.
///
/// # Errors
/// When a request fails, a process ends, or the hypervisor keeps too much of the machine.
pub fn compare<C: Copy + Ord, R: Contender>(
    settings: &Settings,
    contenders: &[(C, R)],
    traffics: &[Traffic],
    upstreams: Vec<u32>,
) -> anyhow::Result<Figures<C>> {
    let care = Care {
        seconds: settings.seconds,
        most_steal: settings.most_steal,
        upstreams,
    };
    let loads = settings.loads();
    let mut figures = Figures::default();
    if loads.iter().any(|load| matches!(load, Load::Open(_))) {
        for traffic in traffics {
            let peak = peak(&care, contenders, traffic, settings.connections)?;
            for load in &loads {
                if let Some(rate) = arrivals(*load, peak).0.rate() {
                    figures.rates.insert((traffic.cell, *load), rate);
                }
            }
        }
    }
    for index in 0..settings.rounds {
        progress(&format!("round {} of {}", index + 1, settings.rounds));
        for traffic in traffics {
            for load in &loads {
                round(&care, contenders, traffic, *load, index, &mut figures)?;
            }
        }
    }
    Ok(figures)
}

/// One measurement of each contender, whose order takes turns.
fn round<C: Copy + Ord, R: Contender>(
    care: &Care,
    contenders: &[(C, R)],
    traffic: &Traffic,
    load: Load,
    round: usize,
    figures: &mut Figures<C>,
) -> anyhow::Result<()> {
    let rate = figures.rates.get(&(traffic.cell, load)).copied();
    let (arrivals, connections) = match load {
        Load::Open(_) => arrivals(Load::Open(100), rate.context("every open loop has a rate")?),
        Load::Closed(_) => arrivals(load, 0.0),
    };
    for place in 0..contenders.len() {
        let (name, running) = &contenders[(place + round) % contenders.len()];
        let sample = care
            .measure(running, traffic, arrivals, round as u64, connections)
            .with_context(|| format!("{}, {}, {load}", running.label(), traffic.cell.label()))?;
        figures.add(traffic.cell, load, *name, sample);
    }
    Ok(())
}

/// What the slowest contender manages, as a first look.
fn peak<C, R: Contender>(
    care: &Care,
    contenders: &[(C, R)],
    traffic: &Traffic,
    connections: usize,
) -> anyhow::Result<f64> {
    let mut slowest = f64::INFINITY;
    for (_, running) in contenders {
        let looked: Vec<_> = (0..LOOKS)
            .map(|seed| care.measure(running, traffic, Arrivals::Closed, seed, connections))
            .collect::<Result<_, _>>()
            .with_context(|| format!("{}, {}", running.label(), traffic.cell.label()))?;
        let rates: Vec<f64> = looked.into_iter().flatten().map(|sample| sample.rate).collect();
        anyhow::ensure!(
            !rates.is_empty(),
            "the hypervisor keeps more than --most-steal of the machine's time: try later"
        );
        slowest = slowest.min(median(&rates));
    }
    Ok(slowest)
}

/// A long run says where it is.
pub fn progress(text: &str) {
    let _closed_pipe = writeln!(std::io::stderr(), "{text}");
}
