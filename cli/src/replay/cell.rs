//! Cells of a table become the values of a tensor.

use std::borrow::Cow;

use plumbline_inference_protocol::{Datatype, StringData, TensorData};

/// Place of a cell: row and column of the table.
pub(super) type Place = (usize, usize);

/// Cells with their places.
pub(super) type Cells<'a> = [(Place, Cow<'a, str>)];

/// The values of a tensor, or which cell is not one and why.
pub(super) fn values(datatype: Datatype, cells: &Cells<'_>) -> Result<TensorData, (Place, String)> {
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
) -> Result<Vec<T>, (Place, String)> {
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

/// Whether every number is one that JSON can write; texts are.
pub(crate) fn is_finite(data: &TensorData) -> bool {
    data.iter_f64()
        .is_none_or(|mut numbers| numbers.all(f64::is_finite))
}

/// Whether a datatype holds whole numbers only.
pub(super) fn is_whole(datatype: Datatype) -> bool {
    !matches!(
        datatype,
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64 | Datatype::Bytes
    )
}
