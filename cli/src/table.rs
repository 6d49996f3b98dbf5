//! Rows from a file of CSV, NDJSON or Parquet, as text, each cell findable again by line and column.
//!
//! The bytes tell the format, not the name. CSV has only texts, so a column's type is guessed from its cells; the other
//! two say what a value is, and a text stays one even when it looks like a number.

mod json;
mod parquet;
mod typed;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord, Trim};

/// A file of rows, read whole. An empty cell is a missing value; CSV cells are trimmed.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    path: PathBuf,
    columns: Vec<String>,
    types: Vec<CellType>,
    rows: Vec<StringRecord>,
}

/// What the values of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CellType {
    Number,
    /// Never found in CSV, where `true` is a text.
    Truth,
    /// Also a column without values, and one of mixed values.
    Text,
}

/// Why a file of rows cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is {format}; rows are read from CSV, NDJSON and Parquet: convert it first", path.display())]
    OtherFormat { path: PathBuf, format: &'static str },
    #[error("{}: the first line has to name the columns, but it is empty", path.display())]
    NoHeader { path: PathBuf },
    #[error("{}: column {position} has no name", path.display())]
    UnnamedColumn { path: PathBuf, position: usize },
    #[error("{}: two columns are named `{column}`", path.display())]
    DuplicateColumn { path: PathBuf, column: String },
    #[error("{}: there are no rows below the header", path.display())]
    NoRows { path: PathBuf },
    #[error("{}: there are no rows", path.display())]
    Empty { path: PathBuf },
    #[error("{}:{line}: {actual} cells where the header has {expected}", path.display())]
    Ragged {
        path: PathBuf,
        line: u64,
        expected: u64,
        actual: u64,
    },
    #[error("{}:{line}: not UTF-8 text", path.display())]
    NotText { path: PathBuf, line: u64 },
    #[error("{}: not CSV", path.display())]
    NotCsv { path: PathBuf, source: csv::Error },
    #[error("{}:{line}: not one JSON object a line", path.display())]
    NotJson {
        path: PathBuf,
        line: u64,
        source: serde_json::Error,
    },
    #[error("{}: cannot read the Parquet file", path.display())]
    NotParquet {
        path: PathBuf,
        source: ::parquet::errors::ParquetError,
    },
    #[error("{}:{line}: column `{column}`: expected a number, a truth value or a text, found {found}", path.display())]
    Nested {
        path: PathBuf,
        line: u64,
        column: String,
        found: &'static str,
    },
}

impl Table {
    /// Reads `path`.
    pub(crate) fn read(path: &Path) -> Result<Self, TableError> {
        let bytes = std::fs::read(path).map_err(|source| TableError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &bytes)
    }

    /// Reads a table from `bytes`, the contents of `path`.
    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, TableError> {
        let path = path.to_owned();
        // Spreadsheets put a byte order mark before the first column's name.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = bytes.trim_ascii_start();
        if bytes.starts_with(parquet::MAGIC) {
            parquet::read(path, bytes)
        } else if text.starts_with(b"{") {
            json::read(path, bytes)
        } else if let Some(format) = other_format(text) {
            Err(TableError::OtherFormat { path, format })
        } else {
            Self::parse_csv(path, bytes)
        }
    }

    fn parse_csv(path: PathBuf, bytes: &[u8]) -> Result<Self, TableError> {
        let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(bytes);
        let header = reader.headers().map_err(|error| csv_error(&path, error))?;
        let columns: Vec<String> = header.iter().map(str::to_owned).collect();
        if columns.iter().all(String::is_empty) {
            return Err(TableError::NoHeader { path });
        }
        let mut seen = HashSet::new();
        for (i, column) in columns.iter().enumerate() {
            if column.is_empty() {
                return Err(TableError::UnnamedColumn {
                    path,
                    position: i + 1,
                });
            }
            if !seen.insert(column.as_str()) {
                return Err(TableError::DuplicateColumn {
                    path,
                    column: column.clone(),
                });
            }
        }
        let rows: Vec<StringRecord> = reader
            .records()
            .collect::<Result<_, _>>()
            .map_err(|error| csv_error(&path, error))?;
        if rows.is_empty() {
            return Err(TableError::NoRows { path });
        }
        let types = (0..columns.len()).map(|column| guess(&rows, column)).collect();
        Ok(Self {
            path,
            columns,
            types,
            rows,
        })
    }

