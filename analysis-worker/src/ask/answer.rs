//! What Prometheus said, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::Choice;
use super::catalog::{Unit, promql_duration};
use crate::prometheus::Series;
use crate::signal::rfc3339;
use crate::text::{one_line, sanitise};

/// Most series that are shown.
const MAX_SERIES: usize = 20;

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Answer {
    /// Which measurement: its name in the catalogue.
    pub(crate) measurement: &'static str,
    /// What was measured, of what, over which time.
    pub(crate) title: String,
    /// RFC 3339, UTC.
    pub(crate) at: String,
    /// The expression that Prometheus was asked.
    pub(crate) query: String,
    /// One for each series that has a value, largest first.
    pub(crate) values: Vec<Figure>,
    /// Series beyond those.
    pub(crate) left_out: usize,
}

/// One series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    /// `churn, version 2`.
    pub(crate) of: String,
    pub(crate) value: f64,
    /// With its unit.
    pub(crate) shown: String,
}

impl Answer {
    pub(super) fn new(choice: &Choice, expression: String, at: i64, series: &[Series]) -> Self {
        let unit = choice.query.unit();
        let mut values: Vec<Figure> = series
            .iter()
            .filter_map(|series| {
                let value = series.number()?;
                let (of, shown) = (of(series), shown(value, unit));
                Some(Figure { of, value, shown })
            })
            .collect();
        values.sort_by(|a, b| b.value.total_cmp(&a.value).then_with(|| a.of.cmp(&b.of)));
        let left_out = values.len().saturating_sub(MAX_SERIES);
        values.truncate(MAX_SERIES);
        Self {
            measurement: choice.query.name(),
            title: title(choice),
            at: rfc3339(at),
            query: expression,
            values,
            left_out,
        }
    }

    /// As Markdown, which Slack and terminals read as well.
    pub(crate) fn markdown(&self) -> String {
        let mut text = match &self.values[..] {
            [] => format!("{}: no value at {}.\n", capital(&self.title), self.at),
            [only] if only.of.is_empty() => {
                format!("{}: {} at {}.\n", capital(&self.title), only.shown, self.at)
            }
            [only] => format!(
                "{}: {} ({}) at {}.\n",
                capital(&self.title),
                only.shown,
                only.of,
                self.at
            ),
            _ => format!("{} at {}:\n\n", capital(&self.title), self.at),
        };
        if self.values.len() > 1 {
            for value in &self.values {
                let _ = writeln!(text, "- {}: {}", value.of, value.shown);
            }
        }
        if self.left_out > 0 {
            let _ = writeln!(text, "- {} more series left out", self.left_out);
        }
        let _ = write!(text, "\nQuery: `{}`\n", self.query.replace('`', "'"));
        text
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}

fn title(choice: &Choice) -> String {
    let mut title = String::new();
    if choice.query.has_quantile() {
        let percent = format!("{:.2}", choice.quantile * 100.0);
        let _ = write!(
            title,
            "p{} of the ",
            percent.trim_end_matches('0').trim_end_matches('.')
        );
    }
    title.push_str(choice.query.title());
    match &choice.model {
        Some(model) => {
            let _ = write!(title, " of {}", name(model));
        }
        None => title.push_str(", all models"),
    }
    if let Some(version) = &choice.version {
        let _ = write!(title, ", version {}", name(version));
    }
    if choice.query.has_window() {
        let _ = write!(title, ", over {}", promql_duration(choice.window));
    }
    title
}

/// Labels come from outside.
fn name(text: &str) -> String {
    one_line(&sanitise(text), 100).replace(['`', '*', '<', '>', '@', '[', ']', '|'], "'")
}

fn of(series: &Series) -> String {
    let labels: Vec<String> = series
        .metric
        .iter()
        .map(|(label, value)| match label.as_str() {
            "model" => name(value),
            _ => format!("{} {}", name(label), name(value)),
        })
        .collect();
    labels.join(", ")
}

fn shown(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Seconds if value.abs() < 1e-3 => format!("{:.0} µs", value * 1e6),
        Unit::Seconds if value.abs() < 1.0 => format!("{} ms", figures(value * 1e3)),
        Unit::Seconds => format!("{} s", figures(value)),
        Unit::PerSecond => format!("{} a second", figures(value)),
        Unit::Share => format!("{} %", figures(value * 100.0)),
        Unit::Count => format!("{value:.0}"),
        Unit::DriftState => match value {
            v if v >= 2.0 => "drift".to_owned(),
            v if v >= 1.0 => "warning".to_owned(),
            _ => "stable".to_owned(),
        },
        Unit::Bytes if value.abs() < f64::from(1 << 30) => format!("{:.0} MiB", value / f64::from(1 << 20)),
        Unit::Bytes => format!("{:.2} GiB", value / f64::from(1 << 30)),
        Unit::Cores => format!("{} cores", figures(value)),
        Unit::Plain => figures(value),
    }
}

