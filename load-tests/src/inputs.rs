//! What a model takes, and rows for it: seeded random ones, or those of a table.

use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::client::{self, Transport};
use crate::request::{Encoding, Request};

/// One input of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputSpec {
    /// Its name.
    pub name: String,
    /// The protocol's word for its values.
    pub datatype: String,
    /// Its dimensions behind the rows.
    pub row: Vec<i64>,
}

/// An input with values.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// The protocol's word for its values.
    pub datatype: String,
    /// With the rows in front.
    pub shape: Vec<i64>,
    /// Row-major.
    pub values: Values,
}

/// Values of one kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// FP32.
    F32(Vec<f32>),
    /// FP64.
    F64(Vec<f64>),
    /// Every integer datatype.
    Int(Vec<i64>),
    /// BOOL.
    Bool(Vec<bool>),
    /// BYTES that are text.
    Text(Vec<String>),
}

impl Values {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::F64(values) => values.len(),
            Values::Int(values) => values.len(),
            Values::Bool(values) => values.len(),
            Values::Text(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// `NAME:DATATYPE[:WIDTH]`, an input of rows of `WIDTH` values, or of single ones.
impl FromStr for InputSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let (name, datatype) = parts
            .next()
            .zip(parts.next())
            .ok_or("expected NAME:DATATYPE[:WIDTH]")?;
        let row = parts
            .next()
            .map(|width| width.parse().map_err(|_| format!("`{width}` is not a width")))
            .transpose()?;
        Ok(Self {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            row: row.into_iter().collect(),
        })
    }
}

/// What the server at `address` says that `model` takes.
///
/// # Errors
/// When it does not, or when the first dimension of an input is not for rows.
pub fn of_model(address: SocketAddr, transport: &Transport, model: &str) -> anyhow::Result<Vec<InputSpec>> {
    let request = Request::get(&format!("/v2/models/{model}"))?;
    let (status, body) = client::once_blocking(address, transport, &request)?;
    ensure!(
        status == 200,
        "model `{model}`: {status} {}",
        String::from_utf8_lossy(&body)
    );
    let metadata: Value = serde_json::from_slice(&body).context("the model's metadata")?;
    metadata["inputs"]
        .as_array()
        .context("metadata lists inputs")?
        .iter()
        .map(|input| {
            let name = input["name"].as_str().context("an input has a name")?;
            let shape: Vec<i64> =
                serde_json::from_value(input["shape"].clone()).context("an input has a shape")?;
            let (rows, row) = shape
                .split_first()
                .with_context(|| format!("input `{name}` has no dimension for rows"))?;
            ensure!(*rows < 0, "input `{name}` takes {rows} rows only");
            Ok(InputSpec {
                name: name.to_owned(),
                datatype: input["datatype"]
                    .as_str()
                    .context("an input has a datatype")?
                    .to_owned(),
                // What else varies gets one place.
                row: row.iter().map(|dimension| (*dimension).max(1)).collect(),
            })
        })
        .collect()
}

/// `bodies` different requests for `model`, whose sizes take turns; rows of the table, or random ones.
///
/// # Errors
/// When an encoding cannot carry the inputs, or the table has other columns.
pub fn requests(
    encoding: Encoding,
    model: &str,
    specs: &[InputSpec],
    table: Option<&Table>,
    sizes: &[usize],
    bodies: usize,
    seed: u64,
) -> anyhow::Result<Vec<Request>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut first = 0;
    (0..bodies)
        .zip(sizes.iter().cycle())
        .map(|(_, rows)| {
            let inputs: Vec<Input> = specs
                .iter()
                .map(|spec| match table {
                    Some(table) => spec.of_table(table, first, *rows),
                    None => spec.random(*rows, &mut random),
                })
                .collect::<Result<_, _>>()?;
            first += rows;
            Request::infer(encoding, model, &inputs)
        })
        .collect()
}

impl InputSpec {
    /// `rows` random rows: floats that are about normal, small integers, short words.
    ///
    /// # Errors
    /// For a datatype without random values.
    pub fn random(&self, rows: usize, random: &mut fastrand::Rng) -> anyhow::Result<Input> {
        let count = rows * self.row.iter().product::<i64>() as usize;
        let values = match self.datatype.as_str() {
            // The sum of four uniform values is near enough to normal.
            "FP32" => Values::F32(
                (0..count)
                    .map(|_| (0..4).map(|_| random.f32() - 0.5).sum())
                    .collect(),
            ),
            "FP64" => Values::F64(
                (0..count)
                    .map(|_| (0..4).map(|_| random.f64() - 0.5).sum())
                    .collect(),
            ),
            "BOOL" => Values::Bool((0..count).map(|_| random.bool()).collect()),
            "BYTES" => Values::Text(
                (0..count)
                    .map(|_| (0..random.usize(1..12)).map(|_| random.lowercase()).collect())
                    .collect(),
            ),
            datatype if datatype.starts_with("INT") || datatype.starts_with("UINT") => {
                Values::Int((0..count).map(|_| random.i64(0..100)).collect())
            }
            datatype => bail!("input `{}`: no random values for datatype {datatype}", self.name),
        };
        Ok(self.with(rows, values))
    }

