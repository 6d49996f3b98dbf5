//! Flags, environment and file, brought to one list of given values.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::pieces::{self, Pieces};
use super::reader::{Given, Origin, Problem, Problems, Reader, Tabled};
use super::{Kind, Setting};

/// What asking for a configuration can come to.
#[derive(Debug)]
pub enum Outcome<C> {
    /// Start with this. `shown` is the merged configuration without secrets, as JSON.
    Start {
        /// The typed configuration.
        config: C,
        /// What `/config` answers.
        shown: serde_json::Value,
    },
    /// `--check-config`: it is valid, and that was all.
    Valid,
    /// `--help`: print this.
    Help(String),
    /// `--version`.
    Version,
}

const META: [Setting; 2] = [
    Setting::new(
        "config",
        "FILE",
        "TOML file with settings; flags and environment override it.",
    ),
    Setting::switch(
        "check_config",
        "Checks the configuration and exits: 0 when valid, 2 otherwise.",
    ),
];

/// Where a configuration comes from, kept to read it again: the file may have changed, flags and environment have not.
pub struct Source {
    part: String,
    settings: Vec<Setting>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// `--config`.
    file: Option<PathBuf>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Source");
        shown.field("part", &self.part).field("file", &self.file);
        shown.finish_non_exhaustive() // the rest may hold secrets
    }
}

impl Source {
    /// The `--config` file, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Merges everything again and builds the configuration, with what `/config` would show of it.
    ///
    /// # Errors
    /// As [`super::load`].
    ///
    /// # Panics
    /// When it had been read with `--help`, `--version` or `--check-config`, which start nothing that reads again.
    pub fn load<C>(&self, build: impl FnOnce(&mut Reader) -> C) -> Result<(C, serde_json::Value), Problems> {
        let (arguments, environment) = (self.arguments.clone(), self.environment.clone());
        match load(&self.part, &self.settings, arguments, environment, build)? {
            Outcome::Start { config, shown } => Ok((config, shown)),
            Outcome::Valid | Outcome::Help(_) | Outcome::Version => panic!("nothing was started"),
        }
    }
}

pub(super) fn load<C>(
    part: &str,
    settings: &[Setting],
    arguments: impl IntoIterator<Item = String>,
    environment: impl IntoIterator<Item = (String, String)>,
    build: impl FnOnce(&mut Reader) -> C,
) -> Result<Outcome<C>, Problems> {
    let known: Vec<Setting> = META.iter().chain(settings).copied().collect();
    let mut problems = Vec::new();
    let prefix = format!("PLUMBLINE_{}_", part.to_uppercase().replace('-', "_"));
    let arguments: Vec<String> = arguments.into_iter().collect();
    let environment: Vec<(String, String)> = environment.into_iter().collect();

    let flags = match read_flags(&known, arguments.iter().cloned(), &mut problems) {
        Flags::Given(flags) => flags,
        Flags::Help => return Ok(Outcome::Help(help(part, &prefix, &known))),
        Flags::Version => return Ok(Outcome::Version),
    };
    let variables = read_environment(&prefix, &known, environment.iter().cloned(), &mut problems);

    let mut given = BTreeMap::new();
    let path = flags
        .get("config")
        .or_else(|| variables.get("config"))
        .and_then(Given::first)
        .map(PathBuf::from);
    if let Some(path) = &path {
        read_file(path, settings, &mut given, &mut problems);
    }
    given.extend(variables);
    given.extend(flags);

    let check_only = given.contains_key("check_config");
    let source = Source {
        part: part.to_owned(),
        settings: settings.to_vec(),
        arguments,
        environment,
        file: path,
    };
    let mut reader = Reader::new(known, given, problems, Arc::new(source));
    let config = build(&mut reader);
    let (shown, problems) = reader.finish();
    if !problems.is_empty() {
        return Err(Problems {
            part: part.to_owned(),
            problems,
        });
    }
    Ok(if check_only {
        Outcome::Valid
    } else {
        Outcome::Start { config, shown }
    })
}

