//! How often a client may ask: the generic cell rate algorithm over a table of fixed size.
//!
//! GCRA (ITU-T I.371, annex A) keeps one number for a client and a model: the theoretical arrival time (TAT), when its
//! allowance is whole again. A request at `now` moves it by one interval, `max(TAT, now) + interval`, and is refused if it
//! lies further ahead than the burst. At most `burst + t / interval` requests pass in any time `t`.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use prometheus::IntCounter;

use crate::access::policy::{Models, Who};
use crate::access::principal::Principal;

/// How many requests, and how many at once.
#[derive(Clone, Debug)]
pub(crate) struct Quota {
    /// Microseconds that one request uses up; rounded up, so that the rate is never exceeded.
    interval: u64,
    burst: u64,
    name: Box<str>,
    /// `ratelimit-policy`.
    policy: HeaderValue,
}

/// Longest time in which a burst may grow back.
pub(crate) const MAX_REFILL: Duration = Duration::from_hours(24);

impl Quota {
    /// Nothing when a request would use up less than 1 µs, or a burst more than [`MAX_REFILL`].
    ///
    /// `name` is of letters, digits, `-` and `_`: it stands in a header.
    pub(crate) fn new(name: &str, requests: u64, period: Duration, burst: u64) -> Option<Self> {
        let period = u64::try_from(period.as_micros()).ok()?;
        if requests == 0 || requests > period || burst == 0 {
            return None;
        }
        let interval = period.div_ceil(requests);
        let refill = interval.checked_mul(burst)?;
        if u128::from(refill) > MAX_REFILL.as_micros() {
            return None;
        }
        let window = refill.div_ceil(1_000_000);
        let policy = HeaderValue::try_from(format!("\"{name}\";q={burst};w={window}")).ok()?;
        Some(Self {
            interval,
            burst,
            name: name.into(),
            policy,
        })
    }

    fn refill(&self) -> u64 {
        self.interval * self.burst
    }
}

/// A quota for some clients and models, for each of them apart.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    /// Nothing: every client.
    pub(crate) who: Option<Who>,
    pub(crate) models: Models,
    pub(crate) quota: Quota,
}

/// Whose allowance a request uses up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Client<'a> {
    Principal(&'a str),
    /// Of a client that has not shown who it is. An IPv6 address stands for its /64: one host has all of it.
    Address(IpAddr),
}

impl<'a> Client<'a> {
    pub(crate) fn of(principal: Option<&'a Principal>, address: IpAddr) -> Self {
        match (principal, address.to_canonical()) {
            (Some(principal), _) => Self::Principal(&principal.name),
            (None, IpAddr::V6(address)) => {
                let network = address.to_bits() & (u128::MAX << 64);
                Self::Address(Ipv6Addr::from_bits(network).into())
            }
            (None, address) => Self::Address(address),
        }
    }
}

/// How a client stands with its quota.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    policy: HeaderValue,
    /// `ratelimit`: requests left, and seconds until the quota is whole.
    ratelimit: HeaderValue,
}

/// The headers of draft-ietf-httpapi-ratelimit-headers-10.
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

impl Standing {
    /// Tells a client how it stands.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(POLICY, self.policy.clone());
        headers.insert(RATELIMIT, self.ratelimit.clone());
    }
}

/// What came of a check.
#[derive(Clone, Debug)]
pub(crate) enum Checked {
    /// No limit is about this client and model.
    Unlimited,
    Within(Standing),
    Beyond {
        standing: Standing,
        retry_after: Duration,
    },
}

/// Every limit, and the table of what has been used up.
#[derive(Debug)]
pub(crate) struct Limits {
    rules: Vec<Limit>,
    buckets: Buckets,
    hasher: RandomState,
}

impl Limits {
    pub(crate) fn new(limits: Vec<Limit>, forgotten: IntCounter) -> Self {
        let most = limits.iter().map(|limit| limit.quota.refill()).max();
        // Without limits nothing is kept.
        let sets = if limits.is_empty() { 1 } else { SETS };
        Self {
            buckets: Buckets::new(sets, most.unwrap_or_default(), forgotten),
            rules: limits,
            hasher: RandomState::new(),
        }
    }

