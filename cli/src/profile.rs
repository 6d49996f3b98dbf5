//! `plumbline profile`: a reference profile from rows.

mod season;
mod segments;
mod selftest;
mod truth;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use plumbline_drift::profile::{
    Generator, Importance, Kind, Profile, Role, SeasonalCounts, Seasonality, Subject,
};
use plumbline_drift::{Settings, SubjectBuilder};
use season::Times;
use sha2::{Digest as _, Sha256};

use crate::column::{Assigned, ChosenDatatype, ChosenKind, Column, ColumnError, columns, known};
use crate::table::Table;
use crate::terminal::Terminal;

/// Write a reference profile from the rows that a model was trained on.
///
/// The profile goes beside the model file; the sidecar compares live traffic with it. Rows are CSV with a header, NDJSON
/// or Parquet with flat columns; an empty cell, null and NaN are missing values. Columns of numbers are FP32, truth values
/// BOOL and all others BYTES unless told otherwise; every column is an input of the model unless it is named in
/// --output-columns, --target, --time-column or --exclude. Before it is written, the profile is compared with its own rows.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// The rows: CSV, NDJSON or Parquet. Best are rows that the model was not fitted to, at least 1,000.
    #[arg(value_name = "ROWS")]
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
    /// Columns that hold what the model answered for the row. Texts are labels, and so are numbers with --kind
    /// COL=categorical.
    #[arg(long, value_name = "COL,…", value_delimiter = ',')]
    output_columns: Vec<String>,
    /// An output column that holds the probability of this class.
    #[arg(long, value_name = "COL=CLASS")]
    class: Vec<Assigned<String>>,
    /// Column with the true answer. It is no feature; from it and the output columns come the target, the calibration of
    /// each probability, and the measures: accuracy, precision, recall, F1, AUC, log-loss.
    #[arg(long, value_name = "COL")]
    target: Option<String>,
    /// The class that precision, recall, F1 and AUC speak of; without it, that of the only --class.
    #[arg(long, value_name = "CLASS", requires = "target")]
    positive_class: Option<String>,
    /// Take the measures on these rows, which have the target and the output columns too; without it, on ROWS.
    #[arg(long, value_name = "FILE", requires = "target")]
    held_out: Option<PathBuf>,
    /// How much each feature matters to the model: a file of rows with the columns `feature` and `importance`.
    #[arg(long, value_name = "FILE")]
    importances: Option<PathBuf>,
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
    /// Column with the time of the row: the profile says what each hour of the week (UTC) looks like, and the sidecar
    /// compares live rows with their own hour. A date with a time of day (RFC 3339; without a zone it is UTC), or seconds
    /// (below 1e11) or milliseconds (below 1e14) since 1970. A row without a time counts for no hour. The column is no
    /// feature unless --tensor, --datatype or --kind names it too.
    #[arg(long, value_name = "COL")]
    time_column: Option<String>,
    /// Columns to leave out: row numbers, timestamps.
    #[arg(long, value_name = "COL,…", value_delimiter = ',')]
    exclude: Vec<String>,
    /// A feature by whose values the rows are watched in parts too, such as country or tenant. Its most frequent values are segments with
    /// a reference of their own; all other rows share one, `other`. Each needs at least 500 rows.
    #[arg(long, value_name = "COL")]
    segment_column: Option<String>,
    /// Values of the segment column that become segments, at most; 1 to 16.
    #[arg(long, value_name = "N", default_value_t = 8, requires = "segment_column",
        value_parser = clap::value_parser!(u8).range(1..=plumbline_drift::profile::MAX_SEGMENTS as i64))]
    segments: u8,
}

const EXAMPLES: &str = "\
Examples:
  plumbline profile reference.csv --model-name churn -o profile.json
  plumbline profile october.parquet --time-column requested_at --model-name churn -o profile.json
  plumbline profile scored.parquet --exclude customerID --target Churn \\
      --output-columns label,p_yes --class p_yes=Yes --tensor p_yes=output_probability:1 \\
      --kind region_code=categorical --held-out test.parquet --importances importances.csv \\
      --model-name churn --model-file model.onnx -o profile.json";

/// Rows from which on a window of the default length shows drift of the default size in most models.
const ENOUGH_ROWS: usize = 1_000;

