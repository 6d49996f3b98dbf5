//! `fit`: what of a log a model would be shown.

use std::process::ExitCode;

use plumbline_log_fitting::{Fitter, Line};
use plumbline_service::config::Setting;

use super::{once, read_file};
use crate::collect::logs;
use crate::config::Config;
use crate::redact::Redactor;

const OWN: [Setting; 2] = [
    Setting::new("file", "FILE", "A log; - for standard input."),
    Setting::new(
        "good_log",
        "FILE",
        "A log of the same job in which all went well: lines that it has, too, tell little.",
    ),
];

struct What {
    file: String,
    good_log: Option<String>,
}

/// `fit --file FILE [--good-log FILE]`
pub(super) fn main(arguments: Vec<String>) -> ExitCode {
    once(
        arguments,
        &OWN,
        |reader, _| What {
            file: reader.required("file", String::new()),
            good_log: reader.optional("good_log"),
        },
        async |config, what| fit(&config, &what),
    )
}

fn fit(config: &Config, what: &What) -> Result<String, String> {
    let redactor = Redactor::new(&config.secrets(), config.redact_addresses);
    let mut redaction = redactor.begin([]);
    let mut read = |file: &str| {
        let bytes = read_file(file)?;
        Ok::<_, String>(logs::lines(&String::from_utf8_lossy(&bytes), 0, &mut redaction))
    };
    let baseline: Option<Vec<Line>> = what.good_log.as_deref().map(&mut read).transpose()?;
    let mut fitter = Fitter::new(baseline.map(|lines| lines.iter().collect()));
    fitter.extend(read(&what.file)?);
    Ok(fitter.fit(config.sources.log_budget).text)
}
