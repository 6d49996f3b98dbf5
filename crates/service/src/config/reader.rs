//! Given values become typed ones; every problem is kept.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::pieces::{Pieces, Tables};
use super::{ParseSetting, Setting, Source};

/// Where a value came from, as a person finds it again.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Flag(String),
    Variable(String),
    File(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(place) | Self::Variable(place) | Self::File(place) => f.write_str(place),
        }
    }
}

/// What somebody gave for one setting.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) values: Vec<String>,
    pub(super) table: Option<Tabled>,
    pub(super) origin: Origin,
}

/// A table or tables of the file.
#[derive(Clone, Debug)]
pub(super) enum Tabled {
    Value(toml::Value),
    Pieces(Pieces),
}

impl Given {
    pub(super) fn first(&self) -> Option<&str> {
        self.values.first().map(String::as_str)
    }
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    setting: String,
    place: String,
    message: String,
}

impl Problem {
    pub(super) fn new(setting: impl Into<String>, place: &str, message: impl Into<String>) -> Self {
        Self {
            setting: setting.into(),
            place: place.to_owned(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            setting,
            place,
            message,
        } = self;
        if place.is_empty() {
            write!(f, "{setting}: {message}")
        } else {
            write!(f, "{setting} ({place}): {message}")
        }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    pub(super) part: String,
    pub(super) problems: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        write!(f, "{}: {count} {noun} in the configuration", self.part)?;
        self.problems
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// Reads settings by name, each once, and remembers what is wrong.
///
/// A getter always returns a value, so that reading goes on after a problem; a configuration with problems never
/// leaves [`super::load`].
#[derive(Debug)]
pub struct Reader {
    settings: Vec<Setting>,
    given: BTreeMap<&'static str, Given>,
    problems: Vec<Problem>,
    shown: serde_json::Map<String, serde_json::Value>,
    source: Arc<Source>,
}

impl Reader {
    pub(super) fn new(
        settings: Vec<Setting>,
        given: BTreeMap<&'static str, Given>,
        problems: Vec<Problem>,
        source: Arc<Source>,
    ) -> Self {
        Self {
            settings,
            given,
            problems,
            shown: serde_json::Map::new(),
            source,
        }
    }

    /// Where the configuration comes from, for a part that reads it again while it runs.
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// The setting's value, or its default.
    ///
    /// # Panics
    /// When the setting is not listed or its default does not parse: mistakes in the program.
    pub fn value<T: ParseSetting>(&mut self, name: &'static str) -> T {
        let setting = self.setting(name);
        let default = setting
            .default
            .unwrap_or_else(|| panic!("setting `{name}` has no default"));
        self.optional(name).unwrap_or_else(|| {
            T::parse_setting(default).unwrap_or_else(|_| panic!("the default of `{name}` must parse"))
        })
    }

    /// The setting's value, or its default where it has one, or nothing.
    pub fn optional<T: ParseSetting>(&mut self, name: &'static str) -> Option<T> {
        let setting = self.setting(name);
        let text = match self.given.get(name) {
            Some(given) => given.first().map(str::to_owned),
            None => setting.default.map(str::to_owned),
        };
        self.show(setting, text.as_deref());
        let text = text?;
        match T::parse_setting(&text) {
            Ok(value) => Some(value),
            Err(expected) => {
                self.reject_value(setting, &text, &expected);
                None
            }
        }
    }

    /// The setting's value; a problem when nobody gave it.
    ///
    /// # Panics
    /// Never: `fallback` stands in after a problem and does not leave [`super::load`].
    pub fn required<T: ParseSetting>(&mut self, name: &'static str, fallback: T) -> T {
        let setting = self.setting(name);
        if !self.given.contains_key(name) && setting.default.is_none() {
            self.problems.push(Problem::new(
                name,
                "",
                format!("is required: {} {}", setting.flag(), setting.value),
            ));
            return fallback;
        }
        self.optional(name).unwrap_or(fallback)
    }

    /// Every value of a repeated setting, in the order given.
    pub fn list<T: ParseSetting>(&mut self, name: &'static str) -> Vec<T> {
        let setting = self.setting(name);
        let texts = match self.given.get(name) {
            Some(given) => given.values.clone(),
            None => setting.default.map(str::to_owned).into_iter().collect(),
        };
        self.shown.insert(name.to_owned(), texts.clone().into());
        let mut values = Vec::with_capacity(texts.len());
        for text in texts {
            match T::parse_setting(&text) {
                Ok(value) => values.push(value),
                Err(expected) => self.reject_value(setting, &text, &expected),
            }
        }
        values
    }

    /// Whether a switch was given.
    pub fn switch(&mut self, name: &'static str) -> bool {
        self.optional(name).unwrap_or(false)
    }

    /// A table or array of tables of the file; its default where there is none. Unknown keys are problems when `T`
    /// denies them.
    pub fn table<T: DeserializeOwned + Default>(&mut self, name: &'static str) -> T {
        let Some(given) = self.given.get_mut(name) else {
            return T::default();
        };
        let table = match given.table.take() {
            Some(Tabled::Value(table)) => table,
            Some(Tabled::Pieces(_)) | None => toml::Value::Boolean(false),
        };
        let place = given.origin.to_string();
        self.shown
            .insert(name.to_owned(), serde_json::to_value(&table).unwrap_or_default());
        match table.try_into() {
            Ok(value) => value,
            Err(error) => {
                let message = error.to_string().trim_end().replace('\n', " ");
                self.problems.push(Problem::new(name, &place, message));
                T::default()
            }
        }
    }

    /// What `read` makes of each table of an array of tables of the file, given its index, the table, and where to put
    /// what is wrong with it. A table whose text is `known` is what it was then; afterwards those of this file are known.
    /// How many there are is all that is shown of them.
    pub fn tables<T: Clone>(
        &mut self,
        name: &'static str,
        known: &mut Tables<T>,
        mut read: impl FnMut(usize, &toml::Table, &mut Vec<String>) -> T,
    ) -> Vec<T> {
        let Some(given) = self.given.get_mut(name).and_then(|given| given.table.take()) else {
            return Vec::new();
        };
        let mut problems = Vec::new();
        let values = match given {
            Tabled::Value(value) => self.each_of(name, value, &mut problems, read),
            Tabled::Pieces(pieces) => {
                if let Some(values) = pieces.read(name, known, &mut problems, &mut read) {
                    values
                } else {
                    problems.clear();
                    match pieces.whole(name) {
                        Ok(value) => self.each_of(name, value, &mut problems, read),
                        Err(problem) => {
                            self.problems.push(problem);
                            Vec::new()
                        }
                    }
                }
            }
        };
        self.shown
            .insert(name.to_owned(), format!("{} tables", values.len()).into());
        for problem in problems {
            self.reject(name, problem);
        }
        values
    }

    fn each_of<T>(
        &mut self,
        name: &'static str,
        value: toml::Value,
        problems: &mut Vec<String>,
        mut read: impl FnMut(usize, &toml::Table, &mut Vec<String>) -> T,
    ) -> Vec<T> {
        match value.try_into::<Vec<toml::Table>>() {
            Ok(tables) => {
                let tables = tables.iter().enumerate();
                tables
                    .map(|(index, table)| read(index, table, problems))
                    .collect()
            }
            Err(error) => {
                let message = error.to_string().trim_end().replace('\n', " ");
                self.reject(name, message);
                Vec::new()
            }
        }
    }

    /// Records a problem with a setting that parsed but cannot be used.
    pub fn reject(&mut self, name: &'static str, message: impl Into<String>) {
        let place = self
            .given
            .get(name)
            .map_or_else(|| "default".to_owned(), |given| given.origin.to_string());
        self.problems.push(Problem::new(name, &place, message));
    }

    /// Records a problem unless `holds`.
    pub fn check(&mut self, name: &'static str, holds: bool, message: impl Into<String>) {
        if !holds {
            self.reject(name, message);
        }
    }

    pub(super) fn finish(self) -> (serde_json::Value, Vec<Problem>) {
        (serde_json::Value::Object(self.shown), self.problems)
    }

    fn setting(&self, name: &str) -> Setting {
        let setting = self.settings.iter().find(|setting| setting.name == name);
        *setting.unwrap_or_else(|| panic!("setting `{name}` is not listed"))
    }

    fn show(&mut self, setting: Setting, text: Option<&str>) {
        let value = match text {
            Some(_) if setting.is_secret() => "***".into(),
            Some(text) => text.into(),
            // Of others' variables, only those are told that somebody has set.
            None if !setting.has_flag() => return,
            None => serde_json::Value::Null,
        };
        self.shown.insert(setting.name.to_owned(), value);
    }

    fn reject_value(&mut self, setting: Setting, text: &str, expected: &str) {
        let shown = if setting.is_secret() { "***" } else { text };
        let place = self
            .given
            .get(setting.name)
            .map_or_else(|| "default".to_owned(), |g| g.origin.to_string());
        self.problems.push(Problem::new(
            format!("{} = {shown}", setting.name),
            &place,
            expected,
        ));
    }
}
