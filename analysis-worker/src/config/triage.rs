//! Whom a kind of failure concerns.

use plumbline_service::config::{ParseSetting, Reader, Setting};

use crate::report::FailureType;

/// Settings of comments on failed pipelines.
pub(super) const LABEL: Setting = Setting::repeated(
    "triage_label",
    "TYPE=LABEL",
    "Label that a pull request gets for a type of failure, such as security_sca=dependencies.",
);
pub(super) const MENTION: Setting = Setting::repeated(
    "triage_mention",
    "TYPE=@TEAM",
    "Person or team that is mentioned for a type of failure, such as secret=@acme/security.",
);

/// Whom a kind of failure concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TriageConfig {
    labels: Vec<(FailureType, String)>,
    mentions: Vec<(FailureType, String)>,
}

impl TriageConfig {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let labels: Vec<Labelled> = reader.list("triage_label");
        let mentions: Vec<Mentioned> = reader.list("triage_mention");
        Self {
            labels: labels
                .into_iter()
                .map(|Labelled(kind, label)| (kind, label))
                .collect(),
            mentions: mentions
                .into_iter()
                .map(|Mentioned(kind, whom)| (kind, whom))
                .collect(),
        }
    }

    /// The labels of a kind.
    pub(crate) fn labels(&self, kind: FailureType) -> Vec<String> {
        of(&self.labels, kind)
    }

    /// Whom to mention for a kind.
    pub(crate) fn mentions(&self, kind: FailureType) -> Vec<String> {
        of(&self.mentions, kind)
    }
}

fn of(table: &[(FailureType, String)], kind: FailureType) -> Vec<String> {
    let rows = table.iter().filter(|(of, _)| *of == kind);
    rows.map(|(_, value)| value.clone()).collect()
}

struct Labelled(FailureType, String);

impl ParseSetting for Labelled {
    fn parse_setting(text: &str) -> Result<Self, String> {
        let (kind, label) = text
            .split_once('=')
            .filter(|(_, label)| !label.trim().is_empty() && label.chars().count() <= 50)
            .ok_or("expected TYPE=LABEL, the label of 1 to 50 characters")?;
        Ok(Self(FailureType::parse_setting(kind)?, label.trim().to_owned()))
    }
}

struct Mentioned(FailureType, String);

impl ParseSetting for Mentioned {
    fn parse_setting(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        let (kind, whom) = text
            .split_once('=')
            .filter(|(_, whom)| {
                whom.strip_prefix('@')
                    .is_some_and(|name| !name.is_empty() && name.chars().all(plain))
            })
            .ok_or("expected TYPE=@NAME or TYPE=@ORGANISATION/TEAM")?;
        Ok(Self(FailureType::parse_setting(kind)?, whom.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_types_labels_and_names_are_taken() {
        assert!(Labelled::parse_setting("security_sca=dependencies").is_ok());
        assert!(Mentioned::parse_setting("secret=@acme/security").is_ok());
        for wrong in [
            "secret=acme",
            "secret=@a b",
            "secret=@",
            "leak=@acme/security",
            "@acme",
        ] {
            assert!(Mentioned::parse_setting(wrong).is_err(), "{wrong}");
        }
        let error = Labelled::parse_setting("leak=x").err().expect("no such type");
        assert!(error.starts_with("expected one of lint, test"), "{error}");
        assert!(Labelled::parse_setting("secret=").is_err());
    }
}
