//! Compares a profile with the rows that it was made from, as the sidecar would see them.

use plumbline_drift::profile::Profile;
use plumbline_drift::report::DriftReport;
use plumbline_drift::segments::Segments;
use plumbline_drift::{Monitor, Settings};

use super::season::Times;
use crate::column::{Column, Value};
use crate::table::Table;

/// Serves the rows to a monitor of their own profile.
///
/// All of them together must be the reference, bin by bin: anything else would be drift that no traffic can avoid. In
/// windows, in the order of the file, they should raise nothing; when they do, the rows change within the file, and that is
/// returned as a text. With `times` the windows are compared hour by hour, without the rows that have none. `columns`: one for
/// each subject.
///
/// # Errors
/// A bin that holds other rows than the profile says.
pub(super) fn check(
    profile: &Profile,
    columns: &[Column],
    table: &Table,
    times: Option<&Times>,
) -> anyhow::Result<Option<String>> {
    let rows = rows(columns, table)?;
    let settings = Settings {
        window_rows: (table.len() as u64).max(20),
        min_rows: 20,
        ..Settings::default()
    };
    // With a season, the reference is that of the window's hours.
    let mut of_all = profile.clone();
    of_all.seasonality = None;
    let segments = of_all.segments.iter_mut();
    for part in segments.flat_map(|segments| &mut segments.parts) {
        part.seasonality = None;
    }
    let mut whole = Monitor::new(&of_all, settings, 0)?;
    for row in 0..table.len() {
        observe(&mut whole, &rows, row);
    }
    let report = whole.close_window(0);
    holds(&report, "")?;
    anyhow::ensure!(
        report.state.level() == 0,
        "the profile raises an alarm on its own rows: {}",
        worst(&report)
    );

    check_segments(&of_all, &rows, settings)?;

    let settings = Settings::default();
    let mut windows = Monitor::new(profile, settings, 0)?;
    let of_row = |row: usize| times.map_or(Some(0), |times| times.unix_ms()[row]);
    let timed: Vec<(usize, i64)> = (0..table.len())
        .filter_map(|row| Some((row, of_row(row)?)))
        .collect();
    for window in timed.chunks_exact(settings.window_rows as usize) {
        let mut last = 0;
        for (row, time) in window {
            windows.set_time(*time);
            observe(&mut windows, &rows, *row);
            last = *time;
        }
        let report = windows.close_window(last);
        if report.state.level() > 0 {
            let (first, last) = (window[0].0 + 1, window[window.len() - 1].0 + 1);
            let (others, unless) = match times {
                Some(_) => ("those of the same hours", ""),
                None => (
                    "all of them",
                    ", unless it is with the hour of the week and --time-column tells the time",
                ),
            };
            return Ok(Some(format!(
                "rows {first} to {last} of the file differ from {others}: {}; where rows change like this with time, live \
                 ones will raise alarms{unless}",
                worst(&report)
            )));
        }
    }
    Ok(None)
}

/// That all rows are the reference; `of`: which of them, for the text.
fn holds(report: &DriftReport, of: &str) -> anyhow::Result<()> {
    for subject in &report.subjects {
        if let Some(bin) = subject.bins.iter().find(|bin| bin.window != bin.reference) {
            anyhow::bail!(
                "the profile does not hold for its own rows{of}: `{}`, bin `{}`: {} rows in the profile, {} as the sidecar \
                 would see them; give the column another --kind, or leave it out with --exclude",
                subject.name,
                bin.name,
                bin.reference,
                bin.window
            );
        }
    }
    Ok(())
}

