//! The settings that every part has.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Reader, Setting};
use crate::telemetry::LogFormat;
use crate::traces::TraceExport;

/// Settings that every part has; a part adds its own ports as defaults.
#[derive(Clone, Debug)]
pub struct Common {
    /// Data port.
    pub listen: SocketAddr,
    /// Admin port: `/livez`, `/readyz`, `/metrics`, `/version`, `/config`.
    pub admin_listen: SocketAddr,
    /// Time that a client may take nothing of an answer that waits for it.
    pub client_write_timeout: Duration,
    /// What is logged, as a `tracing` filter.
    pub log: String,
    /// How it is logged.
    pub log_format: LogFormat,
    /// Time between "not ready" and "stop accepting" after SIGTERM, so that endpoints notice.
    pub drain_delay: Duration,
    /// Time that in-flight requests get after that.
    pub drain_timeout: Duration,
    /// Where ports are handed over from one process to the next; of parts that have such a setting.
    pub handover: Option<PathBuf>,
    /// Where spans are exported to.
    pub traces: Option<TraceExport>,
}

impl Common {
    /// The settings, with these default ports.
    pub const fn settings(listen: &'static str, admin_listen: &'static str) -> [Setting; 7] {
        [
            Setting::new("listen", "ADDR", "Data port; port 0 picks a free one.").default(listen),
            Setting::new(
                "admin_listen",
                "ADDR",
                "Admin port: /livez, /readyz, /metrics, /version, /config.",
            )
            .default(admin_listen),
            Setting::new(
                "client_write_timeout",
                "TIME",
                "Time that a client may take nothing of an answer that waits for it.",
            )
            .default("60s"),
            Setting::new("log", "FILTER", "What is logged: a level, or levels by module.").default("info"),
            Setting::new("log_format", "FORMAT", "text, json, or auto: text on a terminal.").default("auto"),
            Setting::new(
                "drain_delay",
                "TIME",
                "Time between not ready and no longer accepting after SIGTERM.",
            )
            .default("5s"),
            Setting::new(
                "drain_timeout",
                "TIME",
                "Time that requests in flight get after that.",
            )
            .default("20s"),
        ]
    }

    /// Reads them.
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            listen: reader.value("listen"),
            admin_listen: reader.value("admin_listen"),
            client_write_timeout: positive(reader, "client_write_timeout"),
            log: reader.value("log"),
            log_format: reader.value("log_format"),
            drain_delay: reader.value("drain_delay"),
            drain_timeout: reader.value("drain_timeout"),
            handover: None,
            traces: TraceExport::read(reader),
        }
    }

    /// For tests and for several parts in one process: free ports on loopback, no drain delay.
    pub fn on_loopback() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            listen: any,
            admin_listen: any,
            client_write_timeout: Duration::from_mins(1),
            log: "info".to_owned(),
            log_format: LogFormat::Auto,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(5),
            handover: None,
            traces: None,
        }
    }
}

fn positive(reader: &mut Reader, name: &'static str) -> Duration {
    let time: Duration = reader.value(name);
    reader.check(name, !time.is_zero(), "must be longer than 0");
    time
}
