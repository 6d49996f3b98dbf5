//! The time of each row, and what the columns hold at each hour of the week.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use plumbline_drift::SubjectBuilder;
use plumbline_drift::profile::{SeasonalCounts, Subject};
use plumbline_drift::season::{HOURS, HourOfWeek, SeasonBuilder};

use crate::column::{Column, ColumnError};
use crate::table::Table;

const DAY_MS: i64 = 86_400_000;
/// Days below which an hour of the week was seen once or less: what was of that week is not told from what is of the hour.
const ENOUGH_DAYS: i64 = 14;
/// Numbers below it are seconds since 1970, to the year 5138.
const LEAST_MILLISECONDS: f64 = 1e11;
/// Numbers from it on are neither seconds nor milliseconds: those are again to the year 5138.
const BEYOND_MILLISECONDS: f64 = 1e14;

/// When each row of a table was, milliseconds since 1970; none where the table does not say.
#[derive(Clone, Debug)]
pub(super) struct Times(Vec<Option<i64>>);

impl Times {
    /// Reads them from a column.
    ///
    /// # Errors
    /// A cell that is no time; times that span less than a day, or none at all.
    pub(super) fn read(table: &Table, column: &str) -> anyhow::Result<Self> {
        let position = table.position(column).expect("known");
        let read = |row| {
            let cell = table.cell(row, position);
            unix_ms(cell).map_err(|expected| ColumnError::Cell {
                file: table.path().display().to_string(),
                line: table.line(row),
                column: column.to_owned(),
                cell: cell.to_owned(),
                expected,
            })
        };
        let times = Self((0..table.len()).map(read).collect::<Result<_, _>>()?);
        let Some((first, last)) = times.span() else {
            anyhow::bail!("--time-column {column}: no row has a time");
        };
        anyhow::ensure!(
            last - first >= DAY_MS,
            "--time-column {column}: the rows span {:.1} hours, from {} to {}; an hour of the week is known from rows of \
             at least a day, better of two weeks",
            (last - first) as f64 / 3_600_000.0,
            told(first),
            told(last),
        );
        Ok(times)
    }

    /// By row.
    pub(super) fn unix_ms(&self) -> &[Option<i64>] {
        &self.0
    }

    /// The subject of a column over some rows, and its counts per hour of the week. Rows without a time count for the subject
    /// alone.
    pub(super) fn describe(
        &self,
        empty: SubjectBuilder,
        column: &Column,
        table: &Table,
        rows: impl Iterator<Item = usize>,
    ) -> Result<(Subject, SeasonalCounts), ColumnError> {
        let mut season = SeasonBuilder::new(empty);
        for row in rows {
            let builder = match self.0[row] {
                Some(time) => season.hour(HourOfWeek::at_unix_ms(time)),
                None => season.without_hour(),
            };
            column.push(builder, column.value_at(table, row)?);
        }
        Ok(season.finish())
    }

    /// What makes the comparison by hours weaker than it could be.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let timeless = self.0.iter().filter(|time| time.is_none()).count();
        if timeless > 0 {
            warnings.push(format!(
                "{timeless} of {} rows have no time: they count for no hour of the week",
                self.0.len()
            ));
        }
        let (first, last) = self.span().unwrap_or_default();
        if last - first < ENOUGH_DAYS * DAY_MS {
            warnings.push(format!(
                "the rows span {:.1} days; with less than {ENOUGH_DAYS}, what was of one week counts as usual for its hours",
                (last - first) as f64 / DAY_MS as f64
            ));
        }
        let mut empty = [true; HOURS];
        for time in self.0.iter().flatten() {
            empty[HourOfWeek::at_unix_ms(*time).index()] = false;
        }
        let mut hours = (0..HOURS).filter(|hour| empty[*hour]).filter_map(HourOfWeek::new);
        if let Some(hour) = hours.next() {
            warnings.push(format!(
                "{} of {HOURS} hours of the week have no rows, the first is {hour} UTC: they are compared with the same hour \
                 of other days, or where that has none with all rows",
                hours.count() + 1
            ));
        }
        warnings
    }

    /// The first time and the last.
    fn span(&self) -> Option<(i64, i64)> {
        let times = || self.0.iter().flatten().copied();
        times().min().zip(times().max())
    }
}

fn told(unix_ms: i64) -> String {
    Timestamp::from_millisecond(unix_ms).map_or_else(|_| unix_ms.to_string(), |time| time.to_string())
}