enum Flags {
    Given(BTreeMap<&'static str, Given>),
    Help,
    Version,
}

fn read_flags(
    known: &[Setting],
    arguments: impl IntoIterator<Item = String>,
    problems: &mut Vec<Problem>,
) -> Flags {
    let mut given: BTreeMap<&'static str, Given> = BTreeMap::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if matches!(argument.as_str(), "--help" | "-h") {
            return Flags::Help;
        }
        if matches!(argument.as_str(), "--version" | "-V") {
            return Flags::Version;
        }
        let (flag, attached) = match argument.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
            None => (argument, None),
        };
        let setting = known
            .iter()
            .find(|setting| setting.has_flag() && setting.flag() == flag);
        let Some(setting) = setting else {
            problems.push(Problem::new(flag, "", "no such flag; --help lists them"));
            continue;
        };
        let value = if setting.kind == Kind::Switch {
            attached.unwrap_or_else(|| "true".to_owned())
        } else if let Some(value) = attached.or_else(|| arguments.next()) {
            value
        } else {
            let message = format!("expected a value: {flag} {}", setting.value);
            problems.push(Problem::new(flag, "", message));
            continue;
        };
        let earlier = given.remove(setting.name);
        let mut values = match earlier {
            Some(Given { values, .. }) if setting.kind == Kind::Repeated => values,
            Some(_) => {
                problems.push(Problem::new(flag.clone(), "", "given more than once"));
                Vec::new()
            }
            None => Vec::new(),
        };
        values.push(value);
        given.insert(
            setting.name,
            Given {
                values,
                table: None,
                origin: Origin::Flag(flag),
            },
        );
    }
    Flags::Given(given)
}

fn read_environment(
    prefix: &str,
    known: &[Setting],
    environment: impl IntoIterator<Item = (String, String)>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<&'static str, Given> {
    let mut given = BTreeMap::new();
    let mut shared = BTreeMap::new();
    for (variable, value) in environment {
        let Some(stem) = variable.strip_prefix(prefix) else {
            let setting = known.iter().find(|s| s.shared_variable == Some(&variable));
            // An empty one is how people unset a variable that others read too.
            if let Some(setting) = setting.filter(|_| !value.is_empty()) {
                let (values, origin) = (vec![value], Origin::Variable(variable));
                shared.insert(
                    setting.name,
                    Given {
                        values,
                        table: None,
                        origin,
                    },
                );
            }
            continue;
        };
        let setting = known
            .iter()
            .find(|setting| setting.has_flag() && setting.name.to_uppercase() == stem);
        match setting {
            Some(setting) => {
                let values = match setting.kind {
                    Kind::Repeated => value.split(',').map(|v| v.trim().to_owned()).collect(),
                    _ => vec![value],
                };
                given.insert(
                    setting.name,
                    Given {
                        values,
                        table: None,
                        origin: Origin::Variable(variable),
                    },
                );
            }
            None if is_service_link(stem) => {}
            None => problems.push(Problem::new(variable, "", "no such setting; --help lists them")),
        }
    }
    for (name, value) in shared {
        given.entry(name).or_insert(value);
    }
    given
}

/// Kubernetes injects `<SERVICE>_SERVICE_HOST`, `<SERVICE>_PORT_8080_TCP_ADDR` and the like into every pod of a
/// namespace; a Service that is called `plumbline-gateway` makes them look like settings of the gateway.
fn is_service_link(stem: &str) -> bool {
    stem == "SERVICE_HOST"
        || stem == "PORT"
        || stem.starts_with("SERVICE_PORT")
        || stem
            .strip_prefix("PORT_")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn read_file(
    path: &Path,
    settings: &[Setting],
    given: &mut BTreeMap<&'static str, Given>,
    problems: &mut Vec<Problem>,
) {
    let shown = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problems.push(Problem::new("config", &shown, format!("cannot be read: {error}")));
            return;
        }
    };
    let of_tables = settings.iter().find(|setting| setting.kind == Kind::Tables);
    let cut = of_tables.and_then(|setting| pieces::cut(&text, setting.name));
    if let (Some(setting), Some((rest, at))) = (of_tables, cut)
        && let Ok(table) = DeTable::parse(&rest)
        && let Some(value) = table.get_ref().get(setting.name)
        && pieces::fits(value.get_ref(), at.len())
    {
        let file = shown.clone();
        let pieces = Pieces { file, text, at };
        take_table(
            &shown,
            &rest,
            table.get_ref(),
            Some(pieces),
            settings,
            given,
            problems,
        );
        return;
    }
    match parse(&shown, &text) {
        Ok(table) => take_table(&shown, &text, table.get_ref(), None, settings, given, problems),
        Err(problem) => problems.push(problem),
    }
}

