//! The one thing that is read out of a certificate here: when it ends.

/// Seconds since 1970 at which the certificate's validity ends; nothing for what is no X.509 certificate.
///
/// RFC 5280 §4.1: `Certificate ::= SEQUENCE { TBSCertificate ::= SEQUENCE { [0] version, serialNumber, signature,
/// issuer, Validity ::= SEQUENCE { notBefore, notAfter }, … } … }`.
pub(super) fn not_after(der: &[u8]) -> Option<i64> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if let Some((_version, rest)) = element(fields, VERSION) {
        fields = rest;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        fields = element(fields, tag)?.1; // serial number, signature algorithm, issuer
    }
    let (validity, _) = element(fields, SEQUENCE)?;
    let (_not_before, rest) = any_element(validity)?;
    match any_element(rest)? {
        ((UTC_TIME, text), _) => {
            let years = number(text.get(..2)?)?;
            // RFC 5280 §4.1.2.5.1: two digits mean 1950 to 2049.
            seconds(
                if years >= 50 { 1900 + years } else { 2000 + years },
                text.get(2..)?,
            )
        }
        ((GENERALIZED_TIME, text), _) => seconds(number(text.get(..4)?)?, text.get(4..)?),
        _ => None,
    }
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// Contents of the first element, which has to have this tag, and what follows it.
fn element(der: &[u8], expected: u8) -> Option<(&[u8], &[u8])> {
    let ((tag, contents), rest) = any_element(der)?;
    (tag == expected).then_some((contents, rest))
}

/// Tag and contents.
type Element<'a> = (u8, &'a [u8]);

/// The first element, and what follows it.
fn any_element(der: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut len = usize::from(first);
    if first >= 0x80 {
        let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if bytes.is_empty() || bytes.len() > 4 {
            return None;
        }
        len = bytes.iter().fold(0, |len, &byte| len << 8 | usize::from(byte));
        rest = after;
    }
    let (contents, rest) = rest.split_at_checked(len)?;
    Some(((tag, contents), rest))
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + i64::from(digit - b'0'))
    })
}

/// Seconds since 1970 of a year and `MMDDhhmmssZ`.
fn seconds(year: i64, rest: &[u8]) -> Option<i64> {
    let rest = rest.strip_suffix(b"Z").filter(|digits| digits.len() == 10)?;
    let part = |at: usize| number(&rest[at..at + 2]);
    let (month, day) = (part(0)?, part(2)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days from civil, by Howard Hinnant: years that begin in March put the leap day at their end.
    let (year, shifted) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(((days * 24 + part(4)?) * 60 + part(6)?) * 60 + part(8)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_validity_is_read_in_both_forms() {
        // `date -u -d … +%s`
        for (year, month, day, expected) in [
            (2049, 12, 31, 2_524_521_600), // UTCTime
            (2050, 1, 1, 2_524_608_000),   // GeneralizedTime
            (2028, 2, 29, 1_835_395_200),
            (1970, 1, 2, 86_400),
        ] {
            let key = rcgen::KeyPair::generate().expect("a key");
            let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
            params.not_before = rcgen::date_time_ymd(1970, 1, 1);
            params.not_after = rcgen::date_time_ymd(year, month, day);
            let certificate = params.self_signed(&key).expect("a certificate");
            assert_eq!(
                not_after(certificate.der()),
                Some(expected),
                "{year}-{month}-{day}"
            );
            for cut in 0..60 {
                assert_eq!(not_after(&certificate.der()[..cut]), None);
            }
        }
    }

    #[test]
    fn times_of_day_count_and_nonsense_does_not() {
        assert_eq!(seconds(2026, b"1123024501Z"), Some(1_795_401_901));
        for bad in [
            &b""[..],
            b"Z",
            b"1323024501Z",
            b"1100024501Z",
            b"112302450Z",
            b"11230245x1Z",
            b"1123024501",
        ] {
            assert_eq!(seconds(2026, bad), None, "{bad:?}");
        }
    }
}
