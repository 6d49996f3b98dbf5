//! Rows of a table become the input tensors that a model asks for.

use std::borrow::Cow;

use plumbline_inference_protocol::{Shape, Tensor, TensorSpec};

use super::cell::{is_finite, is_whole, values};
use crate::shift::Shift;
use crate::table::Table;

/// A table fitted to a model's inputs, with the changes to make on the way.
#[derive(Debug)]
pub(crate) struct Rows {
    table: Table,
    inputs: Vec<Input>,
    /// Each with its column's position.
    shifts: Vec<(usize, Shift)>,
    /// The first number that is missing or infinite, for dialects that have no form for it.
    not_finite: Option<(usize, usize)>,
}

/// One input tensor and the columns that fill its row.
#[derive(Debug)]
struct Input {
    spec: TensorSpec,
    columns: Vec<usize>,
}

/// Why a table does not fit a model.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowsError {
    #[error(
        "{file}: no column for {} of model `{model}`; the file has {}",
        list("input", missing),
        names(has)
    )]
    MissingColumns {
        file: String,
        model: String,
        missing: Vec<String>,
        has: Vec<String>,
    },
    #[error(
        "{file}: {} not of model `{model}`; --ignore-extra leaves them out",
        list("column", extra)
    )]
    ExtraColumns {
        file: String,
        model: String,
        extra: Vec<String>,
    },
    #[error("input `{input}` of model `{model}` takes {expected} columns, {file} has {actual}")]
    Width {
        file: String,
        model: String,
        input: String,
        expected: usize,
        actual: usize,
    },
    #[error("input `{input}` of model `{model}` has shape {shape}, which rows of a table cannot fill")]
    Shape {
        model: String,
        input: String,
        shape: Shape,
    },
    #[error("--shift {shift}: {file} has no such column; it has {}", names(has))]
    UnknownShift {
        shift: String,
        file: String,
        has: Vec<String>,
    },
    #[error("{file}:{line}: column `{column}`: {reason}")]
    Cell {
        file: String,
        line: u64,
        column: String,
        reason: String,
    },
    #[error("model `{model}` takes {expected} rows a request, not {actual}: --batch {expected}")]
    Batch {
        model: String,
        expected: i64,
        actual: usize,
    },
}

