//! What secrets and personal data look like.
//!
//! The shapes follow the vendors' documentation as collected by gitleaks (MIT). A rule marks the secret part with a
//! group called `value`; what is around it (scheme, user, host, field name) stays, because it helps to find the cause.

use regex::Regex;

use super::pattern;

/// Names of fields that hold a secret; the name ends with the word, so that `token_count` is not one.
pub(super) const SECRET_NAME: &str = concat!(
    r"[a-z0-9_.\-]*(?:secret|token|password|passwd|pwd|passphrase|api[_\-]?key|access[_\-]?key|secret[_\-]?key",
    r"|private[_\-]?key|account[_\-]?key|signing[_\-]?key|credentials?|authorization|auth)",
);

/// One shape of secret.
pub(super) struct Rule {
    pub(super) kind: &'static str,
    pub(super) pattern: Regex,
    /// Whether the value is one after all: a checksum, or enough randomness.
    pub(super) accept: fn(&str) -> bool,
}

/// In the order in which they are tried: shapes that name their owner come before the general ones.
#[expect(clippy::too_many_lines, reason = "a table, one rule after another")]
pub(super) fn rules(addresses: bool) -> Vec<Rule> {
    let any: fn(&str) -> bool = |_| true;
    let mut rules = Vec::new();
    let mut add = |kind, text: &str, accept| {
        rules.push(Rule {
            kind,
            pattern: pattern(text),
            accept,
        });
    };
    add(
        "jwt",
        r"(?<value>\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*)",
        any,
    );
    add(
        "aws_access_key_id",
        r"\b(?<value>(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16})\b",
        any,
    );
    add(
        "github_token",
        r"(?<value>\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{22,}))",
        any,
    );
    add(
        "gitlab_token",
        r"(?<value>\bgl(?:pat|ptt|dt|rt|oas|soat|cbt|ft|imt|agent)-[A-Za-z0-9_\-]{20,})",
        any,
    );
    add(
        "slack_token",
        r"(?<value>\bxox[abeoprs]-[A-Za-z0-9\-]{10,}|\bxapp-[A-Za-z0-9\-]{10,})",
        any,
    );
    add(
        "slack_webhook",
        r"hooks\.slack\.com/(?:services|workflows|triggers)/(?<value>[A-Za-z0-9/_\-]{20,})",
        any,
    );
    add("google_api_key", r"(?<value>\bAIza[0-9A-Za-z_\-]{35})", any);
    add(
        "google_oauth_token",
        r"(?<value>\bya29\.[0-9A-Za-z_\-]{20,})",
        any,
    );
    add(
        "ai_api_key",
        r"(?<value>\b(?:sk-(?:ant-|proj-|svcacct-)?[A-Za-z0-9_\-]{20,}|hf_[A-Za-z0-9]{30,}|pplx-[A-Za-z0-9]{40,}))",
        any,
    );
    add(
        "registry_token",
        r"(?<value>\b(?:npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_\-]{50,}|rubygems_[a-f0-9]{48}|dckr_pat_[A-Za-z0-9_\-]{20,}))",
        any,
    );
    add(
        "payment_key",
        r"(?<value>\b(?:[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9]{24,}))",
        any,
    );
    add(
        "mail_key",
        r"(?<value>\bSG\.[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{16,}|\bkey-[0-9a-f]{32}\b)",
        any,
    );
    add(
        "platform_token",
        r"(?<value>\b(?:hv[sbr]\.[A-Za-z0-9_\-]{24,}|do[opr]_v1_[a-f0-9]{64}|dapi[a-f0-9]{32}|gl(?:sa|c)_[A-Za-z0-9_]{32,}|NRAK-[A-Z0-9]{27}|sntry[su]_[A-Za-z0-9_=\-]{30,}|dp\.(?:pt|st)\.[A-Za-z0-9._\-]{40,}|AGE-SECRET-KEY-1[A-Z0-9]{58}|pul-[a-f0-9]{40}|ops_eyJ[A-Za-z0-9_\-]{40,}))",
        any,
    );
    add(
        "url_password",
        r"\b[A-Za-z][A-Za-z0-9+.\-]*://[^\s:/@]*:(?<value>[^\s/@]+)@",
        any,
    );
    add(
        "url_token",
        r"\b[A-Za-z][A-Za-z0-9+.\-]*://(?<value>[^\s:/@\[\]]{16,})@",
        any,
    );
    add(
        "signature",
        r"(?i)[?&](?:sig|signature|x-amz-signature|x-amz-credential|x-amz-security-token|x-goog-signature|code|key)=(?<value>[^\s&#\x22']{8,})",
        any,
    );
    add(
        "authorization",
        r"(?i)\b(?:proxy-)?authorization\b[\x22']?\s*[:=]\s*[\x22']?(?:[a-z]+\s+)?(?<value>[^\s\x22',]{6,})",
        any,
    );
    add(
        "authorization",
        r"(?i)\b(?:bearer|basic)\s+(?<value>[a-z0-9+/_.~\-]{12,}=*)",
        random,
    );
    add(
        "cookie",
        r"(?i)\b(?:set-)?cookie\b[\x22']?\s*[:=]\s*[\x22']?(?<value>[^\r\n\x22']{6,})",
        any,
    );
    add(
        "basic_login",
        r"(?:^|\s)(?:-u|--user)[ =](?<value>[^\s:]+:[^\s]+)",
        any,
    );
    add(
        "netrc_password",
        r"(?i)\blogin\s+\S+\s+password\s+(?<value>\S+)",
        any,
    );
    add(
        "password",
        r"(?i)\b[a-z0-9_.\-]*(?:password|passwd|pwd|passphrase)[\x22']?\s*[:=]\s*[\x22']?(?<value>[^\s\x22',;&]{4,})",
        |value| {
            !matches!(
                value.to_ascii_lowercase().as_str(),
                "null" | "none" | "true" | "false"
            )
        },
    );
    add(
        "secret",
        &format!(r"(?i)\b{SECRET_NAME}[\x22']?\s*[:=]\s*[\x22']?(?<value>[^\s\x22',;&]{{12,}})"),
        random,
    );
    add(
        "iban",
        r"\b(?<value>[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?)\b",
        iban,
    );
    add(
        "card_number",
        r"\b(?<value>(?:4[0-9]{3}|5[1-5][0-9]{2}|2[2-7][0-9]{2}|35[0-9]{2}|6[0-9]{3})[ \-]?[0-9]{4}[ \-]?[0-9]{4}[ \-]?[0-9]{4}|3[47][0-9]{2}[ \-]?[0-9]{6}[ \-]?[0-9]{5})\b",
        luhn,
    );
    add(
        "email",
        r"(?<value>\b[A-Za-z0-9._%+\-]+@[A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)*\.[A-Za-z]{2,})\b",
        any,
    );
    if addresses {
        add(
            "ip_address",
            r"\b(?<value>(?:[0-9]{1,3}\.){3}[0-9]{1,3})\b",
            |value| value.parse::<std::net::Ipv4Addr>().is_ok(),
        );
        add(
            "ip_address",
            r"(?<value>[0-9a-fA-F:]*:[0-9a-fA-F:]*:[0-9a-fA-F:.]*)",
            |value| value.parse::<std::net::Ipv6Addr>().is_ok(),
        );
    }
    rules
}

/// Whether a value looks made by a machine: three bits of entropy a character, and not a plain number or word.
fn random(value: &str) -> bool {
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
