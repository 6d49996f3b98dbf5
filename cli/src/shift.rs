//! Changes to columns on the way out, so that traffic drifts: `--shift 'MonthlyCharges*=1.35@0.6'`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// One change to one column, for a share of the rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shift {
    column: String,
    change: Change,
    share: f64,
    written: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Change {
    /// `column=value`
    Set(String),
    /// `column=null`
    Clear,
    /// `column*=factor`
    Scale(f64),
    /// `column+=summand`, `column-=summand`
    Add(f64),
    /// `column~=from->to`
    Replace { from: String, to: String },
}

/// A shift that cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseShiftError {
    /// No operator.
    #[error(
        "expected COLUMN=VALUE, COLUMN=null, COLUMN*=NUMBER, COLUMN+=NUMBER, COLUMN-=NUMBER or COLUMN~=FROM->TO"
    )]
    NoOperator,
    /// Nothing before the operator.
    #[error("expected a column before `{operator}`")]
    NoColumn {
        /// The operator.
        operator: &'static str,
    },
    /// An operator that needs a number got something else.
    #[error("`{operator}` needs a finite number, got `{actual}`")]
    NotANumber {
        /// The operator.
        operator: &'static str,
        /// What was given.
        actual: String,
    },
    /// `~=` without an arrow.
    #[error("`~=` needs FROM->TO, got `{actual}`")]
    NoArrow {
        /// What was given.
        actual: String,
    },
    /// A share outside `(0, 1]`.
    #[error("a share is above 0 and at most 1, got {actual}")]
    ShareOutOfRange {
        /// What was given.
        actual: String,
    },
}

/// A shift that does not fit a cell.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("shift `{shift}` needs a number, got `{actual}`")]
pub(crate) struct ApplyShiftError {
    shift: String,
    actual: String,
}

impl Shift {
    /// Name of the column that it changes.
    pub(crate) fn column(&self) -> &str {
        &self.column
    }

    /// Share of the rows that it changes, in `(0, 1]`.
    pub(crate) fn share(&self) -> f64 {
        self.share
    }

    /// The cell after the change. A missing value stays missing under arithmetic.
    ///
    /// `whole`: the column's datatype holds whole numbers only, so a result is rounded to the nearest.
    pub(crate) fn apply<'a>(
        &'a self,
        cell: Cow<'a, str>,
        whole: bool,
    ) -> Result<Cow<'a, str>, ApplyShiftError> {
        let arithmetic = |cell: Cow<'a, str>, change: &dyn Fn(f64) -> f64| {
            if cell.is_empty() {
                return Ok(cell);
            }
            let error = |cell: Cow<'a, str>| ApplyShiftError {
                shift: self.written.clone(),
                actual: cell.into_owned(),
            };
            let Ok(number) = cell.parse::<f64>() else {
                return Err(error(cell));
            };
            let number = change(number);
            Ok(Cow::Owned(if whole {
                number.round().to_string()
            } else {
                number.to_string()
            }))
        };
        match &self.change {
            Change::Set(value) => Ok(Cow::Borrowed(value)),
            Change::Clear => Ok(Cow::Borrowed("")),
            Change::Scale(factor) => arithmetic(cell, &|x| x * factor),
            Change::Add(summand) => arithmetic(cell, &|x| x + summand),
            Change::Replace { from, to } => Ok(if *cell == **from { Cow::Borrowed(to) } else { cell }),
        }
    }
}

impl fmt::Display for Shift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl FromStr for Shift {
    type Err = ParseShiftError;

    fn from_str(written: &str) -> Result<Self, ParseShiftError> {
        let equals = written.find('=').ok_or(ParseShiftError::NoOperator)?;
        let (before, value) = (&written[..equals], &written[equals + 1..]);
        let operators = [("~=", '~'), ("*=", '*'), ("+=", '+'), ("-=", '-')];
        let compound = operators.into_iter().find(|(_, mark)| before.ends_with(*mark));
        let (operator, column) =
            compound.map_or(("=", before), |(operator, _)| (operator, &before[..equals - 1]));
        let column = column.trim();
        if column.is_empty() {
            return Err(ParseShiftError::NoColumn { operator });
        }
        let (value, share) = split_share(value.trim())?;
        let number = || {
            let finite = value.parse().ok().filter(|x: &f64| x.is_finite());
            finite.ok_or_else(|| ParseShiftError::NotANumber {
                operator,
                actual: value.to_owned(),
            })
        };
        let change = match operator {
            "*=" => Change::Scale(number()?),
            "+=" => Change::Add(number()?),
            "-=" => Change::Add(-number()?),
            "~=" => {
                let no_arrow = || ParseShiftError::NoArrow {
                    actual: value.to_owned(),
                };
                let (from, to) = value.split_once("->").ok_or_else(no_arrow)?;
                Change::Replace {
                    from: unquoted(from).to_owned(),
                    to: unquoted(to).to_owned(),
                }
            }
            _ if value == "null" => Change::Clear,
            _ => Change::Set(unquoted(value).to_owned()),
        };
        Ok(Self {
            column: column.to_owned(),
            change,
            share,
            written: written.to_owned(),
        })
    }
}

