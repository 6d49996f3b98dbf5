//! Rows of a table become the input tensors that a model asks for.

use std::borrow::Cow;

use plumbline_inference_protocol::{Datatype, Shape, StringData, Tensor, TensorData, TensorSpec};

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

/// Whether every number is one that JSON can write; texts are.
pub(crate) fn is_finite(data: &TensorData) -> bool {
    data.iter_f64()
        .is_none_or(|mut numbers| numbers.all(f64::is_finite))
}

fn is_whole(datatype: Datatype) -> bool {
    !matches!(
        datatype,
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64 | Datatype::Bytes
    )
}

type Cells<'a> = [((usize, usize), Cow<'a, str>)];

/// The values of a tensor, or which cell is not one and why.
fn values(datatype: Datatype, cells: &Cells<'_>) -> Result<TensorData, ((usize, usize), String)> {
    macro_rules! whole {
        ($Type:ty) => {
            TensorData::from_vec(parsed(cells, |cell| whole::<$Type>(cell, datatype))?)
        };
    }
    let float = |cell: &str| number(cell, datatype);
    Ok(match datatype {
        Datatype::Bytes => {
            TensorData::from_strings(cells.iter().map(|(_, cell)| &**cell).collect::<StringData>())
        }
        Datatype::Bool => TensorData::from_vec(parsed(cells, truth)?),
        Datatype::Fp64 => TensorData::from_vec(parsed(cells, float)?),
        Datatype::Fp32 => TensorData::from_vec(parsed(cells, |cell| float(cell).map(|x| x as f32))?),
        Datatype::Fp16 => TensorData::from_vec(parsed(cells, |cell| float(cell).map(half::f16::from_f64))?),
        Datatype::Bf16 => TensorData::from_vec(parsed(cells, |cell| float(cell).map(half::bf16::from_f64))?),
        Datatype::Int8 => whole!(i8),
        Datatype::Int16 => whole!(i16),
        Datatype::Int32 => whole!(i32),
        Datatype::Int64 => whole!(i64),
        Datatype::Uint8 => whole!(u8),
        Datatype::Uint16 => whole!(u16),
        Datatype::Uint32 => whole!(u32),
        Datatype::Uint64 => whole!(u64),
    })
}

fn parsed<T>(
    cells: &Cells<'_>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, ((usize, usize), String)> {
    cells
        .iter()
        .map(|(at, cell)| parse(cell).map_err(|reason| (*at, reason)))
        .collect()
}

/// An empty cell is NaN, which is what a model with an imputer takes for a missing value.
fn number(cell: &str, datatype: Datatype) -> Result<f64, String> {
    if cell.is_empty() {
        Ok(f64::NAN)
    } else {
        cell.parse()
            .map_err(|_| format!("`{cell}` is not a number ({datatype})"))
    }
}

fn whole<T: std::str::FromStr>(cell: &str, datatype: Datatype) -> Result<T, String> {
    if cell.is_empty() {
        return Err(format!("an empty cell, and {datatype} has no missing values"));
    }
    // `3.0` is how a table library writes a whole number in a column with gaps.
    let digits = cell
        .split_once('.')
        .filter(|(_, zeros)| zeros.bytes().all(|digit| digit == b'0'));
    let digits = digits.map_or(cell, |(digits, _)| digits);
    digits
        .parse()
        .map_err(|_| format!("`{cell}` is not a whole number that fits {datatype}"))
}

