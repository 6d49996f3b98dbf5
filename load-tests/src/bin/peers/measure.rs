//! Cells of the table, and what was measured in them.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use plumbline_load_tests::client::{Http, Targets, Transport};
use plumbline_load_tests::inputs::{self, InputSpec};
use plumbline_load_tests::load::{self, Plan, Report};
use plumbline_load_tests::process::{on_cpus, proportional_memory};
use plumbline_load_tests::request::{Encoding, Request};
use plumbline_load_tests::table::median;

use crate::contender::{Kind, Place, Running};

/// Before each measurement.
const WARM_UP: Duration = Duration::from_millis(200);

/// Different bodies, sent in turn.
const BODIES: usize = 16;

/// What every model here takes.
const INPUT: &str = "X:FP32:20";

/// One kind of request at one number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) encoding: Encoding,
    pub(crate) rows: usize,
    pub(crate) connections: usize,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} rows, {} connections",
            self.encoding.label(),
            self.rows,
            self.connections
        )
    }
}

impl Cell {
    pub(crate) const ENCODINGS: [Encoding; 4] =
        [Encoding::V2, Encoding::V2Binary, Encoding::Grpc, Encoding::V1];
    pub(crate) const ROWS: [usize; 2] = [1, 32];
    pub(crate) const CONNECTIONS: [usize; 3] = [1, 16, 64];

    pub(crate) fn all() -> Vec<Cell> {
        let mut cells = Vec::new();
        for encoding in Self::ENCODINGS {
            for rows in Self::ROWS {
                for connections in Self::CONNECTIONS {
                    cells.push(Cell {
                        encoding,
                        rows,
                        connections,
                    });
                }
            }
        }
        cells
    }

    /// What is enough for a second model.
    pub(crate) fn few() -> Vec<Cell> {
        let mut cells = Self::all();
        cells.retain(|cell| {
            matches!(cell.encoding, Encoding::V2 | Encoding::Grpc) && cell.rows == 1 && cell.connections > 1
        });
        cells
    }

    pub(crate) fn measure(
        &self,
        running: &Running,
        requests: &[Request],
        seconds: f64,
    ) -> anyhow::Result<Report> {
        let http = if self.encoding == Encoding::Grpc {
            Http::Two
        } else {
            Http::One
        };
        let targets = Targets::new(vec![running.address(self.encoding)]);
        let report = load::run(&Plan {
            connections: self.connections,
            warm_up: WARM_UP,
            duration: Duration::try_from_secs_f64(seconds)?,
            processes: vec![running.server.pid()],
            ..Plan::new(targets, Transport::plain(http), requests.to_vec())
        })?;
        anyhow::ensure!(
            report.tally.failed() == 0,
            "requests failed:\n{report}\n{}",
            running.server.log()
        );
        Ok(report)
    }
}

/// The requests of each cell.
pub(crate) fn requests(model: &str, cells: &[Cell]) -> anyhow::Result<Vec<Vec<Request>>> {
    let spec: InputSpec = INPUT.parse().map_err(anyhow::Error::msg)?;
    cells
        .iter()
        .map(|cell| {
            inputs::requests(
                cell.encoding,
                model,
                std::slice::from_ref(&spec),
                None,
                &[cell.rows],
                BODIES,
                1,
            )
        })
        .collect()
}

/// One call of ONNX Runtime: for each number of rows, median and CPU time in microseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Floor(Vec<(usize, f64, f64)>);

impl Floor {
    pub(crate) fn measure(place: &Place, model: &Path) -> anyhow::Result<Floor> {
        let output = on_cpus(&place.programs.join("ort-call"), place.server_cpus.as_deref())
            .arg(model)
            .output()
            .context("cannot run ort-call")?;
        anyhow::ensure!(
            output.status.success(),
            "ort-call: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let lines = output.stdout.split(|byte| *byte == b'\n');
        lines
            .filter(|line| !line.is_empty())
            .map(|line| {
                let line: serde_json::Value = serde_json::from_slice(line)?;
                let number = |key: &str| line[key].as_f64().context("ort-call prints numbers");
                Ok((number("rows")? as usize, number("p50_us")?, number("cpu_us")?))
            })
            .collect::<anyhow::Result<_>>()
            .map(Floor)
    }
}

/// Rounds of one contender in one cell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds {
    pub(crate) rate: Vec<f64>,
    pub(crate) p50: Vec<f64>,
    pub(crate) p99: Vec<f64>,
    pub(crate) cpu: Vec<f64>,
    pub(crate) steal: Vec<f64>,
    /// Rounds in which the generator may have been the limit.
    pub(crate) doubts: usize,
}

