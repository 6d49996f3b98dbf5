//! Parquet files of flat columns.

use std::path::PathBuf;

use bytes::Bytes;
use jiff::Timestamp;
use parquet::basic::{LogicalType, Repetition, TimeUnit};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::Type;

use super::typed::{Builder, Cell};
use super::{Table, TableError};

/// The first bytes of a file, and its last.
pub(super) const MAGIC: &[u8] = b"PAR1";

/// Reads `bytes`, the contents of `path`. Dates and times are texts, timestamps in RFC 3339; nested and repeated columns are refused.
pub(super) fn read(path: PathBuf, bytes: &[u8]) -> Result<Table, TableError> {
    let unreadable = |path, source| TableError::NotParquet { path, source };
    let reader = match SerializedFileReader::new(Bytes::copy_from_slice(bytes)) {
        Ok(reader) => reader,
        Err(source) => return Err(unreadable(path, source)),
    };
    let mut table = Builder::default();
    let schema = reader.metadata().file_metadata().schema();
    for field in schema.get_fields() {
        if field.is_group() || field.get_basic_info().repetition() == Repetition::REPEATED {
            let column = field.name().to_owned();
            return Err(TableError::Nested {
                path,
                line: 1,
                column,
                found: "a nested column",
            });
        }
        if !table.add_column(field.name()) {
            let column = field.name().to_owned();
            return Err(TableError::DuplicateColumn { path, column });
        }
    }
    let units: Vec<Option<TimeUnit>> = schema.get_fields().iter().map(|field| unit(field)).collect();
    let rows = match reader.get_row_iter(None) {
        Ok(rows) => rows,
        Err(source) => return Err(unreadable(path, source)),
    };
    for (line, row) in (1_u64..).zip(rows) {
        let row = match row {
            Ok(row) => row,
            Err(source) => return Err(unreadable(path, source)),
        };
        table.row(line);
        for ((column, field), unit) in row.get_column_iter().zip(&units) {
            match cell(field, *unit) {
                Ok(cell) => table.cell(column, cell),
                Err(found) => {
                    return Err(TableError::Nested {
                        path,
                        line,
                        column: column.clone(),
                        found,
                    });
                }
            }
        }
    }
    table.finish(path)
}

/// Of a column of timestamps. Those of nanoseconds, and those without a zone, come as mere numbers.
fn unit(column: &Type) -> Option<TimeUnit> {
    match column.get_basic_info().logical_type_ref() {
        Some(LogicalType::Timestamp(timestamp)) => Some(timestamp.unit),
        _ => None,
    }
}

fn cell(field: &Field, unit: Option<TimeUnit>) -> Result<Cell, &'static str> {
    Ok(match (field, unit) {
        (Field::TimestampMillis(time), _) | (Field::Long(time), Some(TimeUnit::MILLIS)) => {
            timestamp(Timestamp::from_millisecond(*time))?
        }
        (Field::TimestampMicros(time), _) | (Field::Long(time), Some(TimeUnit::MICROS)) => {
            timestamp(Timestamp::from_microsecond(*time))?
        }
        (Field::Long(time), Some(TimeUnit::NANOS)) => {
            timestamp(Timestamp::from_nanosecond(i128::from(*time)))?
        }
        (field, _) => plain(field)?,
    })
}

fn timestamp(time: Result<Timestamp, jiff::Error>) -> Result<Cell, &'static str> {
    let time = time.map_err(|_| "a time beyond the year 9999")?;
    Ok(Cell::Text(time.to_string()))
}

