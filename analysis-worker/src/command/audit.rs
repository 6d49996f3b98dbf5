//! `audit`: follows or prints the audit log of a store.

use std::process::ExitCode;

use plumbline_service::config::{Common, Outcome, Reader, Setting, load};

use super::{PART, USAGE, fail, not_started};
use crate::audit;
use crate::config::{Config, PORTS, SETTINGS};

const OWN: [Setting; 1] = [Setting::new(
    "head",
    "HASH",
    "Hash of an entry, as an earlier `audit verify` printed it: the log has to have it still.",
)];

/// `audit verify` and `audit export`: exit status 0, 1 when the log does not hold or cannot be read, 2 for problems of
/// the configuration.
pub(super) fn main(mut arguments: Vec<String>) -> ExitCode {
    let task = match arguments.first().map(String::as_str) {
        Some(task @ ("verify" | "export")) => task.to_owned(),
        _ => return fail(2, &format!("audit needs verify or export\n\n{USAGE}")),
    };
    arguments.remove(0);
    let common = Common::settings(PORTS.0, PORTS.1);
    let read = |reader: &mut Reader| {
        let (_, config) = Config::read(reader);
        (config.store, reader.optional("head"))
    };
    let outcome = load(
        PART.name,
        &[&OWN, &common, SETTINGS],
        arguments,
        std::env::vars(),
        read,
    );
    let (store, head) = match outcome {
        Ok(Outcome::Start { config, .. }) => config,
        other => return not_started(other),
    };
    let task = match task.as_str() {
        "verify" => audit::Task::Verify { head },
        _ => audit::Task::Export,
    };
    match audit::run(&store, &task, &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &format!("{}: {error}", store.display())),
    }
}
