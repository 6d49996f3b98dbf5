//! What secrets and personal data look like: the values that are known by what stands in front of them, and those of
//! persons. Those that are known by their own shape are in `shapes`.
//!
//! A rule marks the secret part with a group called `value`; what is around it (scheme, user, host, field name) stays,
//! because it helps to find the cause.

use std::borrow::Cow;

use super::shapes::SHAPES;

/// Names of fields that hold a secret; the name ends with the word, so that `token_count` is not one.
pub(super) const SECRET_NAME: &str = concat!(
    r"[a-z0-9_.\-]*(?:secret|token|password|passwd|pwd|passphrase|api[_\-]?key|access[_\-]?key|secret[_\-]?key",
    r"|private[_\-]?key|account[_\-]?key|signing[_\-]?key|encryption[_\-]?key|license[_\-]?key|app[_\-]?key",
    r"|client[_\-]?key[_\-]?data|credentials?|authorization|auth)",
);

/// One kind of value to take out.
pub(super) struct Rule {
    pub(super) kind: &'static str,
    /// Words of which one is in every line that the pattern matches, in lower case; `0-9` stands for digits, none for all lines.
    pub(super) words: &'static [&'static str],
    pub(super) pattern: Cow<'static, str>,
    /// Whether the value is one after all: a checksum, or enough randomness.
    pub(super) accept: Accept,
    /// Whether the value is known by itself, without a name in front of it.
    pub(super) is_shape: bool,
}

impl Rule {
    /// Whether it is of a person, not of an account.
    pub(super) fn is_personal(&self) -> bool {
        matches!(self.kind, "email" | "iban" | "card_number" | "ip_address")
    }
}

/// In the order in which they are tried: shapes that name their owner come before the general ones.
pub(super) fn rules(addresses: bool) -> Vec<Rule> {
    let shapes = SHAPES.iter().map(|(kind, words, pattern)| Rule {
        kind,
        words,
        pattern: Cow::Borrowed(pattern),
        accept: any,
        is_shape: true,
    });
    let general = GENERAL.iter().map(|(kind, words, pattern, accept)| Rule {
        kind,
        words,
        pattern: Cow::Owned(pattern.replace("SECRET_NAME", SECRET_NAME)),
        accept: *accept,
        is_shape: false,
    });
    let addresses = ADDRESSES
        .iter()
        .filter(|_| addresses)
        .map(|(pattern, accept)| Rule {
            kind: "ip_address",
            words: &[],
            pattern: Cow::Borrowed(pattern),
            accept: *accept,
            is_shape: false,
        });
    shapes.chain(general).chain(addresses).collect()
}

