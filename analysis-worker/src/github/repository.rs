//! The name of a repository.

use plumbline_service::config::ParseSetting;

/// `OWNER/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repository {
    owner: String,
    name: String,
}

impl Repository {
    /// Reads `OWNER/NAME`; `None` when it cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        let (owner, name) = text.split_once('/')?;
        let plain = |text: &str, also: &[char]| {
            !text.is_empty()
                && text.len() <= 100
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || also.contains(&c))
        };
        let usable =
            plain(owner, &['-', '_']) && plain(name, &['-', '_', '.']) && name != "." && name != "..";
        usable.then(|| Self {
            owner: owner.to_owned(),
            name: name.to_owned(),
        })
    }

    /// `/repos/OWNER/NAME` with `rest` after it.
    pub(super) fn path(&self, rest: &str) -> String {
        format!("/repos/{}/{}{rest}", self.owner, self.name)
    }
}

impl std::fmt::Display for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

impl ParseSetting for Repository {
    fn parse_setting(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| "expected OWNER/NAME such as acme/churn".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::Repository;

    #[test]
    fn only_names_that_github_has_are_taken() {
        let repository = Repository::parse("acme-org/churn_v2.model").expect("a name");
        assert_eq!(repository.to_string(), "acme-org/churn_v2.model");
        assert_eq!(
            repository.path("/issues"),
            "/repos/acme-org/churn_v2.model/issues"
        );
        for text in [
            "acme", "acme/", "/churn", "acme/..", "acme/a/b", "acme/a?b", "ac me/a", "",
        ] {
            assert_eq!(Repository::parse(text), None, "{text}");
        }
    }
}