/// Splits `value@0.6`. An `@` that is not followed by a number belongs to the value, and so does one in quotation marks.
fn split_share(text: &str) -> Result<(&str, f64), ParseShiftError> {
    let Some((value, share)) = text.rsplit_once('@') else {
        return Ok((text, 1.0));
    };
    let Ok(number) = share.parse::<f64>() else {
        return Ok((text, 1.0));
    };
    if number > 0.0 && number <= 1.0 {
        Ok((value, number))
    } else {
        Err(ParseShiftError::ShareOutOfRange {
            actual: share.to_owned(),
        })
    }
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(shift: &str, cell: &str) -> String {
        let shift: Shift = shift.parse().expect("a shift");
        shift
            .apply(Cow::Borrowed(cell), false)
            .expect("fits")
            .into_owned()
    }

    fn problem(shift: &str) -> String {
        shift.parse::<Shift>().expect_err("not a shift").to_string()
    }

    #[test]
    fn each_operator_does_what_it_says() {
        assert_eq!(applied("Contract=Month-to-month", "Two year"), "Month-to-month");
        assert_eq!(applied("Contract=\"null\"", "Two year"), "null");
        assert_eq!(applied("Contract = \" padded \"", "Two year"), " padded ");
        assert_eq!(applied("Contract=null", "Two year"), "");
        assert_eq!(applied("MonthlyCharges*=1.5", "20"), "30");
        assert_eq!(applied("tenure+=12", "1"), "13");
        assert_eq!(applied("tenure-=12", "1"), "-11");
        assert_eq!(applied("Contract~=One year->Two year", "One year"), "Two year");
        assert_eq!(applied("Contract~=One year->Two year", "Other"), "Other");
        assert_eq!(applied("Contract~=One year->", "One year"), "");
    }

    #[test]
    fn arithmetic_leaves_missing_values_missing_and_whole_columns_whole() {
        assert_eq!(applied("tenure*=2", ""), "");
        let shift: Shift = "tenure*=1.35".parse().expect("a shift");
        assert_eq!(shift.apply(Cow::Borrowed("3"), true).expect("fits"), "4");
    }

    #[test]
    fn a_share_is_a_number_at_the_end() {
        let share = |text: &str| text.parse::<Shift>().expect("a shift").share();
        assert_eq!(share("tenure*=2@0.6"), 0.6);
        assert_eq!(share("tenure*=2"), 1.0);
        assert_eq!(share("mail=someone@example.org"), 1.0);
        assert_eq!(applied("Contract=Two year@0.25", "x"), "Two year");
        assert_eq!(applied("mail=\"a@0.5\"", "x"), "a@0.5");
        assert_eq!(
            problem("tenure*=2@1.5"),
            "a share is above 0 and at most 1, got 1.5"
        );
        assert_eq!(problem("tenure*=2@0"), "a share is above 0 and at most 1, got 0");
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        assert!(problem("tenure").starts_with("expected COLUMN=VALUE"));
        assert_eq!(problem("*=2"), "expected a column before `*=`");
        assert_eq!(
            problem("tenure*=twice"),
            "`*=` needs a finite number, got `twice`"
        );
        assert_eq!(problem("tenure*=inf"), "`*=` needs a finite number, got `inf`");
        assert_eq!(
            problem("Contract~=One year"),
            "`~=` needs FROM->TO, got `One year`"
        );
        let shift: Shift = "Contract*=2".parse().expect("a shift");
        let error = shift
            .apply(Cow::Borrowed("One year"), false)
            .expect_err("not a number");
        assert_eq!(
            error.to_string(),
            "shift `Contract*=2` needs a number, got `One year`"
        );
    }
}