fn names(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn list(noun: &str, of: &[String]) -> String {
    let plural = if of.len() == 1 { "" } else { "s" };
    format!("{noun}{plural} {}", names(of))
}

impl Rows {
    /// Fits `table` to the inputs of `model` and checks every cell, with and without its shifts.
    ///
    /// An input with one column takes the column of its name. The only input of a model, with several columns, takes
    /// all columns of the table in their order.
    pub(crate) fn fit(
        table: Table,
        model: &str,
        specs: &[TensorSpec],
        shifts: Vec<Shift>,
        ignore_extra: bool,
    ) -> Result<Self, RowsError> {
        let file = table.path().display().to_string();
        let mut inputs = Vec::with_capacity(specs.len());
        let mut missing = Vec::new();
        for spec in specs {
            let width = width(spec, specs.len() == 1, table.columns().len());
            let width = width.ok_or_else(|| RowsError::Shape {
                model: model.to_owned(),
                input: spec.name.clone(),
                shape: spec.shape.clone(),
            })?;
            let by_name = table.position(&spec.name);
            let columns = match by_name {
                Some(column) if width == 1 => vec![column],
                _ if specs.len() == 1 && width == table.columns().len() => (0..width).collect(),
                _ if specs.len() == 1 && width > 1 => {
                    return Err(RowsError::Width {
                        file,
                        model: model.to_owned(),
                        input: spec.name.clone(),
                        expected: width,
                        actual: table.columns().len(),
                    });
                }
                _ => {
                    missing.push(spec.name.clone());
                    continue;
                }
            };
            inputs.push(Input {
                spec: spec.clone(),
                columns,
            });
        }
        if !missing.is_empty() {
            let (model, has) = (model.to_owned(), table.columns().to_vec());
            return Err(RowsError::MissingColumns {
                file,
                model,
                missing,
                has,
            });
        }
        let used = |column: &usize| inputs.iter().any(|input| input.columns.contains(column));
        let extra: Vec<String> = (0..table.columns().len())
            .filter(|column| !used(column))
            .map(|column| table.columns()[column].clone())
            .collect();
        if !extra.is_empty() && !ignore_extra {
            return Err(RowsError::ExtraColumns {
                file,
                model: model.to_owned(),
                extra,
            });
        }
        let shifts = shifts
            .into_iter()
            .map(|shift| match table.position(shift.column()) {
                Some(column) => Ok((column, shift)),
                None => Err(RowsError::UnknownShift {
                    shift: shift.to_string(),
                    file: file.clone(),
                    has: table.columns().to_vec(),
                }),
            })
            .collect::<Result<_, _>>()?;
        let mut rows = Self {
            table,
            inputs,
            shifts,
            not_finite: None,
        };
        rows.not_finite = rows.check()?;
        Ok(rows)
    }

    /// Rows in the table.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether requests of `batch` rows fit the model.
    pub(crate) fn check_batch(&self, model: &str, batch: usize) -> Result<(), RowsError> {
        let fixed = self
            .inputs
            .iter()
            .find_map(|input| input.spec.shape.rows().filter(|rows| *rows >= 0));
        match fixed {
            Some(expected) if expected != batch as i64 => Err(RowsError::Batch {
                model: model.to_owned(),
                expected,
                actual: batch,
            }),
            _ => Ok(()),
        }
    }

    /// The input tensors of one request with these rows; `random` draws which of them a shift with a share changes.
    pub(crate) fn tensors(
        &self,
        rows: &[usize],
        random: &mut fastrand::Rng,
    ) -> Result<Vec<Tensor>, RowsError> {
        // Drawn row by row and shift by shift, so that columns of one row drift together or apart as asked.
        let drawn: Vec<Vec<bool>> = rows
            .iter()
            .map(|_| {
                self.shifts
                    .iter()
                    .map(|(_, shift)| random.f64() < shift.share())
                    .collect()
            })
            .collect();
        let mut tensors = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            let mut cells = Vec::with_capacity(rows.len() * input.columns.len());
            for (row, drawn) in rows.iter().zip(&drawn) {
                for column in &input.columns {
                    cells.push(((*row, *column), self.shifted(*row, *column, input, drawn)?));
                }
            }
            let data =
                values(input.spec.datatype, &cells).map_err(|(at, reason)| self.cell_error(at, reason))?;
            let mut shape = input.spec.shape.dimensions().to_vec();
            shape[0] = rows.len() as i64;
            if let Some(open) = shape.iter_mut().skip(1).find(|dimension| **dimension < 0) {
                *open = input.columns.len() as i64;
            }
            let tensor = Tensor::new(input.spec.name.clone(), shape, data);
            tensors.push(tensor.expect("as many values as rows times columns"));
        }
        Ok(tensors)
    }

    /// Refuses rows with a missing or infinite number, which JSON has no form for.
    pub(crate) fn check_json(&self) -> Result<(), RowsError> {
        match self.not_finite {
            None => Ok(()),
            Some(at) => Err(self.cell_error(
                at,
                "JSON has no form for a missing or infinite number; --binary and --grpc do, or fill it with \
                 --shift 'COLUMN~=->0'"
                    .to_owned(),
            )),
        }
    }

    /// Every cell is what its input takes, before and after every shift that not all rows get. Returns the first one
    /// that is a number and not finite.
    fn check(&self) -> Result<Option<(usize, usize)>, RowsError> {
        let most = vec![true; self.shifts.len()];
        let least: Vec<bool> = self
            .shifts
            .iter()
            .map(|(_, shift)| shift.share() >= 1.0)
            .collect();
        let mut not_finite = None;
        for input in &self.inputs {
            for &column in &input.columns {
                let partly = self
                    .shifts
                    .iter()
                    .zip(&least)
                    .any(|((shifted, _), all)| *shifted == column && !all);
                for row in 0..self.table.len() {
                    for drawn in [&least, &most].into_iter().take(if partly { 2 } else { 1 }) {
                        let cell = self.shifted(row, column, input, drawn)?;
                        let data = values(input.spec.datatype, &[((row, column), cell)])
                            .map_err(|(at, reason)| self.cell_error(at, reason))?;
                        if not_finite.is_none() && !is_finite(&data) {
                            not_finite = Some((row, column));
                        }
                    }
                }
            }
        }
        Ok(not_finite)
    }

    fn shifted(
        &self,
        row: usize,
        column: usize,
        input: &Input,
        drawn: &[bool],
    ) -> Result<Cow<'_, str>, RowsError> {
        let whole = is_whole(input.spec.datatype);
        let shifts = self
            .shifts
            .iter()
            .zip(drawn)
            .filter(|((shifted, _), drawn)| *shifted == column && **drawn);
        let mut cell = Cow::Borrowed(self.table.cell(row, column));
        for ((_, shift), _) in shifts {
            cell = shift
                .apply(cell, whole)
                .map_err(|error| self.cell_error((row, column), error.to_string()))?;
        }
        Ok(cell)
    }

    fn cell_error(&self, (row, column): (usize, usize), reason: String) -> RowsError {
        RowsError::Cell {
            file: self.table.path().display().to_string(),
            line: self.table.line(row),
            column: self.table.columns()[column].clone(),
            reason,
        }
    }
}

/// Columns in a row of the tensor; `None` when a row has more than one open dimension.
fn width(spec: &TensorSpec, is_only: bool, columns: usize) -> Option<usize> {
    let row = spec.shape.dimensions().split_first()?.1;
    let fixed: usize = row.iter().filter_map(|d| usize::try_from(*d).ok()).product();
    match row.iter().filter(|d| **d < 0).count() {
        0 => Some(fixed),
        1 if is_only && fixed == 1 => Some(columns),
        1 if fixed == 1 => Some(1),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests;