/// The time that a cell tells, milliseconds since 1970; none in an empty one. A number is seconds or milliseconds by its
/// size; a date with a time of day is in UTC unless it says otherwise.
fn unix_ms(cell: &str) -> Result<Option<i64>, &'static str> {
    const EXPECTED: &str = "a time: expected a date with a time of day such as 2026-01-31T12:00:00Z, or seconds or \
                            milliseconds since 1970";
    if cell.is_empty() {
        return Ok(None);
    }
    if let Ok(number) = cell.parse::<f64>() {
        return match number.abs() {
            size if size < LEAST_MILLISECONDS => Ok(Some((number * 1000.0).floor() as i64)),
            size if size < BEYOND_MILLISECONDS => Ok(Some(number.floor() as i64)),
            size if size.is_nan() => Ok(None),
            _ => Err("a time: expected seconds (below 1e11) or milliseconds (below 1e14) since 1970"),
        };
    }
    // A date alone is read as its midnight, which would put all rows of the day into one hour.
    if !cell.contains(['T', 't', ' ']) {
        return Err(EXPECTED);
    }
    let time = cell.parse::<Timestamp>().or_else(|_| {
        let local: DateTime = cell.parse()?;
        local.to_zoned(TimeZone::UTC).map(|time| time.timestamp())
    });
    time.map(|time| Some(time.as_millisecond())).map_err(|_| EXPECTED)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::table::tests::table;

    #[test]
    fn times_are_texts_seconds_or_milliseconds() {
        let noon = 1_769_860_800_000;
        for text in [
            "2026-01-31T12:00:00Z",
            "2026-01-31T12:00:00",
            "2026-01-31 12:00",
            "2026-01-31t13:00:00.000+01:00",
            "2026-01-31 06:30:00-05:30",
        ] {
            assert_eq!(unix_ms(text), Ok(Some(noon)), "{text}");
        }
        for (number, expected) in [
            ("1769860800", noon),
            ("1769860800.25", noon + 250),
            ("1769860800000", noon),
            ("1.7698608e12", noon),
            ("-0.5", -500),
        ] {
            assert_eq!(unix_ms(number), Ok(Some(expected)), "{number}");
        }
        assert_eq!((unix_ms(""), unix_ms("NaN")), (Ok(None), Ok(None)));
    }

    #[test]
    fn what_is_no_time_is_told_with_its_place() {
        let problem = |cell: &str| {
            let table = table(&format!("at,x\n2026-01-31T12:00:00Z,1\n{cell},2\n"));
            Times::read(&table, "at").expect_err("no time").to_string()
        };
        for cell in [
            "yesterday",
            "2026-01-31",
            "2026-02-30T12:00:00Z",
            "2026-01-31T25:00:00",
            "2026-01-31T12:00:00+99:00",
            "17698608OO",
        ] {
            assert_eq!(
                problem(cell),
                format!(
                    "rows.csv:3: column `at`: `{cell}` is not a time: expected a date with a time of day such as \
                     2026-01-31T12:00:00Z, or seconds or milliseconds since 1970"
                )
            );
        }
        for cell in ["1769860800000000", "inf"] {
            assert_eq!(
                problem(cell),
                format!(
                    "rows.csv:3: column `at`: `{cell}` is not a time: expected seconds (below 1e11) or milliseconds \
                     (below 1e14) since 1970"
                )
            );
        }
    }

    #[test]
    fn rows_of_less_than_a_day_have_no_season() {
        let problem = |text: &str| {
            let table = table(text);
            Times::read(&table, "at").expect_err("too little").to_string()
        };
        assert_eq!(problem("at,x\n,1\n,2\n"), "--time-column at: no row has a time");
        assert_eq!(
            problem("at,x\n2026-01-31T23:59:59Z,1\n2026-01-31T00:00:00Z,1\n"),
            "--time-column at: the rows span 24.0 hours, from 2026-01-31T00:00:00Z to 2026-01-31T23:59:59Z; an hour of the \
             week is known from rows of at least a day, better of two weeks"
        );
    }

    #[test]
    fn what_weakens_the_comparison_is_told() {
        let hours = |range: std::ops::Range<i64>| {
            let mut text = "at,x\n".to_owned();
            for hour in range {
                writeln!(text, "{},1", hour * 3600).expect("written");
            }
            text
        };
        let warnings = |text: &str| Times::read(&table(text), "at").expect("times").warnings();
        assert_eq!(warnings(&hours(0..14 * 24 + 1)), [""; 0]);
        // Thursday and Friday, and a row without a time.
        let few = warnings(&(hours(0..48) + ",1\n"));
        assert_eq!(
            few[0],
            "1 of 49 rows have no time: they count for no hour of the week"
        );
        assert!(few[1].starts_with("the rows span 2.0 days; with less than 14, "));
        assert!(
            few[2].starts_with("120 of 168 hours of the week have no rows, the first is Mon 00:00 UTC: "),
            "{few:?}"
        );
    }
}
