//! The tables.

use std::fmt::Write as _;

use plumbline_load_tests::request::Encoding;
use plumbline_load_tests::table::{Table, figure, median};

use crate::contender::Kind;
use crate::measure::{Cell, Figures};

/// One mebibyte.
const MIB: f64 = 1_048_576.0;

/// How it was measured.
pub(crate) fn head(rounds: usize, seconds: f64, pinned: bool) -> String {
    let place = if pinned {
        "one server measured at a time, all of them on one CPU, the generator on another"
    } else {
        "servers and generator where the scheduler puts them"
    };
    format!(
        "Closed loop, {rounds} interleaved rounds of {seconds} s (forwards and backwards in turn), medians; {place}. \
         Each connection has one request in flight. CPU is user and system time of the server's processes per request. \
         `÷` columns are ours divided by the peer's requests/s.\n"
    )
}

/// All tables of one model.
pub(crate) fn model(name: &str, figures: &Figures, cells: &[Cell]) -> String {
    let mut text = format!("\n## Model `{name}`\n");
    let (call_1, call_32) = (figures.call(1), figures.call(32));
    let (steal, most) = figures.steal();
    let _never = write!(
        text,
        "\nOne ONNX Runtime call without a server: batch 1 p50 {} µs, CPU {} µs; batch 32 p50 {} µs, CPU {} µs. \
         Hypervisor steal during the measurements: median {steal:.3}, most {most:.3} of the machine's CPU time.\n",
        figure(call_1.0),
        figure(call_1.1),
        figure(call_32.0),
        figure(call_32.1),
    );
    for encoding in Cell::ENCODINGS {
        for rows in Cell::ROWS {
            let connections: Vec<usize> = cells
                .iter()
                .filter(|cell| cell.encoding == encoding && cell.rows == rows)
                .map(|cell| cell.connections)
                .collect();
            if !connections.is_empty() {
                text += &cell_table(figures, encoding, rows, &connections);
            }
        }
    }
    for failure in figures.failures() {
        let _never = write!(text, "\nFAILED (requests failed, not counted above): {failure}\n");
    }
    text += &floor_table(figures, cells);
    text += &footprint_table(figures);
    text += &goal_table(name, figures);
    text
}

fn cell_table(figures: &Figures, encoding: Encoding, rows: usize, connections: &[usize]) -> String {
    let mut columns = vec!["server".to_owned()];
    for count in connections {
        columns.extend([
            format!("c{count} req/s"),
            "p50 µs".to_owned(),
            "p99 µs".to_owned(),
            "CPU µs".to_owned(),
            "÷".to_owned(),
        ]);
    }
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut table = Table::new(&columns);
    let mut doubts = 0;
    let cells = connections.iter().map(|connections| Cell {
        encoding,
        rows,
        connections: *connections,
    });
    for kind in figures
        .kinds
        .iter()
        .filter(|kind| cells.clone().any(|cell| kind.takes_part(cell)))
    {
        let mut row = vec![kind.label().to_owned()];
        for cell in cells.clone() {
            let Some(rounds) = figures.of(*kind, cell) else {
                row.extend(["-"; 5].map(str::to_owned));
                continue;
            };
            let rate = median(&rounds.rate);
            let ours = figures
                .of(Kind::Plumbline, cell)
                .map_or(f64::NAN, |rounds| median(&rounds.rate));
            let mark = if rounds.doubts > 0 { " *" } else { "" };
            doubts += rounds.doubts;
            row.extend([
                format!("{}{mark}", figure(rate)),
                figure(median(&rounds.p50)),
                figure(median(&rounds.p99)),
                figure(median(&rounds.cpu)),
                figure(ours / rate),
            ]);
        }
        table.row(&row);
    }
    let note = if doubts > 0 {
        "\n`*`: the generator was busy all the time and may have been the limit; CPU per request holds.\n"
    } else {
        ""
    };
    format!(
        "\n### {}, batch {rows}\n\n{}{note}",
        encoding.label(),
        table.text()
    )
}

/// CPU per request of ours beside the physical floor: a constant answer and one call.
fn floor_table(figures: &Figures, cells: &[Cell]) -> String {
    let mut table = Table::new(&[
        "ours at",
        "CPU µs",
        "constant answer",
        "ORT call",
        "floor",
        "CPU ÷ floor",
    ]);
    for cell in cells.iter().filter(|cell| cell.connections > 1) {
        // A constant answer costs the same whatever is in a body of this size that nobody parses.
        let encoding = if cell.encoding == Encoding::Grpc {
            Encoding::Grpc
        } else {
            Encoding::V2
        };
        let constant = figures.of(Kind::Constant, Cell { encoding, ..*cell });
        let (Some(ours), Some(constant)) = (figures.of(Kind::Plumbline, *cell), constant) else {
            continue;
        };
        let (ours, constant, (_, call)) = (median(&ours.cpu), median(&constant.cpu), figures.call(cell.rows));
        table.row(&[
            cell.to_string(),
            figure(ours),
            figure(constant),
            figure(call),
            figure(constant + call),
            figure(ours / (constant + call)),
        ]);
    }
    format!("\n### Against the floor\n\n{}", table.text())
}

