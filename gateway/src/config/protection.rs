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
            retry_budget: 20,
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
