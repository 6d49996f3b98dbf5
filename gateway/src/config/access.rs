//! `[access]`: who may do what, and how often.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use plumbline_service::config::{ParseSetting as _, Reader};
use plumbline_service::{ClientTlsFiles, error_chain};

use super::fields::Fields;
use crate::access::{
    Algorithm, Allow, Keys, Limit, MAX_REFILL, Models, Pattern, Quota, SigningKeys, Verb, Who,
};

/// What `[access]` says.
#[derive(Clone, Debug, Default)]
pub struct AccessSpec {
    /// The file of API keys.
    pub(crate) keys: Option<PathBuf>,
    pub(crate) issuers: Vec<IssuerSpec>,
    /// Nothing: no policy is written.
    pub(crate) allow: Option<Vec<Allow>>,
    pub(crate) limits: Vec<Limit>,
    /// Endpoints get the credentials, too.
    pub(crate) forward_credentials: bool,
}

/// An issuer whose tokens are believed.
#[derive(Clone, Debug)]
pub(crate) struct IssuerSpec {
    /// `iss`, letter by letter.
    pub(crate) issuer: String,
    /// What `aud` has to have.
    pub(crate) audience: String,
    pub(crate) keys: KeySource,
    pub(crate) algorithms: Vec<Algorithm>,
    /// How far this clock and the issuer's may differ.
    pub(crate) leeway: Duration,
    pub(crate) principal_claim: String,
    pub(crate) groups_claim: String,
    /// Stands before the names that the issuer gives.
    pub(crate) prefix: String,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug)]
pub(crate) enum KeySource {
    File(PathBuf),
    Url {
        url: Uri,
        /// Whom the server's certificate has to be from.
        ca: PathBuf,
        refresh: Duration,
        /// How long keys are used that cannot be got again.
        grace: Duration,
    },
}

/// Where most systems keep the authorities of the web.
const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

impl AccessSpec {
    /// Reads the content of an `[access]` table.
    ///
    /// # Errors
    /// Everything that is wrong with it, a line for each.
    pub fn parse(text: &str) -> Result<Self, String> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
        let mut problems = Vec::new();
        let access = from_table(&table, &mut problems);
        if problems.is_empty() {
            Ok(access)
        } else {
            Err(problems.join("\n"))
        }
    }
}

pub(super) fn read(reader: &mut Reader) -> AccessSpec {
    let table: toml::Table = reader.table("access");
    let mut problems = Vec::new();
    let access = from_table(&table, &mut problems);
    for problem in problems {
        reader.reject("access", problem);
    }
    access
}

fn from_table(table: &toml::Table, problems: &mut Vec<String>) -> AccessSpec {
    let mut fields = Fields::new("access", table, problems);
    let keys = fields.setting::<PathBuf>("keys");
    if let Some(path) = &keys {
        let content = std::fs::read(path).map_err(|error| format!("cannot read it: {error}"));
        if let Err(problem) = content.and_then(|content| Keys::parse(&content)) {
            fields.problem(format_args!("`keys`: {}: {problem}", path.display()));
        }
    }
    let issuers: Vec<_> = fields.tables("issuer", issuer).into_iter().flatten().collect();
    for (index, issuer) in issuers.iter().enumerate() {
        for earlier in &issuers[..index] {
            if earlier.issuer == issuer.issuer {
                fields.problem(format_args!("issuer `{}` is there twice", issuer.issuer));
            } else if earlier.prefix == issuer.prefix {
                fields.problem(format_args!(
                    "issuers `{}` and `{}`: each needs a `prefix` of its own, or one could name the other's principals",
                    earlier.issuer, issuer.issuer
                ));
            }
        }
    }
    let has_policy = table.contains_key("allow");
    let allow: Vec<_> = fields.tables("allow", allow).into_iter().flatten().collect();
    let mut number = 0;
    let limits = fields.tables("limit", |fields| {
        number += 1;
        limit(fields, number)
    });
    let access = AccessSpec {
        keys,
        issuers,
        allow: has_policy.then_some(allow),
        limits: limits.into_iter().flatten().collect(),
        forward_credentials: fields.switch("forward_credentials"),
    };
    fields.end();
    access
}