fn plain(field: &Field) -> Result<Cell, &'static str> {
    Ok(match field {
        Field::Null => Cell::Missing,
        Field::Bool(truth) => Cell::Truth(*truth),
        Field::Byte(_)
        | Field::Short(_)
        | Field::Int(_)
        | Field::Long(_)
        | Field::UByte(_)
        | Field::UShort(_)
        | Field::UInt(_)
        | Field::ULong(_)
        | Field::Decimal(_) => Cell::Number(field.to_string()),
        Field::Float16(x) => Cell::float(x.to_f64()),
        Field::Float(x) => Cell::float(f64::from(*x)),
        Field::Double(x) => Cell::float(*x),
        Field::Str(text) => Cell::Text(text.clone()),
        Field::Bytes(bytes) => match bytes.as_utf8() {
            Ok(text) => Cell::Text(text.to_owned()),
            Err(_) => return Err("bytes that are not UTF-8 text"),
        },
        Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_) => Cell::Text(field.to_string()),
        Field::Group(_) | Field::ListInternal(_) | Field::MapInternal(_) => return Err("a nested value"),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::data_type::{FloatType, Int32Type, Int64Type};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use crate::table::tests::{parsed, problem};

    /// Days of 1970 and floats, as columns of this schema.
    fn file(schema: &str, days: &[i32], repetitions: Option<&[i16]>, floats: &[f32]) -> Vec<u8> {
        let schema = Arc::new(parse_message_type(schema).expect("a schema"));
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).expect("a writer");
        let mut group = writer.next_row_group().expect("a row group");
        let mut column = group.next_column().expect("a column").expect("the first");
        let definitions = repetitions.map(|own| vec![1; own.len()]);
        let written = column
            .typed::<Int32Type>()
            .write_batch(days, definitions.as_deref(), repetitions);
        written.expect("written");
        column.close().expect("closed");
        let mut column = group.next_column().expect("a column").expect("the second");
        column
            .typed::<FloatType>()
            .write_batch(floats, None, None)
            .expect("written");
        column.close().expect("closed");
        group.close().expect("closed");
        writer.into_inner().expect("closed")
    }

    #[test]
    fn days_are_texts_and_floats_keep_their_digits() {
        let schema = "message rows { required int32 day (date); required float x; }";
        let table = parsed(&file(schema, &[0, 31], None, &[29.85, f32::NAN])).expect("a table");
        assert_eq!(table.columns(), ["day", "x"]);
        assert_eq!((table.cell(0, 0), table.cell(1, 0)), ("1970-01-01", "1970-02-01"));
        assert_eq!((table.cell(0, 1), table.cell(1, 1)), ("29.850000381469727", ""));
        assert_eq!(table.line(1), 2);
    }

    #[test]
    fn timestamps_are_rfc_3339_whatever_their_unit_and_zone() {
        let second = 1_769_860_800_i64;
        let unit = |name: &str, utc: bool| format!("required int64 {name}{utc} (timestamp({name},{utc}));");
        let columns = ["MILLIS", "MICROS", "NANOS"].map(|name| unit(name, true) + &unit(name, false));
        let old = "required int64 old (timestamp_millis); required int64 plain;";
        let schema = format!("message rows {{ {} {old} }}", columns.concat());
        let schema = Arc::new(parse_message_type(&schema).expect("a schema"));
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).expect("a writer");
        let mut group = writer.next_row_group().expect("a row group");
        for per_second in [
            1_000,
            1_000,
            1_000_000,
            1_000_000,
            1_000_000_000,
            1_000_000_000,
            1_000,
            1,
        ] {
            let mut column = group.next_column().expect("a column").expect("one more");
            let written = column
                .typed::<Int64Type>()
                .write_batch(&[second * per_second], None, None);
            written.expect("written");
            column.close().expect("closed");
        }
        group.close().expect("closed");
        let table = parsed(&writer.into_inner().expect("closed")).expect("a table");
        let cells: Vec<&str> = (0..8).map(|column| table.cell(0, column)).collect();
        assert_eq!(cells[..7], ["2026-01-31T12:00:00Z"; 7]);
        assert_eq!(cells[7], "1769860800");
    }

    #[test]
    fn what_is_no_flat_table_is_refused() {
        let nested = "message rows { repeated int32 day; required float x; }";
        assert_eq!(
            problem(&file(nested, &[1, 2, 3], Some(&[0, 1, 0]), &[1.0, 2.0])),
            "rows.csv:1: column `day`: expected a number, a truth value or a text, found a nested column"
        );
        let twice = "message rows { required int32 x; required float x; }";
        assert_eq!(
            problem(&file(twice, &[1], None, &[1.0])),
            "rows.csv: two columns are named `x`"
        );
        let none = "message rows { required int32 day; required float x; }";
        assert_eq!(
            problem(&file(none, &[], None, &[])),
            "rows.csv: there are no rows"
        );
    }
}