/// Runs the command.
pub(crate) fn run(args: &Args, terminal: &Terminal) -> anyhow::Result<ExitCode> {
    let bytes = std::fs::read(&args.rows).with_context(|| format!("cannot read {}", args.rows.display()))?;
    let table = Table::parse(&args.rows, &bytes)?;
    let times = times(args, &table)?;
    let Described {
        features,
        outputs,
        columns,
        seasonality,
    } = subjects(args, &table, times.as_ref())?;
    let truth = truth::describe(args, &table, &outputs, &columns)?;
    let segments = segments::describe(args, &table, (&features, &outputs), &columns, times.as_ref())?;
    let mut profile = Profile {
        created_at: now(),
        generator: Generator {
            name: "plumbline".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        target: truth.target,
        training: truth.training,
        importances: args.importances.as_deref().map(importances).transpose()?,
        calibration: truth.calibration,
        seasonality,
        segments: segments.segmentation,
        ..Profile::new(
            &args.model_name,
            &args.model_version,
            table.len() as u64,
            features,
            outputs,
        )
    };
    profile.model.digest = args.model_file.as_deref().map(file_digest).transpose()?;
    profile.data.digest = Some(digest(&bytes));
    profile.validate()?;
    if table.len() < ENOUGH_ROWS {
        let settings = Settings::default();
        terminal.complain(&format!(
            "warning: {} rows; with less than {ENOUGH_ROWS}, a window of {} rows shows only effects of {:.2} and more, where {} is drift",
            table.len(),
            settings.window_rows,
            profile.detectable_effect(&settings),
            settings.drift_effect,
        ));
    }
    let weak = times.iter().flat_map(Times::warnings);
    let change = selftest::check(&profile, &columns, &table, times.as_ref())?;
    for warning in weak.chain(segments.warnings).chain(change) {
        terminal.complain(&format!("warning: {warning}"));
    }
    let json = profile.to_json();
    match &args.output {
        None => terminal.raw(&json),
        Some(path) => {
            std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
            let segments = profile
                .segments
                .as_ref()
                .map_or_else(String::new, |segmentation| {
                    let named = segmentation.parts.iter().filter(|part| part.value.is_some());
                    format!(", {} segments of `{}`", named.count(), segmentation.feature)
                });
            terminal.line(&format!(
                "{}: {} rows, {} features, {} outputs{segments}",
                path.display(),
                table.len(),
                profile.features.len(),
                profile.outputs.len()
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the columns hold.
struct Described {
    /// In the order of the file, as are the outputs.
    features: Vec<Subject>,
    outputs: Vec<Subject>,
    /// The column of each feature, then of each output.
    columns: Vec<Column>,
    /// Of every feature and output, where rows have times.
    seasonality: Option<Seasonality>,
}

/// The time of each row, where a column has it.
fn times(args: &Args, table: &Table) -> anyhow::Result<Option<Times>> {
    let Some(column) = &args.time_column else {
        return Ok(None);
    };
    known(table, "--time-column", std::iter::once(column.as_str()))?;
    anyhow::ensure!(
        !args.output_columns.contains(column),
        "--time-column {column}: also one of --output-columns; the time of a row is no answer of the model"
    );
    anyhow::ensure!(
        args.target.as_ref() != Some(column),
        "--time-column {column}: also --target; the time of a row is not the truth about it"
    );
    Times::read(table, column).map(Some)
}

/// Whether a column is neither input nor output of the model.
fn is_left_out(args: &Args, name: &String) -> bool {
    let is_described = args.tensor.iter().any(|given| given.column == *name)
        || args.datatype.iter().any(|given| given.column == *name)
        || args.kind.iter().any(|given| given.column == *name);
    args.exclude.contains(name)
        || args.target.as_ref() == Some(name)
        || (args.time_column.as_ref() == Some(name) && !is_described)
}

/// Describes every column that is a feature or an output.
fn subjects(args: &Args, table: &Table, times: Option<&Times>) -> anyhow::Result<Described> {
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
    known(table, "--target", args.target.iter().map(String::as_str))?;
    if let Some(target) = &args.target
        && args.output_columns.contains(target)
    {
        anyhow::bail!("--target {target}: also one of --output-columns; the truth is no answer of the model");
    }
    if let Some(class) = args
        .class
        .iter()
        .find(|class| !args.output_columns.contains(&class.column))
    {
        anyhow::bail!("--class {}=…: not one of --output-columns", class.column);
    }
    let (mut features, mut outputs) = (Vec::new(), Vec::new());
    for column in columns(table, &args.kind, &args.datatype)? {
        if is_left_out(args, &column.name) {
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
        let described = describe(builder, &column, table, times, 0..table.len())?;
        let list = if is_output { &mut outputs } else { &mut features };
        list.push((described, column));
    }
    anyhow::ensure!(
        !features.is_empty(),
        "{}: no column is left as a feature",
        table.path().display()
    );
    let (features, mut columns): (Vec<_>, Vec<_>) = features.into_iter().unzip();
    let (outputs, output_columns): (Vec<_>, Vec<_>) = outputs.into_iter().unzip();
    columns.extend(output_columns);
    let (features, mut seasons): (Vec<_>, Vec<_>) = features.into_iter().unzip();
    let (outputs, output_seasons): (Vec<_>, Vec<_>) = outputs.into_iter().unzip();
    seasons.extend(output_seasons);
    Ok(Described {
        features,
        outputs,
        columns,
        seasonality: seasonality(times, seasons),
    })
}

/// What the subjects hold at each hour of the week, where rows have times.
fn seasonality(times: Option<&Times>, seasons: Vec<Option<SeasonalCounts>>) -> Option<Seasonality> {
    times.map(|_| Seasonality {
        hour_of_week: seasons.into_iter().flatten().collect(),
    })
}

/// A column over some of the rows, and its counts per hour of the week where rows have times.
fn describe(
    mut empty: SubjectBuilder,
    column: &Column,
    table: &Table,
    times: Option<&Times>,
    rows: impl Iterator<Item = usize>,
) -> Result<(Subject, Option<SeasonalCounts>), ColumnError> {
    if let Some(times) = times {
        let (subject, season) = times.describe(empty, column, table, rows)?;
        return Ok((subject, Some(season)));
    }
    for row in rows {
        column.push(&mut empty, column.value_at(table, row)?);
    }
    Ok((empty.finish(), None))
}

/// The importances of a file, in its order.
fn importances(path: &Path) -> anyhow::Result<Vec<Importance>> {
    let table = Table::read(path)?;
    known(&table, "--importances", ["feature", "importance"].into_iter())?;
    let column = |name: &str, kind: &str| -> anyhow::Result<Vec<(usize, String)>> {
        let position = table.position(name).expect("known above");
        let cell = |row| {
            let cell = table.cell(row, position);
            let (path, line) = (table.path().display(), table.line(row));
            anyhow::ensure!(
                !cell.is_empty(),
                "{path}:{line}: column `{name}`: expected {kind}, found nothing"
            );
            Ok((row, cell.to_owned()))
        };
        (0..table.len()).map(cell).collect()
    };
    let (features, numbers) = (column("feature", "a name")?, column("importance", "a number")?);
    let pairs = features.into_iter().zip(numbers);
    pairs
        .map(|((row, feature), (_, number))| {
            let importance = number
                .parse()
                .ok()
                .filter(|x: &f64| x.is_finite())
                .with_context(|| {
                    let (path, line) = (table.path().display(), table.line(row));
                    format!("{path}:{line}: column `importance`: expected a number, found `{number}`")
                })?;
            Ok(Importance { feature, importance })
        })
        .collect()
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
pub(crate) mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::table::tests::table;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    pub(super) fn args(arguments: &[&str]) -> Args {
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
        let Described {
            features,
            outputs,
            columns,
            seasonality,
        } = subjects(&args, &table, None).expect("subjects");
        assert_eq!(seasonality, None);
        let names: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["tenure", "region", "label", "p_no", "p_yes", "score"]);
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
            let refused = subjects(&args(arguments), &table, None).err();
            refused.expect("refused").to_string()
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
        assert!(problem(&["--target=Churn"]).starts_with("--target: rows.csv has no column `Churn`"));
        assert_eq!(
            problem(&["--target=label", "--output-columns=label"]),
            "--target label: also one of --output-columns; the truth is no answer of the model"
        );
        assert_eq!(
            problem(&["--tensor=tenure=x:first"]),
            "--tensor tenure=x:first: expected a whole number after the colon"
        );
    }

    #[test]
    fn importances_are_read_in_the_order_of_their_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("importances.csv");
        let read = |text: &str| {
            std::fs::write(&path, text).expect("written");
            importances(&path)
        };
        let found = read("importance,feature\n0.25,b\n1e-3,a\n").expect("importances");
        let found: Vec<_> = found.iter().map(|i| (i.feature.as_str(), i.importance)).collect();
        assert_eq!(found, [("b", 0.25), ("a", 0.001)]);
        let problem = |text: &str| read(text).expect_err("refused").to_string();
        assert!(problem("feature,weight\na,1\n").contains("has no column `importance`"));
        assert!(
            problem("feature,importance\na,much\n")
                .ends_with(":2: column `importance`: expected a number, found `much`")
        );
        assert!(
            problem("feature,importance\na,1\n,1\n")
                .ends_with(":3: column `feature`: expected a name, found nothing")
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
