//! A comparison of the rows seen with the reference, as the analysis, the report and the plots need it.

mod convert;

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// One comparison of a model's detection window with its reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Name of the model.
    pub model: String,
    /// Its version.
    pub version: String,
    /// The segment whose rows alone were compared; none for all rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// The worst state among the subjects.
    pub state: State,
    /// Id of the episode; the same in its detected and recovered events.
    pub episode: Option<String>,
    /// When the episode began, RFC 3339, UTC.
    pub started_at: Option<String>,
    /// When the comparison was made, RFC 3339, UTC.
    pub at: Option<String>,
    /// Rows in the detection window.
    pub rows: u64,
    /// Rows in the reference.
    pub reference_rows: u64,
    /// Features and outputs, most affected first.
    pub subjects: Vec<DriftSubject>,
}

/// Whether something drifts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As in the reference.
    Stable,
    /// Evidence of a small change.
    Warning,
    /// Evidence of a change that matters.
    Drift,
}

impl State {
    /// As JSON spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Warning => "warning",
            Self::Drift => "drift",
        }
    }
}

/// One feature or output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftSubject {
    /// Its name in the profile.
    pub name: String,
    /// Whether it goes into the model or comes out.
    pub role: Role,
    /// Whether it drifts.
    pub state: State,
    /// Population stability index against the reference.
    pub psi: Option<f64>,
    /// The same without the part that sampling alone explains.
    pub effect: Option<f64>,
    /// Kolmogorov–Smirnov statistic.
    pub ks: Option<f64>,
    /// Jensen–Shannon divergence.
    pub js: Option<f64>,
    /// Of the chi-square test.
    pub p_value: Option<f64>,
    /// Its share of the effect of all subjects, weighted by importance, in `[0, 1]`.
    pub contribution: Option<f64>,
    /// Importance for the model, relative to the mean feature.
    pub weight: Option<f64>,
    /// Mean in the reference.
    pub reference_mean: Option<f64>,
    /// Mean now.
    pub mean: Option<f64>,
    /// Share of rows without a value, in the reference.
    pub reference_missing: f64,
    /// Share of rows without a value, now.
    pub missing: f64,
    /// Share of rows with a value that the reference never had: a new category, or out of its range.
    pub unseen: f64,
    /// The sequential test of the change; none where nobody made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Test>,
    /// Bins or categories.
    pub bins: Vec<Bin>,
    /// Id of the fact that tells all this.
    #[serde(default)]
    pub evidence: String,
}

/// What the sequential test of a subject says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Test {
    /// Decimal logarithm of the e-value: the evidence of a change.
    pub log10: f64,
    /// Whether it passes the gate of the false-alarm budget.
    pub sufficient: bool,
    /// False when successive values depend on each other: then windows in a row decide.
    pub calibrated: bool,
}

/// Whether a subject goes into the model or comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// An input.
    Feature,
    /// An output.
    Output,
}

/// One bin or category with its shares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// A category, or a range such as `18.2 to 20.1`.
    pub label: String,
    /// Share in the reference, in `[0, 1]`.
    pub reference: f64,
    /// Share now, in `[0, 1]`.
    pub now: f64,
}

impl DriftSubject {
    /// What to rank by: the effect where it is known, the plain index otherwise.
    pub fn strength(&self) -> f64 {
        self.effect.or(self.psi).unwrap_or(0.0)
    }

    /// Bins whose share changed most, at most `count`, largest change first.
    pub fn moved(&self, count: usize) -> Vec<&Bin> {
        let mut bins: Vec<&Bin> = self.bins.iter().collect();
        bins.sort_by(|a, b| {
            (b.now - b.reference)
                .abs()
                .total_cmp(&(a.now - a.reference).abs())
        });
        bins.retain(|bin| (bin.now - bin.reference).abs() >= 0.005);
        bins.truncate(count);
        bins
    }

    /// The subject in a few lines with its numbers: the content of its fact.
    pub(crate) fn describe(&self) -> String {
        let mut lines = vec![format!(
            "{} `{}`: {}",
            match self.role {
                Role::Feature => "feature",
                Role::Output => "output",
            },
            self.name,
            self.state.as_str()
        )];
        let figures: Vec<String> = [
            ("psi", self.psi),
            ("effect", self.effect),
            ("ks", self.ks),
            ("js", self.js),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", number(value?))))
        .chain(self.p_value.map(|p| format!("chi-square p={p:.1e}")))
        .collect();
        if !figures.is_empty() {
            lines.push(figures.join(" "));
        }
        if let (Some(reference), Some(mean)) = (self.reference_mean, self.mean) {
            lines.push(format!(
                "mean: {} in the reference, {} now",
                number(reference),
                number(mean)
            ));
        }
        if self.missing > 0.0 || self.reference_missing > 0.0 {
            lines.push(format!(
                "missing: {} in the reference, {} now",
                percent(self.reference_missing),
                percent(self.missing)
            ));
        }
        if self.unseen > 0.0 {
            lines.push(format!(
                "never seen in the reference: {} now",
                percent(self.unseen)
            ));
        }
        for bin in self.moved(5) {
            lines.push(format!(
                "share of {}: {} in the reference, {} now",
                bin.label,
                percent(bin.reference),
                percent(bin.now)
            ));
        }
        if let Some(contribution) = self.contribution {
            let weight = self.weight.filter(|weight| *weight != 1.0);
            let weight = weight.map_or_else(String::new, |weight| {
                format!(
                    "; {} times as important to the model as the mean feature",
                    number(weight)
                )
            });
            lines.push(format!(
                "contributes {} of the whole effect{weight}",
                percent(contribution)
            ));
        }
        lines.join("\n")
    }
}

impl Drift {
    /// Subjects that drift or warn; of a stable comparison none.
    pub fn affected(&self) -> impl Iterator<Item = &DriftSubject> {
        self.subjects
            .iter()
            .filter(|subject| subject.state > State::Stable)
    }

