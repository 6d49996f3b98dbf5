//! Which versions of a model are served.

use std::num::NonZeroUsize;

use plumbline_service::config::ParseSetting;
use serde::Deserialize;

/// Triton's three policies, under its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionPolicy {
    /// The highest numbers, this many.
    Latest(NonZeroUsize),
    /// Every version there is.
    All,
    /// These.
    Specific(Vec<u64>),
}

impl Default for VersionPolicy {
    fn default() -> VersionPolicy {
        VersionPolicy::Latest(NonZeroUsize::MIN)
    }
}

impl VersionPolicy {
    /// The versions to serve out of those that are there, the highest first.
    pub(super) fn choose(&self, available: &[u64]) -> Vec<u64> {
        let mut chosen = self.candidates(available);
        chosen.truncate(self.limit());
        chosen
    }

    /// The versions that may be served, the highest first: where one of them cannot be, the next takes its place.
    pub(super) fn candidates(&self, available: &[u64]) -> Vec<u64> {
        let allowed = |version: &u64| match self {
            VersionPolicy::Latest(_) | VersionPolicy::All => true,
            VersionPolicy::Specific(versions) => versions.contains(version),
        };
        let mut candidates: Vec<u64> = available.iter().copied().filter(allowed).collect();
        candidates.sort_unstable_by(|a, b| b.cmp(a));
        candidates.dedup();
        candidates
    }

    /// How many versions are served at most.
    pub(super) fn limit(&self) -> usize {
        match self {
            VersionPolicy::Latest(count) => count.get(),
            VersionPolicy::All | VersionPolicy::Specific(_) => usize::MAX,
        }
    }

    /// Versions that are asked for by number and are not there.
    pub(super) fn missing(&self, available: &[u64]) -> Vec<u64> {
        match self {
            VersionPolicy::Latest(_) | VersionPolicy::All => Vec::new(),
            VersionPolicy::Specific(versions) => {
                let is_missing = |version: &&u64| !available.contains(version);
                versions.iter().filter(is_missing).copied().collect()
            }
        }
    }
}

const EXPECTED: &str = "expected latest:N, all or specific:N,N";

/// `latest:2`, `all`, `specific:1,3`.
impl ParseSetting for VersionPolicy {
    fn parse_setting(text: &str) -> Result<Self, String> {
        let expected = || EXPECTED.to_owned();
        let (kind, numbers) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "all" if numbers.is_empty() => Ok(VersionPolicy::All),
            "latest" => numbers.parse().map(VersionPolicy::Latest).map_err(|_| expected()),
            "specific" => numbers
                .split(',')
                .map(|number| number.trim().parse())
                .collect::<Result<_, _>>()
                .map(VersionPolicy::Specific)
                .map_err(|_| expected()),
            _ => Err(expected()),
        }
    }
}

/// In `model.toml`: `"all"`, `{ latest = 2 }`, `{ specific = [1, 3] }`, or the text of the setting.
impl<'de> Deserialize<'de> for VersionPolicy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Latest(Latest),
            Specific(Specific),
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Latest {
            latest: NonZeroUsize,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Specific {
            specific: Vec<u64>,
        }
        let problem = || {
            serde::de::Error::custom(
                "version_policy: expected \"all\", { latest = N } or { specific = [N, …] }",
            )
        };
        match Form::deserialize(deserializer).map_err(|_| problem())? {
            Form::Text(text) => VersionPolicy::parse_setting(&text).map_err(|_| problem()),
            Form::Latest(Latest { latest }) => Ok(VersionPolicy::Latest(latest)),
            Form::Specific(Specific { specific }) if specific.is_empty() => Err(problem()),
            Form::Specific(Specific { specific }) => Ok(VersionPolicy::Specific(specific)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> VersionPolicy {
        VersionPolicy::parse_setting(text).unwrap()
    }

    #[test]
    fn each_policy_chooses_its_versions() {
        let available = [1, 12, 3];
        assert_eq!(VersionPolicy::default().choose(&available), [12]);
        assert_eq!(policy("latest:2").choose(&available), [12, 3]);
        assert_eq!(policy("latest:9").choose(&available), [12, 3, 1]);
        assert_eq!(policy("all").choose(&available), [12, 3, 1]);
        assert_eq!(policy("specific:1,3,7").choose(&available), [3, 1]);
        assert_eq!(policy("specific:1,3,7").missing(&available), [7]);
        // A version that cannot be served leaves its place to the next.
        assert_eq!(policy("latest:1").candidates(&available), [12, 3, 1]);
        for bad in [
            "",
            "latest",
            "latest:0",
            "all:1",
            "specific:",
            "specific:a",
            "newest",
        ] {
            assert_eq!(
                VersionPolicy::parse_setting(bad),
                Err(EXPECTED.to_owned()),
                "{bad}"
            );
        }
    }

    #[test]
    fn model_toml_has_a_table_or_a_word() {
        #[derive(Debug, Deserialize)]
        struct Toml {
            version_policy: VersionPolicy,
        }
        let read = |value: &str| {
            toml::from_str::<Toml>(&format!("version_policy = {value}\n")).map(|toml| toml.version_policy)
        };
        assert_eq!(read("\"all\"").unwrap(), VersionPolicy::All);
        assert_eq!(read("\"latest:2\"").unwrap(), policy("latest:2"));
        assert_eq!(read("{ latest = 2 }").unwrap(), policy("latest:2"));
        assert_eq!(read("{ specific = [1, 3] }").unwrap(), policy("specific:1,3"));
        for bad in [
            "3",
            "\"newest\"",
            "{ latest = 0 }",
            "{ specific = [] }",
            "{ newest = 1 }",
        ] {
            assert!(
                read(bad)
                    .unwrap_err()
                    .to_string()
                    .contains("{ specific = [N, …] }"),
                "{bad}"
            );
        }
    }
}