fn footprint_table(figures: &Figures) -> String {
    let mut table = Table::new(&[
        "server",
        "ready ms",
        "idle PSS MiB",
        "idle RSS MiB (first process)",
        "PSS MiB after the load",
    ]);
    for footprint in &figures.footprints {
        let mut ready = vec![footprint.ready.as_secs_f64() * 1e3];
        if footprint.kind == Kind::Plumbline {
            ready.extend(figures.ready.iter().map(|ready| ready.as_secs_f64() * 1e3));
        }
        table.row(&[
            footprint.kind.label().to_owned(),
            figure(median(&ready)),
            figure(footprint.idle_memory as f64 / MIB),
            figure(footprint.idle_resident as f64 / MIB),
            figure(footprint.loaded_memory as f64 / MIB),
        ]);
    }
    format!("\n### Start and memory\n\n{}", table.text())
}

/// What the project set itself, and what came of it in this run.
fn goal_table(name: &str, figures: &Figures) -> String {
    let at = |encoding, connections| Cell {
        encoding,
        rows: 1,
        connections,
    };
    let rate = |kind, cell| figures.of(kind, cell).map(|rounds| median(&rounds.rate));
    let cpu = |kind, cell| figures.of(kind, cell).map(|rounds| median(&rounds.cpu));
    let ratio = |over: Option<f64>, under: Option<f64>| Some(over? / under?);
    let mut table = Table::new(&["goal", "wanted", "measured", "met"]);
    let mut row = |goal: String, bound: Bound, measured: Option<f64>| {
        let Some(measured) = measured else { return };
        let (wanted, met) = match bound {
            Bound::AtLeast(bound) => (format!("≥ {bound}"), measured >= bound),
            Bound::AtMost(bound) => (format!("≤ {bound}"), measured <= bound),
        };
        let met = if met { "yes" } else { "no" };
        table.row(&[goal, wanted, figure(measured), met.to_owned()]);
    };
    for encoding in [Encoding::V2, Encoding::Grpc] {
        let cell = at(encoding, 16);
        let floor = cpu(Kind::Constant, cell).map(|constant| constant + figures.call(1).1);
        row(
            format!("{}, batch 1, c16: CPU ÷ floor", encoding.label()),
            Bound::AtMost(1.25),
            ratio(cpu(Kind::Plumbline, cell), floor),
        );
    }
    for (peer, wanted) in [
        (Kind::Kserve, 40.0),
        (Kind::Mlserver, 25.0),
        (Kind::Starlette, 8.0),
    ] {
        let cell = at(Encoding::V2, 16);
        row(
            format!("V2 JSON, batch 1, c16: requests/s ÷ {}", peer.label()),
            Bound::AtLeast(wanted),
            ratio(rate(Kind::Plumbline, cell), rate(peer, cell)),
        );
    }
    // A row of a tree costs the same in any company; a matrix product is cheaper for many.
    let batching = if name == "mlp" { 2.0 } else { 0.98 };
    for encoding in [Encoding::V2, Encoding::Grpc] {
        let cell = at(encoding, 64);
        row(
            format!("{}, batch 1, c64: requests/s ÷ batching off", encoding.label()),
            Bound::AtLeast(batching),
            ratio(rate(Kind::Plumbline, cell), rate(Kind::Unbatched, cell)),
        );
    }
    let own = figures
        .footprints
        .iter()
        .find(|footprint| footprint.kind == Kind::Plumbline);
    if let Some(own) = own {
        let mut ready: Vec<f64> = figures
            .ready
            .iter()
            .map(|ready| ready.as_secs_f64() * 1e3)
            .collect();
        ready.push(own.ready.as_secs_f64() * 1e3);
        row("ready, ms".to_owned(), Bound::AtMost(150.0), Some(median(&ready)));
        row(
            "idle RSS, MB".to_owned(),
            Bound::AtMost(60.0),
            Some(own.idle_resident as f64 / 1e6),
        );
    }
    format!("\n### Goals\n\n{}", table.text())
}

/// Which side of a goal is good.
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}
