//! How a route's endpoints are balanced and protected.

use std::time::Duration;

use plumbline_service::config::ParseSetting;

use super::fields::Fields;

/// Retries, hedging, slow start, the adaptive limit and holding of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectionSpec {
    /// Processing a request twice does no harm: it may be sent again after an endpoint failed or answered 502, 503 or
    /// 504, and hedged. Off by default, as sequence models keep state.
    pub idempotent: bool,
    /// Retries of requests that may have been processed, in percent of all requests.
    pub retry_budget: u32,
    /// When a second endpoint is asked, if at all.
    pub hedge: Option<HedgeAfter>,
    /// Time within which the share of a new or recovered endpoint grows; 0 gives it its whole share at once.
    pub slow_start: Duration,
    /// The adaptive limit of requests in flight at each revision, if there is to be one.
    pub concurrency: Option<ConcurrencySpec>,
    /// How long a request waits for an endpoint when there is none; 0 refuses it at once.
    pub hold: Duration,
    /// Requests that wait for an endpoint at the same time.
    pub hold_max: usize,
}

impl Default for ProtectionSpec {
    fn default() -> Self {
        Self {
            idempotent: false,
            // With 5 % of hedges, a fifth: what Finagle and linkerd have for all that is sent again.
            retry_budget: 15,
            hedge: None,
            slow_start: Duration::from_secs(10),
            concurrency: None,
            hold: Duration::ZERO,
            hold_max: 100,
        }
    }
}

/// After which time without an answer a second endpoint is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HedgeAfter {
    /// This percentile, 1 to 99, of the route's latency, as it is at the time.
    Percentile(u32),
    /// This time.
    Time(Duration),
}

impl ParseSetting for HedgeAfter {
    fn parse_setting(text: &str) -> Result<Self, String> {
        let expected = || "expected a percentile or a time: p95 or 50ms".to_owned();
        match text.strip_prefix('p') {
            Some(percentile) => match percentile.parse() {
                Ok(percentile @ 1..=99) => Ok(Self::Percentile(percentile)),
                _ => Err(expected()),
            },
            None => Duration::parse_setting(text)
                .map(Self::Time)
                .map_err(|_| expected()),
        }
    }
}

/// Between which limits requests in flight are limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcurrencySpec {
    /// At least 1.
    pub min: u32,
    /// At least `min`.
    pub max: u32,
}

impl Default for ConcurrencySpec {
    fn default() -> Self {
        Self { min: 4, max: 1000 }
    }
}

/// The keys of a route's table that are of protection.
pub(super) fn read(fields: &mut Fields<'_>) -> ProtectionSpec {
    let default = ProtectionSpec::default();
    let hedge = fields.switch("hedge").then_some(HedgeAfter::Percentile(95));
    let spec = ProtectionSpec {
        idempotent: fields.switch("idempotent"),
        retry_budget: fields.setting("retry_budget").unwrap_or(default.retry_budget),
        hedge: fields.setting("hedge_after").or(hedge),
        slow_start: fields.setting("slow_start").unwrap_or(default.slow_start),
        concurrency: fields.table("concurrency", concurrency),
        hold: fields.setting("hold").unwrap_or(default.hold),
        hold_max: fields.setting("hold_max").unwrap_or(default.hold_max),
    };
    if spec.retry_budget > 100 {
        fields.problem("`retry_budget`: expected a percentage, 0 to 100");
    }
    if spec.hedge.is_some() && !spec.idempotent {
        fields.problem("`hedge` sends a request twice; it needs `idempotent = true`");
    }
    spec
}

/// The same keys as texts, as annotations of an object of Kubernetes have them: a text is written without its quotes, a
/// table as in TOML.
///
/// # Errors
/// Every problem; then nothing of them is to be honoured.
pub(crate) fn read_texts<'a>(
    place: &str,
    texts: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<ProtectionSpec, String> {
    let table: toml::Table = texts.map(|(key, text)| (key.to_owned(), value(text))).collect();
    let mut problems = Vec::new();
    let mut fields = Fields::new(place, &table, &mut problems);
    let spec = read(&mut fields);
    fields.end();
    if problems.is_empty() {
        Ok(spec)
    } else {
        Err(problems.join("; "))
    }
}

fn value(text: &str) -> toml::Value {
    let other = match text {
        "true" => Some(true.into()),
        "false" => Some(false.into()),
        _ if text.starts_with('{') => toml::from_str(&format!("value = {text}"))
            .ok()
            .and_then(|mut table: toml::Table| table.remove("value")),
        _ => None,
    };
    other.unwrap_or_else(|| text.into())
}

fn concurrency(fields: &mut Fields<'_>) -> ConcurrencySpec {
    let default = ConcurrencySpec::default();
    let spec = ConcurrencySpec {
        min: fields.setting("min").unwrap_or(default.min),
        max: fields.setting("max").unwrap_or(default.max),
    };
    if spec.min == 0 || spec.max < spec.min {
        fields.problem(format_args!(
            "expected 1 ≤ `min` ≤ `max`, found min = {} and max = {}",
            spec.min, spec.max
        ));
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[(&str, &str)]) -> Result<ProtectionSpec, String> {
        read_texts("plumbline.dev", texts.iter().copied())
    }

    #[test]
    fn texts_are_read_as_the_file_is() {
        let all = [
            ("idempotent", "true"),
            ("retry_budget", "10"),
            ("hedge_after", "p99"),
            ("slow_start", "2s"),
            ("concurrency", "{ min = 2, max = 50 }"),
            ("hold", "30s"),
            ("hold_max", "7"),
        ];
        let spec = ProtectionSpec {
            idempotent: true,
            retry_budget: 10,
            hedge: Some(HedgeAfter::Percentile(99)),
            slow_start: Duration::from_secs(2),
            concurrency: Some(ConcurrencySpec { min: 2, max: 50 }),
            hold: Duration::from_secs(30),
            hold_max: 7,
        };
        assert_eq!(of(&all), Ok(spec));
        assert_eq!(of(&[]), Ok(ProtectionSpec::default()));
        let limits = of(&[("concurrency", "{}")]).map(|spec| spec.concurrency);
        assert_eq!(limits, Ok(Some(ConcurrencySpec::default())));
    }

    #[test]
    fn every_problem_of_texts_is_told() {
        for (texts, problem) in [
            (&[("hold", "soon")][..], "plumbline.dev: `hold`: expected a time"),
            (
                &[("idempotent", "yes")],
                "plumbline.dev: `idempotent`: expected true or false",
            ),
            (
                &[("concurrency", "50")],
                "plumbline.dev: `concurrency`: expected a table",
            ),
            (
                &[("concurrency", "{ max = 0 }")],
                "plumbline.dev: concurrency: expected 1 ≤ `min`",
            ),
            (
                &[("concurrency", "{ max = 9")],
                "plumbline.dev: `concurrency`: expected a table",
            ),
            (
                &[("hodl", "1s")],
                "plumbline.dev: unknown key `hodl`; there are concurrency, hedge,",
            ),
            (
                &[("hedge", "true")],
                "plumbline.dev: `hedge` sends a request twice",
            ),
        ] {
            let error = of(texts).expect_err(problem);
            assert!(error.starts_with(problem), "{error}");
        }
        let both = of(&[("hold", "soon"), ("hold_max", "-1")]).expect_err("two");
        assert!(
            both.contains("`hold`:") && both.contains("; plumbline.dev: `hold_max`:"),
            "{both}"
        );
    }
}