/// The same of the rows that the sidecar would take for those of each segment.
fn check_segments(profile: &Profile, rows: &[Vec<Value<'_>>], settings: Settings) -> anyhow::Result<()> {
    let Some(mut segments) = Segments::new(profile, settings, 0)? else {
        return Ok(());
    };
    let mut features = profile.features.iter();
    let feature = features.position(|subject| subject.name == segments.feature());
    let feature = feature.expect("a feature, as validated");
    for (row, value) in rows[feature].iter().enumerate() {
        let segment = match *value {
            Value::Missing => segments.of_text(b""),
            Value::Number(number) => segments.of_number(number),
            Value::Integer(integer) => segments.of_number(integer as f64),
            Value::Truth(truth) => segments.of_boolean(truth),
            Value::Text(text) => segments.of_text(text.as_bytes()),
        };
        if let Some(monitor) = segment.and_then(|segment| segments.monitor_mut(segment)) {
            observe(monitor, rows, row);
        }
    }
    let names: Vec<String> = segments.names().map(str::to_owned).collect();
    for (segment, name) in names.iter().enumerate() {
        if let Some(monitor) = segments.monitor_mut(segment) {
            holds(&monitor.report(0), &format!(" of segment `{name}`"))?;
        }
    }
    Ok(())
}

/// Values by subject, then by row.
fn rows<'a>(columns: &'a [Column], table: &'a Table) -> anyhow::Result<Vec<Vec<Value<'a>>>> {
    let values = columns
        .iter()
        .map(|column| column.values(table).collect::<Result<Vec<_>, _>>());
    Ok(values.collect::<Result<_, _>>()?)
}

fn observe(monitor: &mut Monitor, rows: &[Vec<Value<'_>>], row: usize) {
    for (subject, values) in rows.iter().enumerate() {
        match values[row] {
            Value::Missing => monitor.observe_missing(subject),
            Value::Number(number) => monitor.observe_number(subject, number),
            Value::Integer(integer) => monitor.observe_integer(subject, integer),
            Value::Truth(truth) => monitor.observe_boolean(subject, truth),
            Value::Text(text) => monitor.observe_text(subject, text.as_bytes()),
        }
    }
    // Windows are closed by their rows, here.
    let _full = monitor.end_row();
}

/// The subject that contributes most, with its effect.
fn worst(report: &DriftReport) -> String {
    report.ranking.first().map_or_else(
        || "no subject".to_owned(),
        |first| {
            format!(
                "`{}` by {:.2} on the scale of the PSI",
                first.subject, first.effect
            )
        },
    )
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use plumbline_drift::profile::Profile;

    use super::check;
    use crate::profile::tests::args;
    use crate::profile::{Described, subjects, times};
    use crate::table::tests::table;

    fn checked(text: &str, arguments: &[&str]) -> anyhow::Result<Option<String>> {
        let (table, args) = (table(text), args(arguments));
        let times = times(&args, &table)?;
        let Described {
            features,
            outputs,
            columns,
            seasonality,
        } = subjects(&args, &table, times.as_ref())?;
        let example = include_bytes!("../../../crates/drift/schema/example.profile.json");
        let mut profile = Profile::from_json(example).expect("valid");
        profile.data.rows = table.len() as u64;
        (profile.features, profile.outputs) = (features, outputs);
        (profile.importances, profile.calibration) = (None, None);
        profile.seasonality = seasonality;
        check(&profile, &columns, &table, times.as_ref())
    }

    /// Every kind and datatype, with missing values; `number` from the row's number.
    fn rows(count: usize, number: impl Fn(usize) -> usize) -> String {
        let mut text = "number,code,flag,plan,note,p\n".to_owned();
        for i in 0..count {
            let plan = ["free", "home", "", "work"][i * 7 % 4];
            let flag = ["true", "false", "true", ""][i * 5 % 4];
            writeln!(
                text,
                "{},{},{flag},{plan},note {i},{}",
                number(i),
                i % 3,
                (i * 37 % 100) as f64 / 100.0
            )
            .expect("written");
        }
        text
    }

    const KINDS: [&str; 4] = [
        "--kind=code=categorical",
        "--kind=flag=boolean",
        "--output-columns=p",
        "--datatype=number=INT32",
    ];

    #[test]
    fn a_profile_compared_with_its_own_rows_raises_nothing() {
        for count in [1, 30, 700, 3_000] {
            let mixed = rows(count, |i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54);
            assert_eq!(checked(&mixed, &KINDS).expect("it holds"), None, "{count}");
        }
    }

    #[test]
    fn rows_that_change_within_the_file_are_told_with_the_place() {
        let changing = rows(3_000, |i| {
            i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54 << (i / 1_500)
        });
        let warning = checked(&changing, &KINDS).expect("it holds").expect("a warning");
        assert!(warning.starts_with("rows "), "{warning}");
        assert!(
            warning.contains("of the file differ from all of them: `number` by "),
            "{warning}"
        );
    }

    #[test]
    fn a_cycle_within_the_file_is_told_unless_the_profile_knows_it() {
        let mut text = "at,load\n".to_owned();
        let mut random = fastrand::Rng::with_seed(3);
        for row in 0..14 * 24 * 90 {
            let hour = row / 90 % 24;
            let load = if (8..20).contains(&hour) { 3.0 } else { 0.0 } + random.f64();
            writeln!(text, "{},{load}", row * 40).expect("written");
        }
        let warning = checked(&text, &["--exclude=at"]).expect("it holds");
        let warning = warning.expect("a window is a part of a day");
        assert!(warning.ends_with("--time-column tells the time"), "{warning}");
        let quiet = checked(&text, &["--time-column=at"]).expect("it holds");
        assert_eq!(quiet, None);
    }

    #[test]
    fn numbers_that_name_too_many_classes_are_refused() {
        let text = rows(1_000, |i| i);
        let refused = checked(&text, &["--kind=number=categorical"]).expect_err("refused");
        assert!(
            refused
                .to_string()
                .starts_with("the profile does not hold for its own rows: `number`, bin `"),
            "{refused}"
        );
    }
}
