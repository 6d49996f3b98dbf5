//! Who may do what with which model.

use crate::access::principal::Principal;

/// What a request does with its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Predict or explain.
    Infer,
    /// Metadata, readiness, configuration, statistics.
    Metadata,
}

impl Verb {
    pub(crate) const ALL: [Self; 2] = [Self::Infer, Self::Metadata];

    /// Its name in rules and in the log.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Infer => "infer",
            Self::Metadata => "metadata",
        }
    }
}

/// A name, or with `*` at its end every name that begins so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    Exact(Box<str>),
    Prefix(Box<str>),
}

impl Pattern {
    /// Nothing for a star elsewhere than at the end, or for no text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, make): (_, fn(Box<str>) -> Self) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, Self::Prefix),
            None => (text, Self::Exact),
        };
        (!text.is_empty() && !name.contains('*')).then(|| make(name.into()))
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *name,
            Self::Prefix(prefix) => name.starts_with(&**prefix),
        }
    }
}

/// Which clients a rule is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Who {
    pub(crate) principals: Vec<Pattern>,
    pub(crate) groups: Vec<Pattern>,
    /// Also clients that have not shown who they are.
    pub(crate) anonymous: bool,
}

impl Who {
    pub(crate) fn includes(&self, principal: Option<&Principal>) -> bool {
        let Some(Principal { name, groups }) = principal else {
            return self.anonymous;
        };
        let in_groups = |pattern: &Pattern| groups.iter().any(|group| pattern.matches(group));
        self.principals.iter().any(|pattern| pattern.matches(name)) || self.groups.iter().any(in_groups)
    }
}

/// Which models a rule is about.
#[derive(Clone, Debug)]
pub(crate) struct Models(pub(crate) Vec<Pattern>);

impl Models {
    pub(crate) fn include(&self, model: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(model))
    }
}

/// One thing that is allowed.
#[derive(Clone, Debug)]
pub(crate) struct Allow {
    pub(crate) who: Who,
    pub(crate) models: Models,
    pub(crate) verbs: Vec<Verb>,
}

/// What is allowed; everything else is not.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    rules: Vec<Allow>,
    anonymous: bool,
}

impl Policy {
    pub(crate) fn new(rules: Vec<Allow>) -> Self {
        let anonymous = rules.iter().any(|rule| rule.who.anonymous);
        Self { rules, anonymous }
    }

    /// Everything, for whom `who` includes: where no rule is written.
    pub(crate) fn everything(who: Who) -> Self {
        Self::new(vec![Allow {
            who,
            models: Models(vec![Pattern::Prefix("".into())]),
            verbs: Verb::ALL.to_vec(),
        }])
    }

    /// Whether a client that does not show who it is may do anything at all.
    pub(crate) fn knows_anonymous(&self) -> bool {
        self.anonymous
    }

    pub(crate) fn allows(&self, principal: Option<&Principal>, model: &str, verb: Verb) -> bool {
        let allows = |rule: &Allow| {
            rule.verbs.contains(&verb) && rule.models.include(model) && rule.who.includes(principal)
        };
        self.rules.iter().any(allows)
    }

    /// Whether a model is shown to a client in a list: it may do something with it.
    pub(crate) fn shows(&self, principal: Option<&Principal>, model: &str) -> bool {
        Verb::ALL
            .into_iter()
            .any(|verb| self.allows(principal, model, verb))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        let pattern = |text: &&str| Pattern::parse(text).expect("a pattern");
        texts.iter().map(pattern).collect()
    }

    fn allow(principals: &[&str], groups: &[&str], models: &[&str], verbs: &[Verb]) -> Allow {
        Allow {
            who: Who {
                principals: patterns(principals),
                groups: patterns(groups),
                anonymous: false,
            },
            models: Models(patterns(models)),
            verbs: verbs.to_vec(),
        }
    }

    #[test]
    fn what_no_rule_allows_is_not_allowed() {
        let policy = Policy::new(vec![
            allow(&["ann"], &[], &["churn"], &[Verb::Infer]),
            allow(&[], &["risk"], &["fraud-*"], &Verb::ALL),
            allow(&["batch-*"], &[], &["*"], &[Verb::Metadata]),
        ]);
        let ann = Principal::new("ann", []).expect("a principal");
        let bob = Principal::new("bob", ["staff", "risk"]).expect("a principal");
        let batch = Principal::new("batch-7", []).expect("a principal");
        for (who, model, verb, allowed) in [
            (&ann, "churn", Verb::Infer, true),
            (&ann, "churn", Verb::Metadata, false),
            (&ann, "churn-2", Verb::Infer, false),
            (&ann, "fraud-eu", Verb::Infer, false),
            (&bob, "fraud-eu", Verb::Infer, true),
            (&bob, "fraud-", Verb::Metadata, true),
            (&bob, "fraud", Verb::Infer, false),
            (&bob, "churn", Verb::Infer, false),
            (&batch, "churn", Verb::Metadata, true),
            (&batch, "churn", Verb::Infer, false),
        ] {
            assert_eq!(
                policy.allows(Some(who), model, verb),
                allowed,
                "{who:?} {verb:?} {model}"
            );
        }
        assert!(!policy.allows(None, "churn", Verb::Infer));
        assert!(policy.shows(Some(&ann), "churn") && !policy.shows(Some(&ann), "iris"));
    }

    #[test]
    fn anonymous_clients_are_only_those_that_a_rule_states() {
        let everybody = |anonymous| Who {
            principals: patterns(&["*"]),
            groups: Vec::new(),
            anonymous,
        };
        assert!(!Policy::everything(everybody(false)).allows(None, "churn", Verb::Infer));
        let open = Policy::everything(everybody(true));
        assert!(open.knows_anonymous() && open.allows(None, "churn", Verb::Infer));
    }

    #[test]
    fn a_star_stands_at_the_end_or_nowhere() {
        for bad in ["", "*-eu", "a*b", "**"] {
            assert_eq!(Pattern::parse(bad), None, "{bad}");
        }
    }
}