fn issuer(fields: &mut Fields<'_>) -> Option<IssuerSpec> {
    let issuer = fields.required_text("issuer");
    let audience = fields.required_text("audience");
    let keys = key_source(fields);
    let mut algorithms = Vec::new();
    for name in fields.texts("algorithms").unwrap_or(vec!["RS256", "ES256"]) {
        let algorithm = Algorithm::named(name);
        if algorithm.is_none() {
            let known: Vec<_> = Algorithm::ALL.iter().map(|known| known.name()).collect();
            let known = known.join(", ");
            fields.problem(format_args!("`algorithms`: `{name}`: expected {known}"));
        }
        algorithms.extend(algorithm);
    }
    let leeway = fields.setting("leeway").unwrap_or(Duration::from_secs(30));
    if leeway > Duration::from_mins(10) {
        fields.problem("`leeway`: expected at most 10m");
    }
    let principal_claim = fields.text("principal_claim").unwrap_or("sub").to_owned();
    let groups_claim = fields.text("groups_claim").unwrap_or("groups").to_owned();
    let prefix = fields.text("prefix").unwrap_or_default().to_owned();
    Some(IssuerSpec {
        issuer: issuer?.to_owned(),
        audience: audience?.to_owned(),
        keys: keys?,
        algorithms,
        leeway,
        principal_claim,
        groups_claim,
        prefix,
    })
}

fn key_source(fields: &mut Fields<'_>) -> Option<KeySource> {
    let file = fields.setting::<PathBuf>("jwks_file");
    let url = fields.setting::<Uri>("jwks_url");
    let ca = fields
        .setting("jwks_ca")
        .unwrap_or_else(|| PathBuf::from(SYSTEM_CA));
    let refresh = fields.setting("jwks_refresh").unwrap_or(Duration::from_mins(5));
    let grace = fields.setting("jwks_grace").unwrap_or(Duration::from_hours(24));
    if refresh < Duration::from_secs(1) {
        fields.problem("`jwks_refresh`: expected at least 1s");
    }
    match (file, url) {
        (Some(file), None) => {
            let content = std::fs::read(&file).map_err(|error| format!("cannot read it: {error}"));
            if let Err(problem) = content.and_then(|content| SigningKeys::parse(&content)) {
                fields.problem(format_args!("`jwks_file`: {}: {problem}", file.display()));
            }
            Some(KeySource::File(file))
        }
        (None, Some(url)) => {
            if url.scheme_str() == Some("https") {
                let files = ClientTlsFiles {
                    ca: ca.clone(),
                    identity: None,
                    settings: ["jwks_ca", "", ""],
                };
                if let Err(error) = files.check() {
                    fields.problem(format_args!("`jwks_ca`: {}", error_chain(&error)));
                }
            }
            Some(KeySource::Url {
                url,
                ca,
                refresh,
                grace,
            })
        }
        (None, None) | (Some(_), Some(_)) => {
            fields.problem("expected `jwks_url` or `jwks_file`");
            None
        }
    }
}

fn allow(fields: &mut Fields<'_>) -> Option<Allow> {
    let who = who(fields);
    let models = models(fields);
    let mut verbs = Vec::new();
    for name in fields.texts("verbs").unwrap_or(vec!["infer", "metadata"]) {
        match Verb::ALL.into_iter().find(|verb| verb.name() == name) {
            Some(verb) => verbs.push(verb),
            None => fields.problem(format_args!("`verbs`: `{name}`: expected infer or metadata")),
        }
    }
    if who.is_none() {
        fields.problem(
            "expected `principals`, `groups` or `anonymous = true`: the rule allows nobody anything",
        );
    }
    Some(Allow {
        who: who?,
        models,
        verbs,
    })
}

fn who(fields: &mut Fields<'_>) -> Option<Who> {
    let who = Who {
        principals: patterns(fields, "principals").unwrap_or_default(),
        groups: patterns(fields, "groups").unwrap_or_default(),
        anonymous: fields.switch("anonymous"),
    };
    (!who.principals.is_empty() || !who.groups.is_empty() || who.anonymous).then_some(who)
}

fn models(fields: &mut Fields<'_>) -> Models {
    Models(patterns(fields, "models").unwrap_or_else(|| vec![Pattern::Prefix("".into())]))
}

fn patterns(fields: &mut Fields<'_>, key: &'static str) -> Option<Vec<Pattern>> {
    let texts = fields.texts(key)?;
    let mut pattern = |text: &str| {
        let pattern = Pattern::parse(text);
        if pattern.is_none() {
            fields.problem(format_args!(
                "`{key}`: `{text}`: expected a name, or the beginning of names and a `*`"
            ));
        }
        pattern
    };
    Some(texts.into_iter().filter_map(&mut pattern).collect())
}