    /// `rows` rows of the table, from its row `first` on, around its end.
    ///
    /// # Errors
    /// When there is no such column or a cell is not of the datatype.
    pub fn of_table(&self, table: &Table, first: usize, rows: usize) -> anyhow::Result<Input> {
        ensure!(
            self.row.iter().product::<i64>() == 1,
            "input `{}` is not one column of a table",
            self.name
        );
        let column = table
            .header
            .iter()
            .position(|column| column == self.name)
            .with_context(|| format!("no column `{}`", self.name))?;
        let cells: Vec<&str> = (first..first + rows)
            .map(|row| table.rows[row % table.rows.len()].get(column).unwrap_or_default())
            .collect();
        let parsed = |cell: &&str| -> anyhow::Result<f64> {
            // A missing number has no JSON; these requests are to be answered.
            if cell.is_empty() {
                return Ok(0.0);
            }
            cell.parse()
                .with_context(|| format!("column `{}`: `{cell}` is not a number", self.name))
        };
        let numbers = || cells.iter().map(parsed).collect::<Result<Vec<f64>, _>>();
        let values = match self.datatype.as_str() {
            "BYTES" => Values::Text(cells.iter().map(ToString::to_string).collect()),
            "BOOL" => Values::Bool(numbers()?.into_iter().map(|number| number != 0.0).collect()),
            "FP32" => Values::F32(numbers()?.into_iter().map(|number| number as f32).collect()),
            "FP64" => Values::F64(numbers()?),
            _ => Values::Int(numbers()?.into_iter().map(|number| number as i64).collect()),
        };
        Ok(self.with(rows, values))
    }

    fn with(&self, rows: usize, values: Values) -> Input {
        Input {
            name: self.name.clone(),
            datatype: self.datatype.clone(),
            shape: [&[rows as i64], &self.row[..]].concat(),
            values,
        }
    }
}

/// A CSV file in memory.
#[derive(Debug)]
pub struct Table {
    header: csv::StringRecord,
    rows: Vec<csv::StringRecord>,
}

impl Table {
    /// Reads a CSV file with a header.
    ///
    /// # Errors
    /// When it cannot be read or has no rows.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let mut reader =
            csv::Reader::from_path(file).with_context(|| format!("cannot read {}", file.display()))?;
        let header = reader.headers()?.clone();
        let rows: Vec<_> = reader.records().collect::<Result<_, _>>()?;
        ensure!(!rows.is_empty(), "{} has no rows", file.display());
        Ok(Self { header, rows })
    }
}

impl Input {
    /// Values a row.
    pub fn width(&self) -> usize {
        self.shape[1..].iter().product::<i64>() as usize
    }

    /// Little-endian, row-major; texts with their lengths in front.
    pub fn raw(&self) -> Vec<u8> {
        let width = match self.datatype.as_str() {
            "INT8" | "UINT8" => 1,
            "INT16" | "UINT16" => 2,
            "INT32" | "UINT32" => 4,
            _ => 8,
        };
        let mut raw = Vec::new();
        match &self.values {
            Values::F32(values) => values.iter().for_each(|value| raw.extend(value.to_le_bytes())),
            Values::F64(values) => values.iter().for_each(|value| raw.extend(value.to_le_bytes())),
            Values::Int(values) => values
                .iter()
                .for_each(|value| raw.extend(&value.to_le_bytes()[..width])),
            Values::Bool(values) => raw.extend(values.iter().map(|value| u8::from(*value))),
            Values::Text(values) => values.iter().for_each(|value| {
                raw.extend((value.len() as u32).to_le_bytes());
                raw.extend(value.as_bytes());
            }),
        }
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_take_their_input_s_datatype() {
        let table = Table {
            header: csv::StringRecord::from(vec!["tenure", "Contract"]),
            rows: vec![
                csv::StringRecord::from(vec!["12", "One year"]),
                csv::StringRecord::from(vec!["", "Two year"]),
            ],
        };
        let spec = |name: &str, datatype: &str| InputSpec {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            row: vec![1],
        };
        let numbers = spec("tenure", "FP32").of_table(&table, 1, 2).expect("numbers");
        assert_eq!(numbers.values, Values::F32(vec![0.0, 12.0]));
        assert_eq!(numbers.shape, [2, 1]);
        let texts = spec("Contract", "BYTES").of_table(&table, 0, 1).expect("texts");
        assert_eq!(texts.values, Values::Text(vec!["One year".into()]));
        let missing = spec("gender", "BYTES")
            .of_table(&table, 0, 1)
            .expect_err("no column");
        assert_eq!(missing.to_string(), "no column `gender`");
        assert!(spec("Contract", "INT64").of_table(&table, 0, 1).is_err());
    }

    #[test]
    fn random_rows_fill_their_shape_and_repeat_with_their_seed() {
        let spec: InputSpec = "x:FP32:20".parse().expect("a spec");
        let rows = |seed| {
            spec.random(3, &mut fastrand::Rng::with_seed(seed))
                .expect("floats")
        };
        let input = rows(1);
        assert_eq!((input.shape.as_slice(), input.values.len()), (&[3, 20][..], 60));
        assert_eq!(input.values, rows(1).values);
        assert_ne!(input.values, rows(2).values);
        assert!("x".parse::<InputSpec>().is_err());
    }

    #[test]
    fn integers_are_as_wide_as_their_datatype() {
        let input = |datatype: &str| Input {
            name: "x".into(),
            datatype: datatype.into(),
            shape: vec![2],
            values: Values::Int(vec![1, -1]),
        };
        assert_eq!(input("INT8").raw(), [1, 0xff]);
        assert_eq!(input("INT16").raw(), [1, 0, 0xff, 0xff]);
        assert_eq!(input("INT64").raw().len(), 16);
    }
}