fn truth(cell: &str) -> Result<bool, String> {
    match cell {
        "1" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err(format!("`{cell}` is not true or false (BOOL)")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::table::tests::table;

    pub(crate) fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
        TensorSpec::new(name, datatype, shape)
    }

    fn churn() -> Vec<TensorSpec> {
        vec![
            spec("tenure", Datatype::Int64, &[-1, 1]),
            spec("MonthlyCharges", Datatype::Fp32, &[-1, 1]),
            spec("Contract", Datatype::Bytes, &[-1]),
        ]
    }

    const CSV: &str = "Contract,tenure,MonthlyCharges\nOne year,1,20.5\n,3.0,\n";

    fn fit(csv: &str, specs: &[TensorSpec], shifts: &[&str], ignore_extra: bool) -> Result<Rows, RowsError> {
        let shifts = shifts
            .iter()
            .map(|shift| shift.parse().expect("a shift"))
            .collect();
        Rows::fit(table(csv), "churn", specs, shifts, ignore_extra)
    }

    fn problem(csv: &str, specs: &[TensorSpec], shifts: &[&str]) -> String {
        fit(csv, specs, shifts, false)
            .expect_err("does not fit")
            .to_string()
    }

    #[test]
    fn columns_go_to_the_inputs_of_their_names() {
        let rows = fit(CSV, &churn(), &[], false).expect("fits");
        let tensors = rows
            .tensors(&[1, 0], &mut fastrand::Rng::with_seed(1))
            .expect("tensors");
        assert_eq!(tensors[0].data().as_slice::<i64>(), Some(&[3, 1][..]));
        let charges = tensors[1].data().as_slice::<f32>().expect("FP32");
        assert!(charges[0].is_nan() && charges[1] == 20.5);
        assert_eq!(tensors[1].shape().dimensions(), [2, 1]);
        let contracts = tensors[2].data().as_strings().expect("BYTES");
        assert_eq!(
            (contracts.str_at(0), contracts.str_at(1)),
            (Some(""), Some("One year"))
        );
        assert_eq!(tensors[2].shape().dimensions(), [2]);
    }

    #[test]
    fn the_only_input_takes_all_columns_in_order() {
        for shape in [[-1, 3], [-1, -1]] {
            let rows = fit(
                "a,b,c\n1,2,3\n4,5,6\n",
                &[spec("x", Datatype::Fp64, &shape)],
                &[],
                false,
            )
            .expect("fits");
            let tensors = rows
                .tensors(&[0, 1], &mut fastrand::Rng::with_seed(1))
                .expect("tensors");
            assert_eq!(
                tensors[0].data().as_slice::<f64>(),
                Some(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0][..])
            );
            assert_eq!(tensors[0].shape().dimensions(), [2, 3]);
        }
        let error = problem("a,b\n1,2\n", &[spec("x", Datatype::Fp64, &[-1, 3])], &[]);
        assert_eq!(
            error,
            "input `x` of model `churn` takes 3 columns, rows.csv has 2"
        );
    }

    #[test]
    fn shifts_change_their_share_of_the_rows_and_nothing_else() {
        let rows = fit(CSV, &churn(), &["tenure*=1.5", "Contract=Two year@0.5"], false).expect("fits");
        let mut random = fastrand::Rng::with_seed(7);
        let tensors = rows.tensors(&[0; 1_000], &mut random).expect("tensors");
        // 1 · 1.5, to the nearest whole number.
        assert!(
            tensors[0]
                .data()
                .as_slice::<i64>()
                .expect("INT64")
                .iter()
                .all(|x| *x == 2)
        );
        let contracts = tensors[2].data().as_strings().expect("BYTES");
        let changed = contracts
            .iter()
            .filter(|contract| *contract == b"Two year")
            .count();
        // 500 ± 4.4 standard deviations.
        assert!((430..=570).contains(&changed), "{changed}");
        assert_eq!(tensors[1].data().as_slice::<f32>(), Some(&[20.5; 1_000][..]));
    }

    #[test]
    fn a_missing_number_has_no_form_in_json() {
        let missing = fit(CSV, &churn(), &[], false)
            .expect("fits")
            .check_json()
            .expect_err("a missing number");
        let text = missing.to_string();
        assert!(
            text.starts_with("rows.csv:3: column `MonthlyCharges`: JSON has no form"),
            "{text}"
        );
        assert!(
            fit(CSV, &churn(), &["MonthlyCharges~=->0"], false)
                .expect("fits")
                .check_json()
                .is_ok()
        );
        // Filled in half of the rows only.
        assert!(
            fit(CSV, &churn(), &["MonthlyCharges~=->0@0.5"], false)
                .expect("fits")
                .check_json()
                .is_err()
        );
        let whole = "Contract,tenure,MonthlyCharges\n,1,2\n";
        assert!(
            fit(whole, &churn(), &[], false)
                .expect("fits")
                .check_json()
                .is_ok()
        );
        assert!(
            fit(whole, &churn(), &["MonthlyCharges=null@0.1"], false)
                .expect("fits")
                .check_json()
                .is_err()
        );
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        assert_eq!(
            problem("tenure,Churn\n1,Yes\n", &churn(), &[]),
            "rows.csv: no column for inputs `MonthlyCharges`, `Contract` of model `churn`; the file has `tenure`, `Churn`"
        );
        let extra = "Contract,tenure,MonthlyCharges,Churn\nx,1,2,No\n";
        assert_eq!(
            problem(extra, &churn(), &[]),
            "rows.csv: column `Churn` not of model `churn`; --ignore-extra leaves them out"
        );
        assert!(fit(extra, &churn(), &[], true).is_ok());
        assert_eq!(
            problem(
                "Contract,tenure,MonthlyCharges\nx,1,2\nx,1,cheap\n",
                &churn(),
                &[]
            ),
            "rows.csv:3: column `MonthlyCharges`: `cheap` is not a number (FP32)"
        );
        assert_eq!(
            problem("Contract,tenure,MonthlyCharges\nx,1.5,2\n", &churn(), &[]),
            "rows.csv:2: column `tenure`: `1.5` is not a whole number that fits INT64"
        );
        assert_eq!(
            problem(CSV, &churn(), &["tenure=null"]),
            "rows.csv:2: column `tenure`: an empty cell, and INT64 has no missing values"
        );
        assert_eq!(
            problem(CSV, &churn(), &["Contract*=2"]),
            "rows.csv:2: column `Contract`: shift `Contract*=2` needs a number, got `One year`"
        );
        assert_eq!(
            problem(CSV, &churn(), &["contract=x"]),
            "--shift contract=x: rows.csv has no such column; it has `Contract`, `tenure`, `MonthlyCharges`"
        );
        let fixed = fit("a\n1\n", &[spec("a", Datatype::Fp32, &[1, 1])], &[], false).expect("fits");
        let error = fixed.check_batch("churn", 4).expect_err("one row a request");
        assert_eq!(
            error.to_string(),
            "model `churn` takes 1 rows a request, not 4: --batch 1"
        );
    }
}
