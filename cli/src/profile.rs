//! `plumbline profile`: a reference profile from rows.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use plumbline_drift::SubjectBuilder;
use plumbline_drift::profile::{
    DataInfo, FORMAT, FORMAT_VERSION, Generator, Kind, ModelInfo, Profile, Role, Subject,
};
use sha2::{Digest as _, Sha256};

use crate::column::{Assigned, ChosenDatatype, ChosenKind, Column, columns, known};
use crate::table::Table;
use crate::terminal::Terminal;

/// Write a reference profile from the rows that a model was trained on.
///
/// The profile goes beside the model file; the sidecar compares live traffic with it. Empty cells are missing values.
/// Columns of numbers are FP32 and all others BYTES unless told otherwise; every column is an input of the model
/// unless it is named in --output-columns or --exclude.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// CSV file with a header.
    #[arg(value_name = "ROWS.csv")]
    rows: PathBuf,
    /// Where to write the profile; standard output without it.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name under which the model is served.
    #[arg(long, default_value = "model")]
    model_name: String,
    /// Version of the model.
    #[arg(long, default_value = "1")]
    model_version: String,
    /// The model file; its SHA-256 goes into the profile.
    #[arg(long, value_name = "FILE.onnx")]
    model_file: Option<PathBuf>,
    /// Columns that hold what the model answered for the row.
    #[arg(long, value_name = "COL,…", value_delimiter = ',')]
    output_columns: Vec<String>,
    /// An output column that holds the probability of this class.
    #[arg(long, value_name = "COL=CLASS")]
    class: Vec<Assigned<String>>,
    /// The tensor that a column is in, with its index in the tensor's row where that is not 0. Without it, the tensor
    /// has the column's name.
    #[arg(long, value_name = "COL=TENSOR[:INDEX]")]
    tensor: Vec<Assigned<String>>,
    /// numeric, categorical or boolean; for numbers that name classes, say categorical.
    #[arg(long, value_name = "COL=KIND")]
    kind: Vec<Assigned<ChosenKind>>,
    /// Datatype of a column's tensor: FP32, FP64, INT64, BOOL, BYTES, ….
    #[arg(long, value_name = "COL=DATATYPE")]
    datatype: Vec<Assigned<ChosenDatatype>>,
    /// Columns to leave out: row numbers, the target.
    #[arg(long, value_name = "COL,…", value_delimiter = ',')]
    exclude: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  plumbline profile reference.csv --model-name churn -o profile.json
  plumbline profile scored.csv --exclude customerID,Churn --output-columns label,p_yes \\
      --class p_yes=Yes --tensor p_yes=output_probability:1 --kind region_code=categorical -o profile.json";

