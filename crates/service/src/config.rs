//! Typed configuration, merged in one place and checked whole.
//!
//! Later wins: defaults, the `--config` file (TOML), `PLUMBLINE_<PART>_<SETTING>`, flags. A setting has one name in
//! three spellings: `drain_timeout`, `PLUMBLINE_GATEWAY_DRAIN_TIMEOUT`, `--drain-timeout`. A part lists its
//! [`Setting`]s and builds its configuration from a [`Reader`], which collects every problem instead of stopping at the
//! first; nobody else reads flags, the environment or the file.

mod common;
mod pieces;
mod reader;
mod sources;
mod value;

use crate::traces;

pub use common::Common;
pub use pieces::Tables;
pub use reader::{Problem, Problems, Reader};
pub use sources::{Outcome, Source};
pub use value::{ByteSize, ParseSetting};

/// One setting of a part: the only place where its name, meaning and default are written.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Snake case; the file's key, and the stem of the flag and of the environment variable.
    pub name: &'static str,
    /// What stands for the value in the help text; empty for a switch, which takes none.
    pub value: &'static str,
    /// One or two sentences of help.
    pub help: &'static str,
    /// Used when nobody sets it; must parse.
    pub default: Option<&'static str>,
    /// How it may be given.
    pub kind: Kind,
    /// A variable of wider use that also gives it, such as `GEMINI_API_KEY`; the part's own variable wins.
    pub shared_variable: Option<&'static str>,
}

/// How a setting may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One value.
    Single,
    /// Any number of values: a repeated flag, a list in the file, commas in the environment.
    Repeated,
    /// True when given.
    Switch,
    /// One value that is never printed.
    Secret,
    /// A table or an array of tables; in the file only.
    Table,
    /// An array of very many tables; in the file only. One setting of a part may be of this kind.
    Tables,
    /// A variable that a standard gives its name and meaning: `shared_variable`, and in no other way.
    Variable {
        /// It is never printed.
        secret: bool,
    },
}

impl Kind {
    fn is_in_file_only(self) -> bool {
        matches!(self, Self::Table | Self::Tables)
    }
}

impl Setting {
    /// A setting with one value.
    pub const fn new(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self {
            name,
            value,
            help,
            default: None,
            kind: Kind::Single,
            shared_variable: None,
        }
    }

    /// A setting with any number of values.
    pub const fn repeated(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self {
            kind: Kind::Repeated,
            ..Self::new(name, value, help)
        }
    }

    /// A switch.
    pub const fn switch(name: &'static str, help: &'static str) -> Self {
        Self {
            kind: Kind::Switch,
            ..Self::new(name, "", help)
        }
    }

    /// A setting whose value is never printed.
    pub const fn secret(name: &'static str, value: &'static str, help: &'static str) -> Self {
        Self {
            kind: Kind::Secret,
            ..Self::new(name, value, help)
        }
    }

    /// A table or an array of tables of the file.
    pub const fn table(name: &'static str, help: &'static str) -> Self {
        Self {
            kind: Kind::Table,
            ..Self::new(name, "", help)
        }
    }

    /// An array of very many tables of the file.
    pub const fn tables(name: &'static str, help: &'static str) -> Self {
        Self {
            kind: Kind::Tables,
            ..Self::new(name, "", help)
        }
    }

    /// A variable of a standard, under its own name.
    pub const fn variable(name: &'static str, help: &'static str) -> Self {
        Self {
            kind: Kind::Variable { secret: false },
            shared_variable: Some(name),
            ..Self::new(name, "", help)
        }
    }

    /// The same, when its value is never to be printed.
    pub const fn secret_variable(name: &'static str, help: &'static str) -> Self {
        Self {
            kind: Kind::Variable { secret: true },
            ..Self::variable(name, help)
        }
    }

    /// With a default.
    #[must_use]
    pub const fn default(self, default: &'static str) -> Self {
        Self {
            default: Some(default),
            ..self
        }
    }

    /// Also given by this variable when the part's own is not set.
    #[must_use]
    pub const fn shared_variable(self, variable: &'static str) -> Self {
        Self {
            shared_variable: Some(variable),
            ..self
        }
    }

    fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret | Kind::Variable { secret: true })
    }

    /// Whether a flag and a variable of the part give it.
    fn has_flag(&self) -> bool {
        !self.kind.is_in_file_only() && !matches!(self.kind, Kind::Variable { .. })
    }

    /// `--drain-timeout`.
    fn flag(&self) -> String {
        format!("--{}", self.name.replace('_', "-"))
    }
}

/// Merges flags, environment and file for `part` and builds its configuration.
///
/// `arguments` are without the program's name. `environment` is passed in so that tests need not change their own.
/// The configuration is returned with what `/config` shows, secrets removed.
///
/// # Errors
/// [`Problems`], all at once: unknown flags, variables and keys, values that do not parse, and what `build` found.
pub fn load<C>(
    part: &str,
    settings: &[&[Setting]],
    arguments: impl IntoIterator<Item = String>,
    environment: impl IntoIterator<Item = (String, String)>,
    build: impl FnOnce(&mut Reader) -> C,
) -> Result<Outcome<C>, Problems> {
    let settings = settings.iter().copied().flatten().chain(&traces::SETTINGS);
    let settings: Vec<Setting> = settings.copied().collect();
    sources::load(part, &settings, arguments, environment, build)
}

#[cfg(test)]
mod tests;
