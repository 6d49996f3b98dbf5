//! What the access log tells of, and where.

use std::path::PathBuf;

use plumbline_service::config::{ParseSetting, Reader};

/// The access log.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogSpec {
    /// Where lines go.
    pub to: AccessLogTo,
    /// The share of successes that are told of, 0 to 1. What is no success always is.
    pub sample: f64,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTo {
    /// There is none.
    Off,
    /// Standard output; the program's own log is on standard error.
    Stdout,
    /// A file that is appended to.
    File(PathBuf),
}

impl Default for AccessLogSpec {
    fn default() -> Self {
        Self {
            to: AccessLogTo::Off,
            sample: 1.0,
        }
    }
}

impl ParseSetting for AccessLogTo {
    fn parse_setting(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "stdout" => Ok(Self::Stdout),
            "" => Err("expected off, stdout or a file".to_owned()),
            file => Ok(Self::File(file.into())),
        }
    }
}

pub(super) fn read(reader: &mut Reader) -> AccessLogSpec {
    let sample = reader.value("access_log_sample");
    reader.check(
        "access_log_sample",
        (0.0..=1.0).contains(&sample),
        "must be between 0 and 1",
    );
    AccessLogSpec {
        to: reader.value("access_log"),
        sample,
    }
}