fn limit(fields: &mut Fields<'_>, number: usize) -> Option<Limit> {
    let default = format!("limit-{number}");
    let name = fields.text("name").unwrap_or(&default);
    let named = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !named {
        fields.problem("`name`: expected letters, digits, `-` and `_`: it stands in a header");
    }
    let who = who(fields);
    let models = models(fields);
    let rate = fields.required_text("rate").map(rate);
    if let Some(None) = rate {
        fields.problem("`rate`: expected requests in a time, such as 100/s, 6000/m or 50/10s");
    }
    let burst = fields.setting::<u64>("burst");
    let (requests, period) = rate??;
    let burst = burst.unwrap_or(requests);
    let quota = Quota::new(name, requests, period, burst);
    if quota.is_none() {
        fields.problem(format_args!(
            "`rate` and `burst`: expected at most 1000000/s, and a burst of at least 1 that grows back within {} h",
            MAX_REFILL.as_secs() / 3_600
        ));
    }
    Some(Limit {
        who,
        models,
        quota: quota?,
    })
}

/// `100/s`, `50/10s`.
fn rate(text: &str) -> Option<(u64, Duration)> {
    let (requests, period) = text.split_once('/')?;
    let requests: u64 = requests.trim().parse().ok()?;
    let period = period.trim();
    let period = if period.starts_with(|first: char| first.is_ascii_digit()) {
        Duration::parse_setting(period)
    } else {
        Duration::parse_setting(&format!("1{period}"))
    };
    (requests > 0).then_some((requests, period.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_requests_in_a_time() {
        assert_eq!(rate("100/s"), Some((100, Duration::from_secs(1))));
        assert_eq!(rate("6000/m"), Some((6_000, Duration::from_mins(1))));
        assert_eq!(rate("50 / 10s"), Some((50, Duration::from_secs(10))));
        for bad in ["", "100", "0/s", "-1/s", "1.5/s", "100/", "100/parsec"] {
            assert_eq!(rate(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_problem_is_told_with_its_place() {
        let problems = AccessSpec::parse(
            "keys = \"/nonexistent/keys.toml\"\nforward = true\n\
             [[issuer]]\nissuer = \"https://a\"\njwks_url = \"http://a/keys\"\nalgorithms = [\"HS256\"]\nleeway = \"1h\"\n\
             [[issuer]]\nissuer = \"https://b\"\naudience = \"models\"\n\
             [[issuer]]\nissuer = \"https://c\"\naudience = \"models\"\njwks_url = \"http://c/keys\"\n\
             [[issuer]]\nissuer = \"https://d\"\naudience = \"models\"\njwks_url = \"https://d/\"\njwks_ca = \"/nonexistent/ca\"\n\
             [[allow]]\nmodels = [\"*-eu\"]\nverbs = [\"control\"]\n\
             [[limit]]\nrate = \"often\"\nname = \"a b\"\n\
             [[limit]]\nrate = \"1/h\"\nburst = 48\n",
        )
        .expect_err("many problems");
        for expected in [
            "access: `keys`: /nonexistent/keys.toml: cannot read it",
            "access: unknown key `forward`; there are allow, forward_credentials, issuer, keys, limit",
            "access: issuer 1: `audience` is missing",
            "access: issuer 1: `algorithms`: `HS256`: expected RS256",
            "access: issuer 1: `leeway`: expected at most 10m",
            "access: issuer 2: expected `jwks_url` or `jwks_file`",
            "issuers `https://c` and `https://d`: each needs a `prefix`",
            "access: issuer 4: `jwks_ca`: cannot read /nonexistent/ca",
            "access: allow 1: expected `principals`, `groups` or `anonymous = true`",
            "access: allow 1: `models`: `*-eu`: expected a name",
            "access: allow 1: `verbs`: `control`: expected infer or metadata",
            "access: limit 1: `rate`: expected requests in a time",
            "access: limit 1: `name`: expected letters",
            "access: limit 2: `rate` and `burst`: expected at most",
        ] {
            assert!(
                problems.contains(expected),
                "missing {expected:?} in:\n{problems}"
            );
        }
    }
}