/// Three significant digits.
fn figures(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = (2.0 - value.abs().log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ask::catalog::Query;

    fn choice(query: Query) -> Choice {
        Choice {
            query,
            model: Some("churn".to_owned()),
            version: None,
            quantile: 0.95,
            window: Duration::from_mins(5),
            ago: Duration::ZERO,
        }
    }

    fn sample(labels: &[(&str, &str)], value: f64) -> Series {
        Series {
            metric: labels
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect(),
            values: Vec::new(),
            value: Some((0.0, value.to_string())),
        }
    }

    #[test]
    fn one_value_is_a_sentence_and_several_are_a_list() {
        let one = vec![sample(&[("model", "churn"), ("version", "2")], 0.012_345)];
        let answer = Answer::new(&choice(Query::Latency), "q".to_owned(), 0, &one);
        assert_eq!(
            answer.markdown(),
            "P95 of the latency of churn, over 5m: 12.3 ms (churn, version 2) at 1970-01-01T00:00:00Z.\n\nQuery: `q`\n"
        );
        let states = vec![
            sample(&[("model", "churn"), ("subject", "age")], 1.0),
            sample(&[("model", "churn"), ("subject", "tenure")], 2.0),
        ];
        let answer = Answer::new(&choice(Query::DriftState), "q".to_owned(), 0, &states);
        assert!(
            answer
                .markdown()
                .contains(":\n\n- churn, subject tenure: drift\n- churn, subject age: warning\n"),
            "{}",
            answer.markdown()
        );
    }

    #[test]
    fn no_value_is_said_and_many_are_cut() {
        let nothing = Answer::new(
            &choice(Query::Accuracy),
            "q".to_owned(),
            0,
            &[sample(&[], f64::NAN)],
        );
        assert!(
            nothing.markdown().contains("no value at"),
            "{}",
            nothing.markdown()
        );
        let many: Vec<Series> = (0..30)
            .map(|n| sample(&[("feature", &n.to_string())], f64::from(n)))
            .collect();
        let answer = Answer::new(&choice(Query::Missing), "q".to_owned(), 0, &many);
        assert!(answer.markdown().contains("- 10 more series left out"));
    }

    #[test]
    fn labels_cannot_mention_or_link() {
        let hostile = vec![
            sample(&[("feature", "<!channel> @here [x](http://e)")], 0.5),
            sample(&[("feature", "b")], 0.4),
        ];
        let text = Answer::new(&choice(Query::Missing), "q".to_owned(), 0, &hostile).markdown();
        assert!(!text.contains(['<', '@', '[']), "{text}");
    }

    #[test]
    fn values_have_three_figures_and_a_unit() {
        let cases = [
            (0.000_25, Unit::Seconds, "250 µs"),
            (0.25, Unit::Seconds, "250 ms"),
            (2.5, Unit::Seconds, "2.50 s"),
            (0.0123, Unit::Share, "1.23 %"),
            (1234.5, Unit::PerSecond, "1234 a second"),
            (3.0 * f64::from(1 << 30), Unit::Bytes, "3.00 GiB"),
            (0.0, Unit::Plain, "0"),
        ];
        for (value, unit, expected) in cases {
            assert_eq!(shown(value, unit), expected);
        }
    }
}
