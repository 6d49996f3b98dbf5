//! A table of the configuration file, read key by key. Every problem is kept, with the place that it is at.

use plumbline_service::config::ParseSetting;

/// One table. What was asked for is known; [`Fields::end`] tells what else is there.
pub(crate) struct Fields<'a> {
    /// What the table is called in problems, such as `route 2`.
    place: String,
    table: &'a toml::Table,
    known: Vec<&'static str>,
    problems: &'a mut Vec<String>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(
        place: impl Into<String>,
        table: &'a toml::Table,
        problems: &'a mut Vec<String>,
    ) -> Self {
        Self {
            place: place.into(),
            table,
            known: Vec::new(),
            problems,
        }
    }

    /// Keeps a problem of this table.
    pub(crate) fn problem(&mut self, problem: impl std::fmt::Display) {
        self.problems.push(format!("{}: {problem}", self.place));
    }

    fn get(&mut self, key: &'static str) -> Option<&'a toml::Value> {
        self.known.push(key);
        self.table.get(key)
    }

    /// A setting in the form that flags have too, if the key is there.
    pub(crate) fn setting<T: ParseSetting>(&mut self, key: &'static str) -> Option<T> {
        let parsed = match self.get(key)? {
            toml::Value::String(text) => T::parse_setting(text),
            other => T::parse_setting(&other.to_string()),
        };
        parsed
            .map_err(|expected| self.problem(format_args!("`{key}`: {expected}")))
            .ok()
    }

    /// A text, if the key is there.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<&'a str> {
        let text = self.get(key)?.as_str();
        if text.is_none() {
            self.problem(format_args!("`{key}`: expected a text"));
        }
        text
    }

    /// A text that has to be there.
    pub(crate) fn required_text(&mut self, key: &'static str) -> Option<&'a str> {
        self.is_there(key).then(|| self.text(key))?
    }

    fn is_there(&mut self, key: &'static str) -> bool {
        let there = self.table.contains_key(key);
        if !there {
            self.known.push(key);
            self.problem(format_args!("`{key}` is missing"));
        }
        there
    }

    /// A setting that has to be there.
    pub(crate) fn required_setting<T: ParseSetting>(&mut self, key: &'static str) -> Option<T> {
        self.is_there(key).then(|| self.setting(key))?
    }

    /// Truth or falsehood; false when the key is not there.
    pub(crate) fn switch(&mut self, key: &'static str) -> bool {
        match self.get(key) {
            None => false,
            Some(toml::Value::Boolean(value)) => *value,
            Some(_) => {
                self.problem(format_args!("`{key}`: expected true or false"));
                false
            }
        }
    }

    /// A list of texts, if the key is there.
    pub(crate) fn texts(&mut self, key: &'static str) -> Option<Vec<&'a str>> {
        let texts = self
            .get(key)?
            .as_array()
            .and_then(|items| items.iter().map(toml::Value::as_str).collect());
        if texts.is_none() {
            self.problem(format_args!("`{key}`: expected a list of texts"));
        }
        texts
    }

    /// Reads a table within this one, if the key is there.
    pub(crate) fn table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Fields<'_>) -> T,
    ) -> Option<T> {
        let Some(table) = self.get(key)?.as_table() else {
            self.problem(format_args!("`{key}`: expected a table"));
            return None;
        };
        Some(self.within(key, table, read))
    }

    /// Reads each of the tables `[[place.key]]`.
    pub(crate) fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Fields<'_>) -> T,
    ) -> Vec<T> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let tables = value
            .as_array()
            .and_then(|items| items.iter().map(toml::Value::as_table).collect());
        let Some(tables): Option<Vec<&toml::Table>> = tables else {
            self.problem(format_args!("`{key}`: expected tables"));
            return Vec::new();
        };
        tables
            .into_iter()
            .enumerate()
            .map(|(index, table)| self.within(&format!("{key} {}", index + 1), table, &mut read))
            .collect()
    }

    fn within<T>(&mut self, name: &str, table: &toml::Table, read: impl FnOnce(&mut Fields<'_>) -> T) -> T {
        let place = format!("{}: {name}", self.place);
        let mut fields = Fields::new(place, table, &mut *self.problems);
        let value = read(&mut fields);
        fields.end();
        value
    }

    /// Tells every key that nobody asked for.
    pub(crate) fn end(self) {
        let mut known = self.known;
        known.sort_unstable();
        known.dedup();
        for key in self.table.keys().filter(|key| !known.contains(&key.as_str())) {
            let known = known.join(", ");
            self.problems
                .push(format!("{}: unknown key `{key}`; there are {known}", self.place));
        }
    }
}