    /// `, segment NAME` where only a segment was compared, for after the model's name.
    pub(crate) fn of_segment(&self) -> String {
        let segment = self.segment.as_ref();
        segment.map_or_else(String::new, |segment| format!(", segment {segment}"))
    }

    /// Worst first: by state, then by contribution, then by strength.
    pub(crate) fn rank(&mut self) {
        let share = |subject: &DriftSubject| subject.contribution.unwrap_or(0.0);
        self.subjects.sort_by(|a, b| {
            let by_share = || share(b).total_cmp(&share(a));
            let by_strength = || b.strength().total_cmp(&a.strength());
            b.state.cmp(&a.state).then_with(by_share).then_with(by_strength)
        });
    }

    /// The comparison in a few lines: the content of its fact.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!(
            "model `{}` version {}{}: {}\n{} rows compared with {} of the reference\n",
            self.model,
            self.version,
            self.of_segment(),
            self.state.as_str(),
            self.rows,
            self.reference_rows
        );
        if let Some(started) = &self.started_at {
            let _ = writeln!(text, "episode since {started}");
        }
        let of = |role: Role| {
            let all = self.subjects.iter().filter(|subject| subject.role == role);
            let affected = all.clone().filter(|subject| subject.state > State::Stable);
            (affected.count(), all.count())
        };
        let ((features, all_features), (outputs, all_outputs)) = (of(Role::Feature), of(Role::Output));
        let _ = write!(
            text,
            "{features} of {all_features} features and {outputs} of {all_outputs} outputs changed"
        );
        text
    }
}

/// Four significant digits, plain where that is readable.
pub(crate) fn number(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if !(1e-3..1e6).contains(&magnitude) {
        format!("{value:.2e}")
    } else {
        let digits = (3 - magnitude.log10().floor() as i32).max(0) as usize;
        let text = format!("{value:.digits$}");
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        }
    }
}

/// A confidence as a whole percentage: more digits would claim more than it knows.
pub(crate) fn whole_percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A share as a percentage with one digit.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A comparison in which contracts moved to month-to-month.
    pub(crate) fn contract_shift() -> Drift {
        let subject = |name: &str, state, psi, contribution| DriftSubject {
            name: name.to_owned(),
            role: Role::Feature,
            state,
            psi: Some(psi),
            effect: Some(psi - 0.01),
            ks: None,
            js: None,
            p_value: Some(1e-9),
            contribution: Some(contribution),
            weight: Some(2.0),
            reference_mean: None,
            mean: None,
            reference_missing: 0.0,
            missing: 0.0,
            unseen: 0.0,
            test: None,
            bins: Vec::new(),
            evidence: String::new(),
        };
        let bin = |label: &str, reference, now| Bin {
            label: label.to_owned(),
            reference,
            now,
        };
        let mut contract = subject("Contract", State::Drift, 0.84, 0.8);
        contract.bins = vec![
            bin("Month-to-month", 0.55, 0.91),
            bin("One year", 0.21, 0.05),
            bin("Two year", 0.24, 0.04),
        ];
        let mut charges = subject("MonthlyCharges", State::Warning, 0.12, 0.2);
        (charges.reference_mean, charges.mean) = (Some(64.76), Some(81.2));
        let mut label = subject("output_label", State::Drift, 0.3, 0.0);
        (label.role, label.contribution, label.weight) = (Role::Output, None, None);
        label.bins = vec![bin("No", 0.73, 0.49), bin("Yes", 0.27, 0.51)];
        Drift {
            model: "churn".to_owned(),
            version: "1".to_owned(),
            segment: None,
            state: State::Drift,
            episode: Some("ep-1".to_owned()),
            started_at: Some("2026-11-22T22:00:00Z".to_owned()),
            at: Some("2026-11-22T22:05:00Z".to_owned()),
            rows: 2_048,
            reference_rows: 5_634,
            subjects: vec![
                charges,
                label,
                subject("tenure", State::Stable, 0.01, 0.0),
                contract,
            ],
        }
    }

    #[test]
    fn subjects_are_ranked_by_state_then_by_weighted_strength() {
        let mut drift = contract_shift();
        drift.rank();
        let names: Vec<&str> = drift.subjects.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["Contract", "output_label", "MonthlyCharges", "tenure"]);
        assert_eq!(drift.affected().count(), 3);
    }

    #[test]
    fn a_subject_tells_its_numbers() {
        let drift = contract_shift();
        let text = drift.subjects[3].describe();
        assert!(
            text.contains("psi=0.84 effect=0.83 chi-square p=1.0e-9"),
            "{text}"
        );
        assert!(
            text.contains("share of Month-to-month: 55.0 % in the reference, 91.0 % now"),
            "{text}"
        );
        assert!(
            drift.subjects[0]
                .describe()
                .contains("mean: 64.76 in the reference, 81.2 now")
        );
        assert!(
            drift
                .describe()
                .contains("2 of 3 features and 1 of 1 outputs changed"),
            "{}",
            drift.describe()
        );
    }

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [
            (0.0, "0"),
            (0.12345, "0.1235"),
            (64.7617, "64.76"),
            (123_456.7, "123457"),
            (1e-9, "1.00e-9"),
            (1200.0, "1200"),
        ] {
            assert_eq!(number(value), expected);
        }
    }
}
