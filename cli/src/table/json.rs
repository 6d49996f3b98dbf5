//! Newline-delimited JSON: one object a line.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;

use super::typed::{Builder, Cell};
use super::{Table, TableError};

/// Reads `bytes`, the contents of `path`. Blank lines are skipped; a key that a line has not is a missing value.
pub(super) fn read(path: PathBuf, bytes: &[u8]) -> Result<Table, TableError> {
    let mut table = Builder::default();
    for (line, text) in (1_u64..).zip(bytes.split(|byte| *byte == b'\n')) {
        if text.trim_ascii().is_empty() {
            continue;
        }
        let object: Object = match serde_json::from_slice(text) {
            Ok(object) => object,
            Err(source) => return Err(TableError::NotJson { path, line, source }),
        };
        table.row(line);
        for (column, value) in object.0 {
            match cell(value) {
                Ok(cell) => table.cell(&column, cell),
                Err(found) => {
                    return Err(TableError::Nested {
                        path,
                        line,
                        column,
                        found,
                    });
                }
            }
        }
    }
    table.finish(path)
}

fn cell(value: Value) -> Result<Cell, &'static str> {
    Ok(match value {
        Value::Null => Cell::Missing,
        Value::Bool(truth) => Cell::Truth(truth),
        Value::Number(number) if number.is_f64() => number.as_f64().map_or(Cell::Missing, Cell::float),
        Value::Number(number) => Cell::Number(number.to_string()),
        Value::String(text) => Cell::Text(text),
        Value::Array(_) => return Err("an array"),
        Value::Object(_) => return Err("an object"),
    })
}

/// The members of an object in the order of the text.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members: Vec<(String, Value)> = Vec::with_capacity(map.size_hint().unwrap_or(0));
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    if members.iter().any(|(known, _)| *known == key) {
                        return Err(serde::de::Error::custom(format_args!(
                            "key `{key}` is there twice"
                        )));
                    }
                    members.push((key, value));
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use crate::table::CellType::{Number, Text, Truth};
    use crate::table::tests::{problem, table};

    #[test]
    fn lines_are_rows_and_values_keep_their_types() {
        let table = table(
            "{\"tenure\": 1.0, \"plan\": \"2\", \"paid\": true}\n\n{\"plan\": \" \", \"tenure\": 2.5e-3, \"extra\": null, \"mixed\": 1}\n{\"mixed\": \"x\"}\n",
        );
        assert_eq!(table.columns(), ["tenure", "plan", "paid", "extra", "mixed"]);
        let types: Vec<_> = (0..5).map(|column| table.cell_type(column)).collect();
        assert_eq!(types, [Number, Text, Truth, Text, Text]);
        let row = |row| -> Vec<&str> { (0..5).map(|column| table.cell(row, column)).collect() };
        assert_eq!(row(0), ["1", "2", "true", "", ""]);
        assert_eq!(row(1), ["0.0025", " ", "", "", "1"]);
        assert_eq!([table.line(0), table.line(1), table.line(2)], [1, 3, 4]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        assert_eq!(
            problem(b"{\"a\": 1}\n{\"a\"\n"),
            "rows.csv:2: not one JSON object a line"
        );
        assert_eq!(
            problem(b"{\"a\": 1}\n[1]\n"),
            "rows.csv:2: not one JSON object a line"
        );
        assert_eq!(
            problem(b"{\"a\": 1, \"a\": 2}"),
            "rows.csv:1: not one JSON object a line"
        );
        assert_eq!(
            problem(b"{\"a\": 1}\n{\"b\": [1]}\n"),
            "rows.csv:2: column `b`: expected a number, a truth value or a text, found an array"
        );
        assert_eq!(problem(b"{\"\": 1}\n"), "rows.csv: column 1 has no name");
    }
}