    /// Where the rows came from.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the columns, in the file's order.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Position of a column.
    pub(crate) fn position(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|name| name == column)
    }

    /// Number of rows, at least 1.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// A cell, trimmed; empty when the value is missing.
    pub(crate) fn cell(&self, row: usize, column: usize) -> &str {
        self.rows[row].get(column).unwrap_or_default()
    }

    /// Every cell of a column, from the first row to the last.
    pub(crate) fn column(&self, column: usize) -> impl Iterator<Item = &str> {
        self.rows
            .iter()
            .map(move |row| row.get(column).unwrap_or_default())
    }

    /// Line of the file on which a row begins, from 1; of a Parquet file, which has no lines, the row itself.
    pub(crate) fn line(&self, row: usize) -> u64 {
        self.rows[row].position().map_or(0, csv::Position::line)
    }

    /// What a column's values are.
    pub(crate) fn cell_type(&self, column: usize) -> CellType {
        self.types[column]
    }
}

/// Numbers when every value of a column is one, and there is at least one.
fn guess(rows: &[StringRecord], column: usize) -> CellType {
    let mut values = rows
        .iter()
        .map(|row| row.get(column).unwrap_or_default())
        .filter(|cell| !cell.is_empty())
        .peekable();
    if values.peek().is_some() && values.all(|cell| cell.parse::<f64>().is_ok()) {
        CellType::Number
    } else {
        CellType::Text
    }
}

/// Formats that people hand over in place of those that are read, by their first bytes.
fn other_format(bytes: &[u8]) -> Option<&'static str> {
    const MAGIC: &[(&[u8], &str)] = &[
        (b"ARROW1", "an Arrow file"),
        (b"ORC", "an ORC file"),
        (b"\x1f\x8b", "a gzip file"),
        (b"PK\x03\x04", "a zip or Excel file"),
        (b"Obj\x01", "an Avro file"),
        (b"[{", "a JSON array"),
        (b"[\n", "a JSON array"),
    ];
    MAGIC
        .iter()
        .find(|(magic, _)| bytes.starts_with(magic))
        .map(|(_, format)| *format)
}

fn csv_error(path: &Path, error: csv::Error) -> TableError {
    let path = path.to_owned();
    let line = error.position().map_or(1, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => TableError::Ragged {
            path,
            line,
            expected: *expected_len,
            actual: *len,
        },
        csv::ErrorKind::Utf8 { .. } => TableError::NotText { path, line },
        _ => TableError::NotCsv { path, source: error },
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(super) fn parsed(bytes: &[u8]) -> Result<Table, TableError> {
        Table::parse(Path::new("rows.csv"), bytes)
    }

    pub(crate) fn table(text: &str) -> Table {
        parsed(text.as_bytes()).expect("a table")
    }

    pub(super) fn problem(bytes: &[u8]) -> String {
        parsed(bytes).expect_err("not a table").to_string()
    }

    #[test]
    fn cells_are_trimmed_and_found_by_line() {
        let table = table("\u{feff}tenure, Contract\n1,\"Month-to\nmonth\"\n , Two year \n");
        assert_eq!(table.columns(), ["tenure", "Contract"]);
        assert_eq!(
            (table.cell(0, 1), table.cell(1, 0), table.cell(1, 1)),
            ("Month-to\nmonth", "", "Two year")
        );
        assert_eq!((table.line(0), table.line(1)), (2, 4));
    }

    #[test]
    fn a_column_is_numeric_when_each_value_is_a_number() {
        let table = table("a,b,c,d\n1,x,,1\n,2,,nope\n-2.5e3,3,,2\n");
        let types: Vec<_> = (0..4).map(|i| table.cell_type(i)).collect();
        assert_eq!(
            types,
            [CellType::Number, CellType::Text, CellType::Text, CellType::Text]
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        assert_eq!(
            problem(b"a,b\n1,2\n3\n"),
            "rows.csv:3: 1 cells where the header has 2"
        );
        assert_eq!(problem(b"a,a\n1,2\n"), "rows.csv: two columns are named `a`");
        assert_eq!(problem(b"a,\n1,2\n"), "rows.csv: column 2 has no name");
        assert_eq!(problem(b"a,b\n"), "rows.csv: there are no rows below the header");
        assert_eq!(
            problem(b""),
            "rows.csv: the first line has to name the columns, but it is empty"
        );
        assert_eq!(problem(b"a\n1\n\xff\n"), "rows.csv:3: not UTF-8 text");
        assert_eq!(
            problem(b"PK\x03\x04"),
            "rows.csv is a zip or Excel file; rows are read from CSV, NDJSON and Parquet: convert it first"
        );
        assert!(problem(b" [{\"a\": 1}]").starts_with("rows.csv is a JSON array; "));
        assert_eq!(problem(b"PAR1\x15\x04"), "rows.csv: cannot read the Parquet file");
    }
}
