//! The standard environment variables of OpenTelemetry, for what is exported here.
//!
//! Source: <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/> and
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use percent_encoding::percent_decode_str;

use crate::ClientTlsFiles;
use crate::config::{ParseSetting, Reader, Setting};
use crate::trace::TraceContext;
use crate::upstream::Target;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const TRACES_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const TRACES_HEADERS: &str = "OTEL_EXPORTER_OTLP_TRACES_HEADERS";
const TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TIMEOUT";
const TRACES_TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT";
const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const RESOURCE_ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
const SDK_DISABLED: &str = "OTEL_SDK_DISABLED";
const QUEUE_SIZE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
const BATCH_SIZE: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
const DELAY: &str = "OTEL_BSP_SCHEDULE_DELAY";

/// What every part reads.
pub(crate) const SETTINGS: [Setting; 17] = [
    Setting::variable(
        ENDPOINT,
        "A collector's URL; spans go to /v1/traces below it. Nothing is exported without it or the next.",
    ),
    Setting::variable(TRACES_ENDPOINT, "The whole URL that spans go to."),
    Setting::variable(PROTOCOL, "http/protobuf, the only one so far."),
    Setting::variable(TRACES_PROTOCOL, "The same for spans; wins."),
    Setting::secret_variable(HEADERS, "Headers for the collector: key=value,key=value."),
    Setting::secret_variable(TRACES_HEADERS, "The same for spans; wins."),
    Setting::variable(
        TIMEOUT,
        "Milliseconds for one export. 10000 where it is not given.",
    ),
    Setting::variable(TRACES_TIMEOUT, "The same for spans; wins."),
    Setting::variable(
        CERTIFICATE,
        "PEM file of the authorities that a collector under https:// has to be certified by.",
    ),
    Setting::variable(
        SERVICE_NAME,
        "service.name of the spans; plumbline-PART where it is not given.",
    ),
    Setting::variable(
        RESOURCE_ATTRIBUTES,
        "More about the process: key=value,key=value.",
    ),
    Setting::variable(
        SAMPLER,
        "always_on, always_off, traceidratio, or parentbased_ and one of these; parentbased_always_on where it is not given.",
    ),
    Setting::variable(
        SAMPLER_ARG,
        "Share of traces that traceidratio records, from 0 to 1.",
    ),
    Setting::variable(SDK_DISABLED, "true: nothing is exported."),
    Setting::variable(
        QUEUE_SIZE,
        "Spans that wait at most; more are dropped. 2048 where it is not given.",
    ),
    Setting::variable(
        BATCH_SIZE,
        "Spans in one export at most. 512 where it is not given.",
    ),
    Setting::variable(
        DELAY,
        "Milliseconds that a span waits for others. 5000 where it is not given.",
    ),
];

/// Which requests are recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// A caller's decision is followed; `share` is for traces that begin here.
    pub parent_based: bool,
    /// Share of traces, by their id, so that every process that draws decides alike.
    pub share: f64,
}

impl Default for Sampler {
    fn default() -> Self {
        Self {
            parent_based: true,
            share: 1.0,
        }
    }
}

impl Sampler {
    pub(super) fn records(self, caller: Option<TraceContext>, trace_id: u128) -> bool {
        match caller {
            Some(caller) if self.parent_based => caller.sampled,
            // As the SDKs do: the lower half of the id without its last bit, against the share of 2⁶³.
            _ => (trace_id as u64 >> 1) < (self.share * (1_u64 << 63) as f64) as u64,
        }
    }
}

/// Where spans go, and which.
#[derive(Clone, Debug)]
pub struct TraceExport {
    pub(super) target: Target,
    pub(super) path: PathAndQuery,
    /// The authorities of a collector under TLS.
    pub(super) tls: Option<ClientTlsFiles>,
    /// Sent with every export.
    pub(super) headers: HeaderMap,
    /// Time for one export.
    pub timeout: Duration,
    /// Which requests are recorded.
    pub sampler: Sampler,
    /// `service.name`, if it is not that of the part.
    pub service_name: Option<String>,
    /// What else is told of the process.
    pub resource: Vec<(String, String)>,
    /// Spans that wait at most.
    pub max_queue: usize,
    /// Spans in one export at most.
    pub max_batch: usize,
    /// Time that a span waits for others.
    pub delay: Duration,
}