    /// Charges the first limit that is about this client and model. `now` counts from any beginning.
    pub(crate) fn check(
        &self,
        principal: Option<&Principal>,
        address: IpAddr,
        model: &str,
        now: Duration,
    ) -> Checked {
        let about = |limit: &Limit| {
            limit.models.include(model) && limit.who.as_ref().is_none_or(|who| who.includes(principal))
        };
        let Some(index) = self.rules.iter().position(about) else {
            return Checked::Unlimited;
        };
        let quota = &self.rules[index].quota;
        // Keyed by chance: nobody can aim at another's bucket.
        let hash = self
            .hasher
            .hash_one((index, Client::of(principal, address), model));
        let now = now.as_micros() as u64;
        let (ahead, admitted) = self.buckets.charge(hash, quota, now);
        let standing = Standing {
            policy: quota.policy.clone(),
            ratelimit: ratelimit(&quota.name, (quota.refill() - ahead) / quota.interval, ahead),
        };
        if admitted {
            Checked::Within(standing)
        } else {
            let wait = ahead + quota.interval - quota.refill();
            Checked::Beyond {
                standing,
                retry_after: Duration::from_micros(wait),
            }
        }
    }
}

fn ratelimit(name: &str, left: u64, ahead: u64) -> HeaderValue {
    use std::io::Write as _;

    let mut text = Vec::with_capacity(name.len() + 32);
    let seconds = ahead.div_ceil(1_000_000);
    let _infallible = write!(text, "\"{name}\";r={left};t={seconds}");
    HeaderValue::try_from(text).expect("a name and numbers are visible ASCII text")
}

/// Buckets in a set: a client's may be in any of them.
const WAYS: usize = 8;
/// 65,536 buckets of 8 bytes; memory is touched as clients come.
const SETS: usize = 8_192;

/// TATs of clients, each a word: 20 bits that tell a client from others of its set, 44 bits of microseconds.
///
/// A word is replaced whole, so that no lock is needed. Two clients of one set whose 20 bits are the same share a bucket;
/// with a full table that befalls one client in 130,000. Time wraps around after 203 days: a TAT that lies further ahead
/// than any quota allows is one of the past. A bucket whose TAT has passed says as much as none, so that forgetting it
/// loses nothing; when none of a set has passed, the one with the least used up is forgotten, and counted.
#[derive(Debug)]
struct Buckets {
    words: Box<[AtomicU64]>,
    /// The furthest that a TAT can lie ahead.
    most_ahead: u64,
    forgotten: IntCounter,
}

const TIME_BITS: u32 = 44;
const TIME: u64 = (1 << TIME_BITS) - 1;

impl Buckets {
    fn new(sets: usize, most_ahead: u64, forgotten: IntCounter) -> Self {
        Self {
            words: (0..sets * WAYS).map(|_| AtomicU64::new(0)).collect(),
            most_ahead,
            forgotten,
        }
    }

    /// Charges one request. How far the TAT lies ahead afterwards, and whether the request is within the quota: if not,
    /// nothing is charged.
    fn charge(&self, hash: u64, quota: &Quota, now: u64) -> (u64, bool) {
        // 0 is the mark of buckets that nobody has had.
        let mark = (hash >> TIME_BITS).max(1);
        let sets = self.words.len() / WAYS;
        let first = hash as usize % sets * WAYS;
        let set = &self.words[first..first + WAYS];
        loop {
            let (bucket, word, ahead) = self.find(set, mark, now);
            let after = ahead + quota.interval;
            if after > quota.refill() {
                return (ahead, false);
            }
            let new = mark << TIME_BITS | (now + after) & TIME;
            // Whoever was quicker has got on: this ends.
            if bucket
                .compare_exchange_weak(word, new, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
            {
                if ahead == 0 && word >> TIME_BITS != mark && self.ahead(word, now) > 0 {
                    self.forgotten.inc();
                }
                return (after, true);
            }
        }
    }

    /// The client's bucket, or the one that it gets; its word, and how far ahead the client's TAT is.
    fn find<'a>(&self, set: &'a [AtomicU64], mark: u64, now: u64) -> (&'a AtomicU64, u64, u64) {
        let mut least = (&set[0], 0, u64::MAX);
        for bucket in set {
            let word = bucket.load(Ordering::Relaxed);
            let ahead = self.ahead(word, now);
            if word >> TIME_BITS == mark {
                return (bucket, word, ahead);
            }
            if ahead < least.2 {
                least = (bucket, word, ahead);
            }
        }
        (least.0, least.1, 0)
    }

    fn ahead(&self, word: u64, now: u64) -> u64 {
        let ahead = (word & TIME).wrapping_sub(now) & TIME;
        if ahead > self.most_ahead { 0 } else { ahead }
    }
}

#[cfg(test)]
mod tests;
