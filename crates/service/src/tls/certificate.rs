//! What is read out of a certificate here: when it ends, and whose it is.

/// Names of a certificate's subject.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// `uniformResourceIdentifier`s, such as SPIFFE ids.
    pub(super) uris: Vec<String>,
    /// `dNSName`s; wildcards as they are written.
    pub(super) dns: Vec<String>,
    /// The last `commonName` of the subject, in a form that is UTF-8.
    pub(super) common: Option<String>,
}

/// Names of the subject and of its alternatives (RFC 5280 §4.1.2.6, §4.2.1.6); none for what is no X.509 certificate.
pub(super) fn names(der: &[u8]) -> Names {
    let mut names = Names::default();
    let Some(fields) = after_issuer(der) else {
        return names;
    };
    // What is not there or not of this form leaves the names found so far.
    let _complete = read_names(fields, &mut names);
    names
}

fn read_names(fields: &[u8], names: &mut Names) -> Option<()> {
    let (_validity, fields) = element(fields, SEQUENCE)?;
    let (mut relative_names, mut fields) = element(fields, SEQUENCE)?;
    while let Some((set, rest)) = element(relative_names, SET) {
        relative_names = rest;
        let (attribute, _) = element(set, SEQUENCE)?;
        if let Some((COMMON_NAME, value)) = element(attribute, OBJECT_ID)
            && let Some(((UTF8_STRING | PRINTABLE_STRING | IA5_STRING, text), _)) = any_element(value)
        {
            names.common = text_of(text);
        }
    }
    while let Some(((tag, contents), rest)) = any_element(fields) {
        fields = rest;
        if tag == EXTENSIONS {
            let (mut extensions, _) = element(contents, SEQUENCE)?;
            while let Some((extension, rest)) = element(extensions, SEQUENCE) {
                extensions = rest;
                read_extension(extension, names);
            }
        }
    }
    Some(())
}

fn read_extension(extension: &[u8], names: &mut Names) -> Option<()> {
    let (id, mut value) = element(extension, OBJECT_ID)?;
    if id != SUBJECT_ALT_NAME {
        return None;
    }
    if let Some((_critical, rest)) = element(value, BOOLEAN) {
        value = rest;
    }
    let (value, _) = element(value, OCTET_STRING)?;
    let (mut general_names, _) = element(value, SEQUENCE)?;
    while let Some(((tag, text), rest)) = any_element(general_names) {
        general_names = rest;
        match tag {
            DNS_NAME => names.dns.extend(text_of(text)),
            URI => names.uris.extend(text_of(text)),
            _ => {}
        }
    }
    Some(())
}

/// A name that can be shown and compared; one with control characters is nobody's.
fn text_of(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

/// Seconds since 1970 at which the certificate's validity ends; nothing for what is no X.509 certificate.
///
/// RFC 5280 §4.1: `Certificate ::= SEQUENCE { TBSCertificate ::= SEQUENCE { [0] version, serialNumber, signature,
/// issuer, Validity ::= SEQUENCE { notBefore, notAfter }, … } … }`.
pub(super) fn not_after(der: &[u8]) -> Option<i64> {
    let (validity, _) = element(after_issuer(der)?, SEQUENCE)?;
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

/// The fields of a certificate from its validity on.
fn after_issuer(der: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if let Some((_version, rest)) = element(fields, VERSION) {
        fields = rest;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        fields = element(fields, tag)?.1; // serial number, signature algorithm, issuer
    }
    Some(fields)
}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// `[2]` and `[6]` of a `GeneralName`.
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;
/// `id-at-commonName`, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// `id-ce-subjectAltName`, 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

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
    fn names_are_read_and_a_cut_certificate_has_fewer() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params =
            rcgen::CertificateParams::new(["a.example".to_owned(), "*.b.example".to_owned()]).expect("names");
        let spiffe = "spiffe://cluster/ns/team/sa/client";
        params
            .subject_alt_names
            .push(rcgen::SanType::URI(spiffe.try_into().expect("ASCII")));
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "client");
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
        let certificate = params.self_signed(&key).expect("a certificate");
        let expected = Names {
            uris: vec![spiffe.to_owned()],
            dns: vec!["a.example".to_owned(), "*.b.example".to_owned()],
            common: Some("client".to_owned()),
        };
        assert_eq!(names(certificate.der()), expected);
        for cut in 0..certificate.der().len() {
            let names = names(&certificate.der()[..cut]);
            assert!(names.uris.len() <= 1 && names.dns.len() <= 2, "{cut}");
        }
        assert_eq!(text_of(b"a\nb"), None);
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