/// What one contender used.
#[derive(Clone, Debug)]
pub(crate) struct Footprint {
    pub(crate) kind: Kind,
    pub(crate) ready: Duration,
    pub(crate) idle_memory: u64,
    pub(crate) idle_resident: u64,
    pub(crate) loaded_memory: u64,
}

/// Everything that was measured with one model.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) kinds: Vec<Kind>,
    rounds: Vec<(Kind, Cell, Rounds)>,
    pub(crate) floor: Vec<Floor>,
    pub(crate) footprints: Vec<Footprint>,
    /// Further starts of ours.
    pub(crate) ready: Vec<Duration>,
    /// Measurements that did not succeed.
    failures: Vec<(Kind, Cell)>,
}

impl Figures {
    pub(crate) fn new(kinds: &[Kind]) -> Self {
        Self {
            kinds: kinds.to_vec(),
            rounds: Vec::new(),
            floor: Vec::new(),
            footprints: Vec::new(),
            ready: Vec::new(),
            failures: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, kind: Kind, cell: Cell, report: &Report) {
        let same = |(other, at, _): &&mut (Kind, Cell, Rounds)| *other == kind && *at == cell;
        if self.rounds.iter_mut().find(same).is_none() {
            self.rounds.push((kind, cell, Rounds::default()));
        }
        if let Some((_, _, rounds)) = self.rounds.iter_mut().find(same) {
            rounds.rate.push(report.rate());
            rounds.p50.push(report.micros(0.5));
            rounds.p99.push(report.micros(0.99));
            rounds.cpu.push(report.cpu_micros());
            rounds.steal.push(report.steal);
            rounds.doubts += usize::from(report.doubt().is_some());
        }
    }

    pub(crate) fn failed(&mut self, kind: Kind, cell: Cell) {
        self.failures.push((kind, cell));
    }

    /// Whether every measurement succeeded.
    pub(crate) fn is_whole(&self) -> bool {
        self.failures.is_empty()
    }

    /// Measurements that did not succeed, in words.
    pub(crate) fn failures(&self) -> impl Iterator<Item = String> {
        self.failures
            .iter()
            .map(|(kind, cell)| format!("{}: {cell}", kind.label()))
    }

    pub(crate) fn finish(&mut self, running: &[Running]) {
        for running in running {
            // One that ended under the load has no memory left to tell; its failures are told.
            let Ok(loaded_memory) = proportional_memory(running.server.pid()) else {
                continue;
            };
            self.footprints.push(Footprint {
                kind: running.kind,
                ready: running.ready,
                idle_memory: running.idle_memory,
                idle_resident: running.idle_resident,
                loaded_memory,
            });
        }
    }

    pub(crate) fn of(&self, kind: Kind, cell: Cell) -> Option<&Rounds> {
        self.rounds
            .iter()
            .find(|(other, at, _)| *other == kind && *at == cell)
            .map(|(_, _, rounds)| rounds)
    }

    /// Median and CPU time of one call of ONNX Runtime, microseconds.
    pub(crate) fn call(&self, rows: usize) -> (f64, f64) {
        let all = |pick: fn(&(usize, f64, f64)) -> f64| {
            let values: Vec<f64> = self
                .floor
                .iter()
                .flat_map(|floor| floor.0.iter().filter(|line| line.0 == rows).map(pick))
                .collect();
            median(&values)
        };
        (all(|line| line.1), all(|line| line.2))
    }

    /// Steal of all measurements: the median, and the most.
    pub(crate) fn steal(&self) -> (f64, f64) {
        let all: Vec<f64> = self
            .rounds
            .iter()
            .flat_map(|(_, _, rounds)| rounds.steal.iter().copied())
            .collect();
        (median(&all), all.iter().copied().fold(0.0, f64::max))
    }
}