impl TraceExport {
    /// To this URL, with the defaults.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn to(url: &Uri) -> Result<Self, String> {
        let (scheme, authority) = (url.scheme_str().unwrap_or(""), url.authority());
        let base = format!(
            "{scheme}://{}",
            authority.map_or("", |authority| authority.as_str())
        );
        let path = url.path_and_query().cloned();
        Ok(Self {
            target: Target::parse_setting(&base)?,
            path: path.unwrap_or_else(|| PathAndQuery::from_static("/")),
            tls: None,
            headers: HeaderMap::new(),
            timeout: Duration::from_secs(10),
            sampler: Sampler::default(),
            service_name: None,
            resource: Vec::new(),
            max_queue: 2_048,
            max_batch: 512,
            delay: Duration::from_secs(5),
        })
    }

    /// Nothing when nothing is to be exported; the other variables are not looked at then, as they may be there for
    /// others.
    pub(crate) fn read(reader: &mut Reader) -> Option<Self> {
        // Only `true` turns it off (as the specification has it), in any case.
        let disabled = reader.optional::<String>(SDK_DISABLED);
        if disabled.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return None;
        }
        let (base, whole) = (
            reader.optional::<Uri>(ENDPOINT),
            reader.optional::<Uri>(TRACES_ENDPOINT),
        );
        let (setting, url) = match (whole, base) {
            (Some(whole), _) => (TRACES_ENDPOINT, whole),
            (None, Some(base)) => (ENDPOINT, below(&base, "v1/traces")),
            (None, None) => return None,
        };
        let mut export = match Self::to(&url) {
            Ok(export) => export,
            Err(problem) => {
                reader.reject(setting, problem);
                return None;
            }
        };
        export.tls = tls(reader, setting, export.target.is_tls());
        protocol(reader);
        export.headers = headers(reader);
        let timeout = either(reader, TRACES_TIMEOUT, TIMEOUT).map(|(_, timeout)| timeout);
        export.timeout = timeout.map_or(export.timeout, Duration::from_millis);
        export.sampler = sampler(reader);
        export.service_name = reader.optional(SERVICE_NAME);
        export.resource = match reader.optional::<Pairs>(RESOURCE_ATTRIBUTES) {
            Some(Pairs(pairs)) => pairs,
            None => Vec::new(),
        };
        export.max_queue = at_least_one(reader, QUEUE_SIZE).unwrap_or(export.max_queue);
        export.max_batch = at_least_one(reader, BATCH_SIZE).unwrap_or(export.max_batch);
        export.delay = reader.optional(DELAY).map_or(export.delay, Duration::from_millis);
        Some(export)
    }
}

fn below(base: &Uri, path: &str) -> Uri {
    let text = base.to_string();
    let joined = format!("{}/{path}", text.trim_end_matches('/'));
    // A query at its end would swallow the path.
    Uri::from_str(&joined).unwrap_or_else(|_| base.clone())
}

fn either<T: ParseSetting>(
    reader: &mut Reader,
    first: &'static str,
    second: &'static str,
) -> Option<(&'static str, T)> {
    let (one, other) = (reader.optional(first), reader.optional(second));
    one.map(|value| (first, value))
        .or_else(|| other.map(|value| (second, value)))
}

fn at_least_one(reader: &mut Reader, name: &'static str) -> Option<usize> {
    let count = reader.optional::<u32>(name)?;
    reader.check(name, count > 0, "must be at least 1");
    Some(count as usize)
}

fn tls(reader: &mut Reader, endpoint: &'static str, is_tls: bool) -> Option<ClientTlsFiles> {
    let ca = reader.optional::<PathBuf>(CERTIFICATE);
    if !is_tls {
        return None;
    }
    let Some(ca) = ca else {
        reader.reject(
            endpoint,
            format!("https:// needs {CERTIFICATE}, the file of its authorities"),
        );
        return None;
    };
    let files = ClientTlsFiles {
        ca,
        identity: None,
        settings: [CERTIFICATE; 3],
    };
    if let Err(error) = files.check() {
        reader.reject(CERTIFICATE, crate::error_chain(&error));
    }
    Some(files)
}

fn protocol(reader: &mut Reader) {
    if let Some((name, protocol)) = either::<String>(reader, TRACES_PROTOCOL, PROTOCOL)
        && protocol != "http/protobuf"
    {
        let message = format!(
            "`{protocol}` is not supported: expected http/protobuf, which collectors take on port 4318"
        );
        reader.reject(name, message);
    }
}

fn headers(reader: &mut Reader) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some((setting, Pairs(pairs))) = either(reader, TRACES_HEADERS, HEADERS) else {
        return headers;
    };
    for (name, value) in pairs {
        match (HeaderName::from_str(&name), HeaderValue::from_str(&value)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            // Without the value, which may be a credential.
            _ => reader.reject(setting, format!("`{name}` or its value cannot be in a header")),
        }
    }
    headers
}

fn sampler(reader: &mut Reader) -> Sampler {
    let argument = reader.optional::<f64>(SAMPLER_ARG);
    let Some(name) = reader.optional::<String>(SAMPLER) else {
        return Sampler::default();
    };
    let (parent_based, root) = match name.strip_prefix("parentbased_") {
        Some(root) => (true, root),
        None => (false, name.as_str()),
    };
    let share = match root {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => argument.unwrap_or(1.0),
        _ => {
            let message = format!(
                "`{name}` is not supported: expected always_on, always_off, traceidratio, or parentbased_ and one of these"
            );
            reader.reject(SAMPLER, message);
            1.0
        }
    };
    if !(0.0..=1.0).contains(&share) {
        reader.reject(SAMPLER_ARG, "expected a share from 0 to 1");
    }
    Sampler { parent_based, share }
}

/// `key=value,key=value`, values percent-encoded.
struct Pairs(Vec<(String, String)>);

impl ParseSetting for Pairs {
    fn parse_setting(text: &str) -> Result<Self, String> {
        let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let decode = |text: &str| Some(percent_decode_str(text.trim()).decode_utf8().ok()?.into_owned());
            Some((decode(key).filter(|key| !key.is_empty())?, decode(value)?))
        });
        let pairs: Option<Vec<_>> = pairs.collect();
        let expected = || "expected key=value,key=value with percent-encoded values".to_owned();
        pairs.map(Self).ok_or_else(expected)
    }
}