type Accept = fn(&str) -> bool;
type General = (&'static str, &'static [&'static str], &'static str, Accept);

const GENERAL: [General; 15] = [
    (
        "aws_secret_access_key",
        &["aws", "amazon"],
        r"(?i)\b(?:aws|amazon)[a-z0-9_.\-]{0,30}(?:key|secret|token)[a-z0-9_.\-]{0,20}[\x22']?\s*(?:=>|[:=])\s*[\x22']?(?<value>[A-Za-z0-9/+]{40,})",
        random,
    ),
    (
        "url_password",
        &["://"],
        r"\b[A-Za-z][A-Za-z0-9+.\-]*://[^\s:/@]*:(?<value>[^\s/@]+)@",
        any,
    ),
    (
        "url_token",
        &["://"],
        r"\b[A-Za-z][A-Za-z0-9+.\-]*://(?<value>[^\s:/@\[\]]{16,})@",
        any,
    ),
    (
        "signature",
        &["sig=", "signature=", "credential=", "token=", "code=", "key="],
        r"(?i)[?&](?:sig|signature|x-amz-signature|x-amz-credential|x-amz-security-token|x-goog-signature|code|key)=(?<value>[^\s&#\x22']{8,})",
        any,
    ),
    (
        "authorization",
        &["authorization"],
        r"(?i)\b(?:proxy-)?authorization\b[\x22']?\s*[:=]\s*[\x22']?(?:[a-z]+\s+)?(?<value>[^\s\x22',]{6,})",
        any,
    ),
    (
        "authorization",
        &["bearer", "basic"],
        r"(?i)\b(?:bearer|basic)\s+(?<value>[a-z0-9+/_.~\-]{12,}=*)",
        random,
    ),
    (
        "cookie",
        &["cookie"],
        r"(?i)\b(?:set-)?cookie\b[\x22']?\s*[:=]\s*[\x22']?(?<value>[^\r\n\x22']{6,})",
        any,
    ),
    (
        "basic_login",
        &["-u", "--user"],
        r"(?:^|\s)(?:-u|--user)[ =](?<value>[^\s:]+:[^\s]+)",
        any,
    ),
    (
        "netrc_password",
        &["login"],
        r"(?i)\blogin\s+\S+\s+password\s+(?<value>\S+)",
        any,
    ),
    (
        "password",
        &["password", "passwd", "pwd", "passphrase"],
        r"(?i)\b[a-z0-9_.\-]*(?:password|passwd|pwd|passphrase)[\x22']?\s*[:=]\s*[\x22']?(?<value>[^\s\x22',;&]{4,})",
        is_password,
    ),
    (
        "secret",
        &["secret", "token", "pass", "pwd", "key", "credential", "auth"],
        r"(?i)\bSECRET_NAME[\x22']?\s*[:=]\s*[\x22']?(?<value>[^\s\x22',;&]{12,})",
        random,
    ),
    (
        "iban",
        &["0-9"],
        r"\b(?<value>[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?)\b",
        iban,
    ),
    (
        "card_number",
        &["0-9"],
        r"\b(?<value>(?:4[0-9]{3}|5[1-5][0-9]{2}|2[2-7][0-9]{2}|35[0-9]{2}|6[0-9]{3})[ \-]?[0-9]{4}[ \-]?[0-9]{4}[ \-]?[0-9]{4}|3[47][0-9]{2}[ \-]?[0-9]{6}[ \-]?[0-9]{5})\b",
        luhn,
    ),
    (
        "email",
        &["@"],
        r"(?<value>\b[A-Za-z0-9._%+\-]+@[A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)*\.[A-Za-z]{2,})\b",
        is_mail,
    ),
    (
        "kubernetes_secret",
        &["client-key-data", "dockerconfigjson", "dockercfg", "tls.key"],
        r"(?i)(?:client-key-data|\.?dockerconfigjson|\.?dockercfg|tls\.key)[\x22']?\s*[:=]\s*[\x22']?(?<value>[A-Za-z0-9+/]{16,}=*)",
        any,
    ),
];

const ADDRESSES: [(&str, Accept); 2] = [
    (r"\b(?<value>(?:[0-9]{1,3}\.){3}[0-9]{1,3})\b", |value| {
        value.parse::<std::net::Ipv4Addr>().is_ok()
    }),
    (r"(?<value>[0-9a-fA-F:]*:[0-9a-fA-F:]*:[0-9a-fA-F:.]*)", |value| {
        value.parse::<std::net::Ipv6Addr>().is_ok()
    }),
];

fn any(_: &str) -> bool {
    true
}

/// `git@host` is how repositories are named, not a person.
fn is_mail(value: &str) -> bool {
    !value.starts_with("git@")
}

fn is_password(value: &str) -> bool {
    !matches!(
        value.to_ascii_lowercase().as_str(),
        "null" | "none" | "true" | "false"
    )
}

/// Whether a value looks made by a machine: three bits of entropy a character, and not a plain number or word.
pub(super) fn random(value: &str) -> bool {
    let plain = |c: char| c.is_ascii_digit() || matches!(c, '.' | ':' | '-' | 'T' | 'Z' | '/');
    if value.chars().all(plain) {
        return false;
    }
    let mut counts = [0_u32; 256];
    for byte in value.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let length = value.len() as f64;
    let entropy: f64 = counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / length)
        .map(|share| -share * share.log2())
        .sum();
    entropy >= 3.0
}

/// The check digit of ISO/IEC 7812-1.
fn luhn(value: &str) -> bool {
    let digits: Vec<u32> = value.chars().filter_map(|c| c.to_digit(10)).collect();
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, digit)| match (i % 2, digit * 2) {
            (0, _) => *digit,
            (_, double) if double > 9 => double - 9,
            (_, double) => double,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// The check digits of ISO 13616: the number, first four characters moved to its end, is 1 modulo 97.
fn iban(value: &str) -> bool {
    let compact: String = value.chars().filter(|c| *c != ' ').collect();
    if !(15..=34).contains(&compact.len()) {
        return false;
    }
    let (head, tail) = compact.split_at(4);
    let remainder = tail.chars().chain(head.chars()).fold(0_u32, |remainder, c| {
        let digit = c.to_digit(36).unwrap_or(0);
        let factor = if digit > 9 { 100 } else { 10 };
        (remainder * factor + digit) % 97
    });
    remainder == 1
}
