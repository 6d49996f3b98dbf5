//! What the columns of a table hold, and their cells as the values of a tensor.

use std::str::FromStr;

use plumbline_drift::SubjectBuilder;
use plumbline_drift::profile::{Datatype, Kind};

use crate::table::{CellType, Table};

/// One column of a table, as a subject of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// Position in the table.
    pub(crate) position: usize,
    pub(crate) datatype: Datatype,
    pub(crate) kind: Kind,
}

/// `COLUMN=VALUE`, as several flags take it; the last `=` separates, so that a column's name may have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assigned<T> {
    pub(crate) column: String,
    pub(crate) value: T,
}

/// Kinds that a person can choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChosenKind(Kind);

/// Datatypes by the protocol's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChosenDatatype(Datatype);

/// Why a table's columns cannot be used as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ColumnError {
    #[error("{flag}: {file} has no column `{column}`; it has {has}")]
    Unknown {
        flag: &'static str,
        file: String,
        column: String,
        has: String,
    },
    #[error("{flag} {column}=…: given twice")]
    Twice { flag: &'static str, column: String },
    #[error("{file}:{line}: column `{column}`: `{cell}` is not {expected}")]
    Cell {
        file: String,
        line: u64,
        column: String,
        cell: String,
        expected: &'static str,
    },
}

/// Decides what every column of `table` holds.
///
/// Without another choice a column of numbers is FP32, which is what converters give a table's columns, one of truth
/// values (which CSV has not) is BOOL, and any other is BYTES.
pub(crate) fn columns(
    table: &Table,
    kinds: &[Assigned<ChosenKind>],
    datatypes: &[Assigned<ChosenDatatype>],
) -> Result<Vec<Column>, ColumnError> {
    known(table, "--kind", kinds.iter().map(|kind| kind.column.as_str()))?;
    known(
        table,
        "--datatype",
        datatypes.iter().map(|datatype| datatype.column.as_str()),
    )?;
    let describe = |(position, name): (usize, &String)| {
        let kind = kinds
            .iter()
            .find(|kind| kind.column == *name)
            .map(|kind| kind.value.0);
        let chosen = datatypes
            .iter()
            .find(|datatype| datatype.column == *name)
            .map(|datatype| datatype.value.0);
        let datatype = chosen.unwrap_or_else(|| match kind {
            Some(Kind::Boolean) => Datatype::Bool,
            Some(Kind::Numeric) => Datatype::Fp32,
            // Classes that are numbered.
            Some(Kind::Categorical) if is_whole(table, position) => Datatype::Int64,
            None => match table.cell_type(position) {
                CellType::Number => Datatype::Fp32,
                CellType::Truth => Datatype::Bool,
                CellType::Text => Datatype::Bytes,
            },
            _ => Datatype::Bytes,
        });
        let kind = kind.unwrap_or(match datatype {
            Datatype::Bool => Kind::Boolean,
            Datatype::Bytes => Kind::Categorical,
            _ => Kind::Numeric,
        });
        Column {
            name: name.clone(),
            position,
            datatype,
            kind,
        }
    };
    Ok(table.columns().iter().enumerate().map(describe).collect())
}

/// Refuses names that are not columns, and names given twice.
pub(crate) fn known<'a>(
    table: &Table,
    flag: &'static str,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), ColumnError> {
    let mut seen = Vec::new();
    for name in names {
        if table.position(name).is_none() {
            let has = table
                .columns()
                .iter()
                .map(|column| format!("`{column}`"))
                .collect::<Vec<_>>()
                .join(", ");
            let file = table.path().display().to_string();
            return Err(ColumnError::Unknown {
                flag,
                file,
                column: name.to_owned(),
                has,
            });
        }
        if seen.contains(&name) {
            return Err(ColumnError::Twice {
                flag,
                column: name.to_owned(),
            });
        }
        seen.push(name);
    }
    Ok(())
}

fn is_whole(table: &Table, position: usize) -> bool {
    table.cell_type(position) == CellType::Number
        && table
            .column(position)
            .all(|cell| cell.is_empty() || cell.parse::<i64>().is_ok())
}

/// A cell as a tensor would hold it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Missing,
    Number(f64),
    Integer(i64),
    Truth(bool),
    Text(&'a str),
}

