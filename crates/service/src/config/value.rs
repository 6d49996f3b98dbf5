//! How the text of a setting becomes a value, and what a person is told when it does not.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

/// A value that a setting can have.
pub trait ParseSetting: Sized {
    /// The value, or what was expected instead (completes the sentence "…: expected …").
    ///
    /// # Errors
    /// A description of what is expected.
    fn parse_setting(text: &str) -> Result<Self, String>;
}

macro_rules! through_from_str {
    ($($Type:ty => $expected:literal),* $(,)?) => {$(
        impl ParseSetting for $Type {
            fn parse_setting(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("expected {}", $expected))
            }
        }
    )*};
}

through_from_str! {
    bool => "true or false",
    u16 => "a whole number from 0 to 65535",
    u32 => "a whole number from 0 to 4294967295",
    u64 => "a whole number",
    usize => "a whole number",
    NonZeroU32 => "a whole number of at least 1",
    NonZeroU64 => "a whole number of at least 1",
    NonZeroUsize => "a whole number of at least 1",
    SocketAddr => "an address with a port, such as 0.0.0.0:8080 or [::]:8080",
}

impl ParseSetting for f64 {
    fn parse_setting(text: &str) -> Result<Self, String> {
        let number: Option<f64> = text.parse().ok();
        number
            .filter(|number| number.is_finite())
            .ok_or_else(|| "expected a finite number".to_owned())
    }
}

impl ParseSetting for String {
    fn parse_setting(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Err("expected a value, got an empty one".to_owned())
        } else {
            Ok(text.to_owned())
        }
    }
}

impl ParseSetting for PathBuf {
    fn parse_setting(text: &str) -> Result<Self, String> {
        String::parse_setting(text).map(Self::from)
    }
}

impl ParseSetting for http::Uri {
    fn parse_setting(text: &str) -> Result<Self, String> {
        let uri: Option<http::Uri> = text.parse().ok();
        let complete = |uri: &http::Uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        };
        uri.filter(complete)
            .ok_or_else(|| "expected a URL such as http://127.0.0.1:8090".to_owned())
    }
}

impl ParseSetting for Duration {
    fn parse_setting(text: &str) -> Result<Self, String> {
        let expected = || "expected a time with a unit: 250ms, 30s, 5m or 2h".to_owned();
        let digits = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| if text == "0" { String::new() } else { expected() });
        let split = match digits {
            Ok(split) => split,
            Err(message) if message.is_empty() => return Ok(Self::ZERO),
            Err(message) => return Err(message),
        };
        let (number, unit) = text.split_at(split);
        let number: f64 = number.parse().map_err(|_| expected())?;
        let seconds_per_unit = match unit.trim() {
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return Err(expected()),
        };
        Self::try_from_secs_f64(number * seconds_per_unit).map_err(|_| expected())
    }
}

/// A number of bytes, written plain or with a unit: `64MiB`, `512KiB`, `1048576`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// As a size of memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl ParseSetting for ByteSize {
    fn parse_setting(text: &str) -> Result<Self, String> {
        let expected = || "expected a number of bytes such as 1048576, 512KiB or 64MiB".to_owned();
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let number: u64 = number.parse().map_err(|_| expected())?;
        let factor: u64 = match unit.trim() {
            "" | "B" => 1,
            "kB" => 1_000,
            "KiB" => 1 << 10,
            "MB" => 1_000_000,
            "MiB" => 1 << 20,
            "GB" => 1_000_000_000,
            "GiB" => 1 << 30,
            _ => return Err(expected()),
        };
        number.checked_mul(factor).map(Self).ok_or_else(expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(Duration::parse_setting("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(Duration::parse_setting("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(Duration::parse_setting("2h"), Ok(Duration::from_hours(2)));
        assert_eq!(Duration::parse_setting("0"), Ok(Duration::ZERO));
        for bad in [
            "",
            "5",
            "s",
            "-1s",
            "5 parsecs",
            "1e400s",
            "99999999999999999999d",
        ] {
            assert!(Duration::parse_setting(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn byte_sizes_take_units_and_refuse_overflow() {
        assert_eq!(ByteSize::parse_setting("64MiB"), Ok(ByteSize(67_108_864)));
        assert_eq!(ByteSize::parse_setting("10kB"), Ok(ByteSize(10_000)));
        for bad in [
            "",
            "MiB",
            "1.5MiB",
            "-1",
            "99999999999999999999GiB",
            "18446744073709551615KiB",
        ] {
            assert!(ByteSize::parse_setting(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_are_complete() {
        assert!(http::Uri::parse_setting("http://worker:8090/api").is_ok());
        for bad in ["worker:8090", "/api", "ftp://worker", "http://"] {
            assert!(http::Uri::parse_setting(bad).is_err(), "{bad}");
        }
    }
}
