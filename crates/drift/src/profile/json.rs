//! The text of a profile: indented, but a list directly within a list on one line.
//!
//! Only a season has those, an hour each. One count a line would make it several times as large.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

use super::Profile;

/// Indented JSON with a final newline.
pub(super) fn text(profile: &Profile) -> String {
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, Indented::default());
    profile
        .serialize(&mut serializer)
        .expect("every map key is a string, and a vector takes every byte");
    text.push(b'\n');
    String::from_utf8(text).expect("JSON is UTF-8")
}

#[derive(Default)]
struct Indented {
    pretty: PrettyFormatter<'static>,
    /// What is open, the innermost last: whether it is a list.
    lists: Vec<bool>,
}

impl Indented {
    fn is_in_a_line(&self) -> bool {
        self.lists.ends_with(&[true, true])
    }
}

impl Formatter for Indented {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.lists.push(true);
        if self.is_in_a_line() {
            CompactFormatter.begin_array(writer)
        } else {
            self.pretty.begin_array(writer)
        }
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if self.is_in_a_line() {
            CompactFormatter.begin_array_value(writer, first)
        } else {
            self.pretty.begin_array_value(writer, first)
        }
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.is_in_a_line() {
            CompactFormatter.end_array_value(writer)
        } else {
            self.pretty.end_array_value(writer)
        }
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let is_in_a_line = self.is_in_a_line();
        self.lists.pop();
        if is_in_a_line {
            CompactFormatter.end_array(writer)
        } else {
            self.pretty.end_array(writer)
        }
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.lists.push(false);
        self.pretty.begin_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.pretty.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_object_value(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.lists.pop();
        self.pretty.end_object(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::text;
    use crate::profile::{Profile, SeasonalCounts, Seasonality};

    #[test]
    fn an_hour_is_a_line_and_all_else_is_indented() {
        let example = include_bytes!("../../schema/example.profile.json");
        let mut profile = Profile::from_json(example).expect("the example is valid");
        profile.seasonality = None;
        let pretty = serde_json::to_string_pretty(&profile).expect("JSON");
        assert_eq!(text(&profile), pretty + "\n");

        profile.seasonality = Some(Seasonality {
            hour_of_week: vec![SeasonalCounts {
                subject: "x".to_owned(),
                counts: vec![vec![0, 12, 3], Vec::new()],
            }],
        });
        let season =
            "        \"counts\": [\n          [0,12,3],\n          []\n        ]\n      }\n    ]\n  }\n}\n";
        let written = text(&profile);
        assert!(written.ends_with(season), "{written}");
        let read: Profile = serde_json::from_str(&written).expect("read back");
        assert_eq!(read, profile);
    }
}
