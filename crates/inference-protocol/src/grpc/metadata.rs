//! Header and trailer values: `grpc-timeout`, `grpc-message`.

use std::{borrow::Cow, time::Duration};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

/// What `grpc-message` percent-encodes besides non-ASCII: everything outside of space to `~`, and `%` itself.
const GRPC_MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

/// A text as the `grpc-message` trailer carries it.
pub fn encode_status_message(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, GRPC_MESSAGE).into()
}

/// The text of a `grpc-message` trailer.
pub fn decode_status_message(value: &[u8]) -> String {
    percent_decode(value).decode_utf8_lossy().into_owned()
}

/// The time that a `grpc-timeout` header gives: at most eight digits and a unit (`H`, `M`, `S`, `m`, `u`, `n`).
/// `None` for anything else.
pub fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (&unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// A `grpc-timeout` header: the finest unit in which eight digits suffice, rounded down, so that nobody is given
/// more time than there is.
pub fn format_timeout(timeout: Duration) -> String {
    const LONGEST: u128 = 99_999_999;
    let nanos = timeout.as_nanos();
    for (unit, in_nanos) in [
        ('n', 1),
        ('u', 1_000),
        ('m', 1_000_000),
        ('S', 1_000_000_000),
        ('M', 60_000_000_000_u128),
    ] {
        if nanos / in_nanos <= LONGEST {
            return format!("{}{unit}", nanos / in_nanos);
        }
    }
    format!("{}H", (nanos / 3_600_000_000_000).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_travel_as_printable_ascii() {
        let text = "input `x`: 100 % né\n";
        let encoded = encode_status_message(text);
        assert_eq!(encoded, "input `x`: 100 %25 n%C3%A9%0A");
        assert_eq!(decode_status_message(encoded.as_bytes()), text);
        assert_eq!(decode_status_message(b"%zz%"), "%zz%");
    }

    #[test]
    fn timeouts_read_back_and_nonsense_does_not() {
        for (text, duration) in [
            ("1S", Duration::from_secs(1)),
            ("250m", Duration::from_millis(250)),
            ("99999999H", Duration::from_hours(99_999_999)),
            ("7n", Duration::from_nanos(7)),
        ] {
            assert_eq!(parse_timeout(text.as_bytes()), Some(duration));
        }
        for text in ["", "S", "1", "1s", "-1S", "123456789S", "1.5S", " 1S"] {
            assert_eq!(parse_timeout(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn formatted_timeouts_never_grow_and_hardly_shrink() {
        for nanos in [0, 1, 99_999_999, 100_000_000, 123_456_789_012, u64::MAX] {
            let timeout = Duration::from_nanos(nanos);
            let sent = parse_timeout(format_timeout(timeout).as_bytes()).unwrap();
            assert!(
                sent <= timeout && timeout.abs_diff(sent) <= timeout / 100_000,
                "{timeout:?} {sent:?}"
            );
        }
        assert_eq!(
            parse_timeout(format_timeout(Duration::MAX).as_bytes()).map(|t| t.as_secs()),
            Some(99_999_999 * 3600)
        );
    }
}