/// The whole of a file.
pub(super) fn parse<'a>(file: &str, text: &'a str) -> Result<Spanned<DeTable<'a>>, Problem> {
    DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        let message = format!("not valid TOML: {}", error.message());
        Problem::new("config", &format!("{file}:{line}"), message)
    })
}

/// Takes the settings out of a file's table; the text of those of [`Kind::Tables`] is in `pieces`, if it was cut out.
fn take_table(
    file: &str,
    text: &str,
    table: &DeTable<'_>,
    mut pieces: Option<Pieces>,
    settings: &[Setting],
    given: &mut BTreeMap<&'static str, Given>,
    problems: &mut Vec<Problem>,
) {
    for (key, value) in table {
        let place = format!("{file}:{}", line_of(text, key.span().start));
        let name: &str = key.get_ref();
        let in_file = |setting: &&Setting| !matches!(setting.kind, Kind::Variable { .. });
        let mut in_file = settings.iter().filter(in_file);
        let Some(setting) = in_file.find(|setting| setting.name == name) else {
            problems.push(Problem::new(name, &place, "no such setting"));
            continue;
        };
        let origin = Origin::File(place.clone());
        let entry = if setting.kind.is_in_file_only() {
            let cut = pieces.take_if(|_| setting.kind == Kind::Tables);
            let value = || Tabled::Value(to_value(value.get_ref()));
            Some(Given {
                values: Vec::new(),
                table: Some(cut.map_or_else(value, Tabled::Pieces)),
                origin,
            })
        } else {
            scalars(value.get_ref(), setting.kind).map(|values| Given {
                values,
                table: None,
                origin,
            })
        };
        if let Some(entry) = entry {
            given.insert(setting.name, entry);
        } else {
            let expected = match setting.kind {
                Kind::Repeated => "expected a text or a list of texts",
                _ => "expected a single value",
            };
            problems.push(Problem::new(name, &place, expected));
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()
        .iter()
        .take(offset)
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
}

fn scalars(value: &DeValue<'_>, kind: Kind) -> Option<Vec<String>> {
    match value {
        DeValue::Array(items) if kind == Kind::Repeated => {
            items.iter().map(|item| scalar(item.get_ref())).collect()
        }
        value => scalar(value).map(|value| vec![value]),
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// The owned form of a table, for serde.
pub(super) fn to_value(value: &DeValue<'_>) -> toml::Value {
    match value {
        DeValue::String(text) => toml::Value::String(text.to_string()),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            parsed.map_or_else(|_| toml::Value::String(number.to_string()), toml::Value::Integer)
        }
        DeValue::Float(number) => {
            let parsed: Result<f64, _> = number.as_str().parse();
            parsed.map_or_else(|_| toml::Value::String(number.to_string()), toml::Value::Float)
        }
        DeValue::Boolean(flag) => toml::Value::Boolean(*flag),
        DeValue::Datetime(time) => toml::Value::Datetime(*time),
        DeValue::Array(items) => {
            toml::Value::Array(items.iter().map(|item| to_value(item.get_ref())).collect())
        }
        DeValue::Table(table) => toml::Value::Table(
            table
                .iter()
                .map(|(key, value)| (key.get_ref().to_string(), to_value(value.get_ref())))
                .collect(),
        ),
    }
}

fn help(part: &str, prefix: &str, settings: &[Setting]) -> String {
    let mut text =
        format!("plumbline-{part}\n\nSettings, each also as {prefix}<SETTING> and as a key of the file:\n");
    for setting in settings {
        if setting.kind.is_in_file_only() {
            let _ = writeln!(text, "  [{}]  (file only)\n      {}", setting.name, setting.help);
            continue;
        }
        if let Kind::Variable { .. } = setting.kind {
            let _ = writeln!(
                text,
                "  {}  (variable only)\n      {}",
                setting.name, setting.help
            );
            continue;
        }
        let value = if setting.value.is_empty() {
            String::new()
        } else {
            format!(" {}", setting.value)
        };
        let repeated = if setting.kind == Kind::Repeated {
            " ..."
        } else {
            ""
        };
        let default = setting
            .default
            .map_or_else(String::new, |value| format!(" [default: {value}]"));
        let _ = writeln!(
            text,
            "  {}{value}{repeated}\n      {}{default}",
            setting.flag(),
            setting.help
        );
    }
    text.push_str("  --help, --version\n");
    text
}
