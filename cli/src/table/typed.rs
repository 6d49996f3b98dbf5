//! A table from values that know what they are.

use std::collections::HashMap;
use std::path::PathBuf;

use csv::{Position, StringRecord};

use super::{CellType, Table, TableError};

/// One value of a row.
pub(super) enum Cell {
    Missing,
    Number(String),
    Truth(bool),
    Text(String),
}

impl Cell {
    /// A number in the shortest text that gives it again; a whole one without a fraction. NaN is no value.
    pub(super) fn float(x: f64) -> Self {
        if x.is_nan() {
            Self::Missing
        } else if x.abs() < 1e15 {
            Self::Number(x.to_string())
        } else {
            Self::Number(format!("{x:e}"))
        }
    }
}

/// Collects rows whose columns are found on the way, in the order in which they first appear.
#[derive(Default)]
pub(super) struct Builder {
    columns: Vec<String>,
    positions: HashMap<String, usize>,
    types: Vec<Option<CellType>>,
    /// Line, and cells by column; a row may end before later columns.
    rows: Vec<(u64, Vec<String>)>,
}

impl Builder {
    /// Adds a column, which may stay without values; false when it is there already.
    pub(super) fn add_column(&mut self, name: &str) -> bool {
        let is_new = !self.positions.contains_key(name);
        self.column(name);
        is_new
    }

    fn column(&mut self, name: &str) -> usize {
        if let Some(position) = self.positions.get(name) {
            return *position;
        }
        let position = self.columns.len();
        self.columns.push(name.to_owned());
        self.positions.insert(name.to_owned(), position);
        self.types.push(None);
        position
    }

    /// Begins a row.
    pub(super) fn row(&mut self, line: u64) {
        self.rows.push((line, vec![String::new(); self.columns.len()]));
    }

    /// Sets a cell of the row that was begun last.
    pub(super) fn cell(&mut self, name: &str, cell: Cell) {
        let position = self.column(name);
        let Some((_, cells)) = self.rows.last_mut() else {
            return;
        };
        let (found, text) = match cell {
            Cell::Missing => return,
            Cell::Number(text) => (CellType::Number, text),
            Cell::Truth(truth) => (CellType::Truth, truth.to_string()),
            Cell::Text(text) => (CellType::Text, text),
        };
        let known = &mut self.types[position];
        *known = Some(known.map_or(found, |known| if known == found { known } else { CellType::Text }));
        cells.resize(cells.len().max(position + 1), String::new());
        cells[position] = text;
    }

    pub(super) fn finish(self, path: PathBuf) -> Result<Table, TableError> {
        if self.rows.is_empty() {
            return Err(TableError::Empty { path });
        }
        if let Some(position) = self.columns.iter().position(String::is_empty) {
            return Err(TableError::UnnamedColumn {
                path,
                position: position + 1,
            });
        }
        let width = self.columns.len();
        let record = |(line, mut cells): (u64, Vec<String>)| {
            cells.resize(width, String::new());
            let mut record = StringRecord::from(cells);
            let mut position = Position::new();
            position.set_line(line);
            record.set_position(Some(position));
            record
        };
        Ok(Table {
            path,
            columns: self.columns,
            types: self
                .types
                .into_iter()
                .map(|found| found.unwrap_or(CellType::Text))
                .collect(),
            rows: self.rows.into_iter().map(record).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Cell;

    #[test]
    fn numbers_are_written_so_that_they_are_read_again() {
        let numbers = [0.1, -3.0, 1e300, 5e-324, f64::from(29.85_f32), 123_456_789.25];
        for x in numbers {
            assert!(
                matches!(Cell::float(x), Cell::Number(text) if text.parse() == Ok(x)),
                "{x}"
            );
        }
        assert!(matches!(Cell::float(4.0), Cell::Number(text) if text == "4"));
        assert!(matches!(Cell::float(f64::NAN), Cell::Missing));
    }
}