impl Column {
    /// The values of the column, from the first row to the last. A missing one is the empty cell.
    pub(crate) fn values<'a>(
        &'a self,
        table: &'a Table,
    ) -> impl Iterator<Item = Result<Value<'a>, ColumnError>> + 'a {
        (0..table.len()).map(|row| self.value_at(table, row))
    }

    /// The value of a row.
    pub(crate) fn value_at<'a>(&self, table: &'a Table, row: usize) -> Result<Value<'a>, ColumnError> {
        let cell = table.cell(row, self.position);
        self.value(cell).map_err(|expected| ColumnError::Cell {
            file: table.path().display().to_string(),
            line: table.line(row),
            column: self.name.clone(),
            cell: cell.to_owned(),
            expected,
        })
    }

    /// Adds one of the column's values to its subject.
    pub(crate) fn push(&self, builder: &mut SubjectBuilder, value: Value<'_>) {
        match value {
            Value::Missing => builder.push_missing(),
            Value::Number(number) => builder.push_number(number),
            Value::Integer(integer) if self.kind == Kind::Categorical => {
                builder.push_text(&integer.to_string());
            }
            Value::Integer(integer) => builder.push_number(integer as f64),
            Value::Truth(truth) => builder.push_boolean(truth),
            Value::Text(text) => builder.push_text(text),
        }
    }

    fn value<'a>(&self, cell: &'a str) -> Result<Value<'a>, &'static str> {
        if cell.is_empty() {
            return Ok(Value::Missing);
        }
        match (self.kind, self.datatype) {
            (Kind::Boolean, _) => match cell {
                "1" | "true" | "True" | "TRUE" => Ok(Value::Truth(true)),
                "0" | "false" | "False" | "FALSE" => Ok(Value::Truth(false)),
                _ => Err("true or false"),
            },
            (_, Datatype::Bytes) => Ok(Value::Text(cell)),
            (_, Datatype::Fp64) => cell.parse().map(Value::Number).map_err(|_| "a number"),
            // As the tensor holds it: the model never sees more digits, and neither does the sidecar.
            (_, Datatype::Fp32) => cell
                .parse::<f32>()
                .map(|x| Value::Number(x.into()))
                .map_err(|_| "a number"),
            (_, Datatype::Fp16) => number(cell, |x| half::f16::from_f64(x).into()),
            (_, Datatype::Bf16) => number(cell, |x| half::bf16::from_f64(x).into()),
            _ => cell.parse().map(Value::Integer).map_err(|_| "a whole number"),
        }
    }
}

fn number(cell: &str, round: impl Fn(f64) -> f64) -> Result<Value<'static>, &'static str> {
    cell.parse()
        .map(|x| Value::Number(round(x)))
        .map_err(|_| "a number")
}

impl<T: FromStr<Err: std::fmt::Display>> FromStr for Assigned<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (column, value) = text.rsplit_once('=').ok_or("expected COLUMN=VALUE")?;
        let value = value.trim().parse().map_err(|error: T::Err| error.to_string())?;
        Ok(Self {
            column: column.trim().to_owned(),
            value,
        })
    }
}

impl FromStr for ChosenKind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "numeric" => Ok(Self(Kind::Numeric)),
            "categorical" => Ok(Self(Kind::Categorical)),
            "boolean" => Ok(Self(Kind::Boolean)),
            _ => Err("expected COLUMN=numeric, COLUMN=categorical or COLUMN=boolean"),
        }
    }
}

impl FromStr for ChosenDatatype {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let name = serde_json::Value::from(text);
        let datatype = serde_json::from_value(name);
        datatype
            .map(Self)
            .map_err(|_| "expected COLUMN=DATATYPE with a datatype such as FP32, INT64, BOOL or BYTES")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::table;

    #[test]
    fn columns_are_typed_by_their_cells_unless_told_otherwise() {
        let table = table("tenure,plan,paid,region\n1,2,true,north\n,3,0,\n");
        let kinds = [
            "plan=categorical".parse().expect("a kind"),
            "paid=boolean".parse().expect("a kind"),
        ];
        let datatypes = ["tenure=FP64".parse().expect("a datatype")];
        let columns = columns(&table, &kinds, &datatypes).expect("known columns");
        let types: Vec<_> = columns
            .iter()
            .map(|column| (column.datatype, column.kind))
            .collect();
        assert_eq!(
            types,
            [
                (Datatype::Fp64, Kind::Numeric),
                (Datatype::Int64, Kind::Categorical),
                (Datatype::Bool, Kind::Boolean),
                (Datatype::Bytes, Kind::Categorical),
            ]
        );
        let values: Vec<_> = columns
            .iter()
            .flat_map(|column| column.values(&table))
            .collect::<Result<_, _>>()
            .expect("values");
        let expected = [
            Value::Number(1.0),
            Value::Missing,
            Value::Integer(2),
            Value::Integer(3),
            Value::Truth(true),
            Value::Truth(false),
            Value::Text("north"),
            Value::Missing,
        ];
        assert_eq!(values, expected);
    }

    #[test]
    fn numbers_have_the_digits_that_the_tensor_has() {
        let table = table("charges\n29.85\n");
        let columns = columns(&table, &[], &[]).expect("columns");
        let value = columns[0]
            .values(&table)
            .next()
            .expect("a row")
            .expect("a number");
        assert_eq!(value, Value::Number(f64::from(29.85_f32)));
    }

    #[test]
    fn what_cannot_be_used_is_told_with_its_place() {
        let table = table("tenure,region\n1,north\n2,south\n");
        let kind = |text: &str| text.parse::<Assigned<ChosenKind>>();
        assert_eq!(kind("region").expect_err("no value"), "expected COLUMN=VALUE");
        assert_eq!(
            kind("region=text").expect_err("no such kind"),
            "expected COLUMN=numeric, COLUMN=categorical or COLUMN=boolean"
        );
        let error =
            columns(&table, &[kind("Region=categorical").expect("a kind")], &[]).expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "--kind: rows.csv has no column `Region`; it has `tenure`, `region`"
        );
        let numeric = columns(&table, &[kind("region=numeric").expect("a kind")], &[]).expect("columns");
        let error = numeric[1]
            .values(&table)
            .next()
            .expect("a row")
            .expect_err("not a number");
        assert_eq!(
            error.to_string(),
            "rows.csv:2: column `region`: `north` is not a number"
        );
    }
}
