//! `plumbline check`: what is in an ONNX file, and will it serve.

use std::path::PathBuf;
use std::process::ExitCode;

use plumbline_model_server::{CheckReport, Library, TensorReport, check};

use crate::terminal::{Format, Style, Terminal, columns, printable};

/// Tell what is in an ONNX file, whether it will serve, and if not, why.
///
/// Loads the file into ONNX Runtime as the model server would and runs one row of zeros. Exit status: 0 when it will
/// serve, 1 when it will not or cannot be tried.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// The model.
    #[arg(value_name = "FILE.onnx")]
    file: PathBuf,
    /// ONNX Runtime's shared library; searched as by the model server when not given.
    #[arg(long, value_name = "FILE")]
    onnxruntime: Option<PathBuf>,
    /// How to write the result.
    #[arg(long, default_value = "text")]
    format: Format,
}

const EXAMPLES: &str = "\
Examples:
  plumbline check model.onnx
  plumbline check model.onnx --format json | jq .inputs";

/// Runs the command.
pub(crate) fn run(args: &Args, terminal: &Terminal) -> anyhow::Result<ExitCode> {
    let library = Library::open(args.onnxruntime.as_deref());
    let mut report = check(&args.file, library.as_ref().ok());
    let mut verdict = "It will not serve:";
    if let (Err(error), true) = (&library, report.is_servable()) {
        verdict = "It could not be tried:";
        // What the file says is worth showing, but only a run proves that it serves.
        report.problems.push(error.to_string());
    }
    match args.format {
        Format::Json => terminal.line(&serde_json::to_string_pretty(&report)?),
        Format::Text => describe(&report, verdict, terminal)
            .iter()
            .for_each(|line| terminal.line(line)),
    }
    Ok(if report.is_servable() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn describe(report: &CheckReport, verdict: &str, terminal: &Terminal) -> Vec<String> {
    let mut lines = vec![terminal.paint(Style::Bold, &report.file.display().to_string())];
    if report.ir_version > 0 {
        let opsets: Vec<String> = report
            .opsets
            .iter()
            .map(|opset| format!("{} {}", printable(&opset.domain), opset.version))
            .collect();
        let producer = if report.producer.is_empty() {
            "unknown"
        } else {
            &report.producer
        };
        lines.push(format!("producer  {}", printable(producer)));
        lines.push(format!(
            "format    IR version {}, operators {}",
            report.ir_version,
            opsets.join(", ")
        ));
    }
    for (title, tensors) in [("input", &report.inputs), ("output", &report.outputs)] {
        if !tensors.is_empty() {
            lines.push(String::new());
            let rows: Vec<Vec<String>> = tensors.iter().map(tensor).collect();
            let header = [title, "datatype", "shape", "classes"];
            let classes = tensors.iter().any(|tensor| tensor.class_labels.is_some());
            lines.extend(columns(&header[..if classes { 4 } else { 3 }], &rows));
        }
    }
    lines.push(String::new());
    for output in &report.zip_maps_removed {
        lines.push(format!(
            "note: output `{}` is a map in the file and is served as a tensor",
            printable(output)
        ));
    }
    lines.extend(
        report
            .remarks
            .iter()
            .map(|remark| format!("note: {}", printable(remark))),
    );
    if report.is_servable() {
        let version = report.onnxruntime.as_deref().unwrap_or("unknown");
        let time = report
            .one_row
            .map(|time| format!(", one row in {} µs", time.as_micros()));
        let text = format!(
            "It will serve (ONNX Runtime {version}{}).",
            time.unwrap_or_default()
        );
        lines.push(terminal.paint(Style::Green, &text));
    } else {
        lines.push(terminal.paint(Style::Red, verdict));
        let problem = |problem: &String| {
            format!(
                "  {}",
                crate::terminal::printable_lines(problem).replace('\n', "\n  ")
            )
        };
        lines.extend(report.problems.iter().map(problem));
    }
    lines
}

fn tensor(tensor: &TensorReport) -> Vec<String> {
    let shape: Vec<String> = tensor.shape.iter().map(ToString::to_string).collect();
    let classes = tensor
        .class_labels
        .as_ref()
        .map(|labels| printable(&labels.join(", ")));
    vec![
        printable(&tensor.name),
        tensor.datatype.clone(),
        format!("[{}]", shape.join(", ")),
        classes.unwrap_or_default(),
    ]
}