/// Runs the command.
pub(crate) fn run(args: &Args, terminal: &Terminal) -> anyhow::Result<ExitCode> {
    let bytes = std::fs::read(&args.rows).with_context(|| format!("cannot read {}", args.rows.display()))?;
    let table = Table::parse(&args.rows, &bytes)?;
    let (features, outputs) = subjects(args, &table)?;
    let profile = Profile {
        format: FORMAT.to_owned(),
        format_version: FORMAT_VERSION,
        created_at: now(),
        generator: Generator {
            name: "plumbline".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        model: ModelInfo {
            name: args.model_name.clone(),
            version: args.model_version.clone(),
            digest: args.model_file.as_deref().map(file_digest).transpose()?,
        },
        data: DataInfo {
            rows: table.len() as u64,
            digest: Some(digest(&bytes)),
        },
        features,
        outputs,
        target: None,
        training: None,
        importances: None,
        calibration: None,
        seasonality: None,
    };
    profile.validate()?;
    let json = profile.to_json();
    match &args.output {
        None => terminal.raw(&json),
        Some(path) => {
            std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
            terminal.line(&format!(
                "{}: {} rows, {} features, {} outputs",
                path.display(),
                table.len(),
                profile.features.len(),
                profile.outputs.len()
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Features and outputs, each in the order of the file.
fn subjects(args: &Args, table: &Table) -> anyhow::Result<(Vec<Subject>, Vec<Subject>)> {
    known(
        table,
        "--output-columns",
        args.output_columns.iter().map(String::as_str),
    )?;
    known(table, "--exclude", args.exclude.iter().map(String::as_str))?;
    known(
        table,
        "--class",
        args.class.iter().map(|class| class.column.as_str()),
    )?;
    known(
        table,
        "--tensor",
        args.tensor.iter().map(|tensor| tensor.column.as_str()),
    )?;
    if let Some(class) = args
        .class
        .iter()
        .find(|class| !args.output_columns.contains(&class.column))
    {
        anyhow::bail!("--class {}=…: not one of --output-columns", class.column);
    }
    let (mut features, mut outputs) = (Vec::new(), Vec::new());
    for column in columns(table, &args.kind, &args.datatype)? {
        if args.exclude.contains(&column.name) {
            continue;
        }
        let (tensor, index) = tensor(args, &column)?;
        let mut builder = SubjectBuilder::new(&column.name, tensor, index, column.datatype, column.kind);
        let is_output = args.output_columns.contains(&column.name);
        if is_output {
            let class = args.class.iter().find(|class| class.column == column.name);
            let role = match (class, column.kind) {
                (Some(_), _) => Role::Probability,
                (None, Kind::Numeric) => Role::Value,
                (None, _) => Role::Label,
            };
            builder = builder.role(role, class.map(|class| class.value.as_str()));
        }
        column.push_to(&mut builder, table)?;
        let list = if is_output { &mut outputs } else { &mut features };
        list.push(builder.finish());
    }
    anyhow::ensure!(
        !features.is_empty(),
        "{}: no column is left as a feature",
        table.path().display()
    );
    Ok((features, outputs))
}

fn tensor<'a>(args: &'a Args, column: &'a Column) -> anyhow::Result<(&'a str, u32)> {
    let Some(given) = args.tensor.iter().find(|tensor| tensor.column == column.name) else {
        return Ok((&column.name, 0));
    };
    let Some((tensor, index)) = given.value.rsplit_once(':') else {
        return Ok((&given.value, 0));
    };
    let index = index.parse().with_context(|| {
        format!(
            "--tensor {}={}: expected a whole number after the colon",
            given.column, given.value
        )
    })?;
    Ok((tensor, index))
}

fn file_digest(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(digest(&bytes))
}

fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::table::tests::table;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(arguments: &[&str]) -> Args {
        let all = ["profile", "rows.csv"].iter().chain(arguments);
        Cli::try_parse_from(all).expect("arguments").args
    }

    #[test]
    fn outputs_have_roles_tensors_and_classes() {
        let table =
            table("tenure,region,id,label,p_no,p_yes,score\n1,n,7,No,0.9,0.1,3\n2,s,8,Yes,0.4,0.6,4\n");
        let args = args(&[
            "--exclude=id",
            "--output-columns=label,p_no,p_yes,score",
            "--class=p_no=No",
            "--class=p_yes=Yes",
            "--tensor=p_no=p",
            "--tensor=p_yes=p:1",
            "--datatype=tenure=INT64",
        ]);
        let (features, outputs) = subjects(&args, &table).expect("subjects");
        let names: Vec<_> = features
            .iter()
            .map(|s| (s.name.as_str(), s.kind, s.count, s.role))
            .collect();
        assert_eq!(
            names,
            [
                ("tenure", Kind::Numeric, 2, None),
                ("region", Kind::Categorical, 2, None)
            ]
        );
        let described: Vec<_> = outputs
            .iter()
            .map(|s| (s.tensor.as_str(), s.column, s.role, s.class.as_deref()))
            .collect();
        assert_eq!(
            described,
            [
                ("label", 0, Some(Role::Label), None),
                ("p", 0, Some(Role::Probability), Some("No")),
                ("p", 1, Some(Role::Probability), Some("Yes")),
                ("score", 0, Some(Role::Value), None),
            ]
        );
    }

    #[test]
    fn flags_that_name_no_column_are_refused() {
        let table = table("tenure,label\n1,No\n");
        let problem = |arguments: &[&str]| {
            subjects(&args(arguments), &table)
                .expect_err("refused")
                .to_string()
        };
        assert!(problem(&["--exclude=Label"]).starts_with("--exclude: rows.csv has no column `Label`"));
        assert_eq!(
            problem(&["--class=label=No"]),
            "--class label=…: not one of --output-columns"
        );
        assert_eq!(
            problem(&["--exclude=tenure,label"]),
            "rows.csv: no column is left as a feature"
        );
        assert_eq!(
            problem(&["--tensor=tenure=x:first"]),
            "--tensor tenure=x:first: expected a whole number after the colon"
        );
    }

    #[test]
    fn a_digest_is_prefixed_hex() {
        assert_eq!(
            digest(b""),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
