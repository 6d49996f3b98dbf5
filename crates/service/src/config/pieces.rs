//! A file with thousands of tables of one name, such as `[[route]]`, is read table by table: each by itself, and those
//! that are as they were when the file was read last not at all.
//!
//! The text is cut where lines say so, which takes no parser. Whether that was right is told by the parts: each has to
//! be a table of that name and nothing else, and the rest, where the tables are left empty, has to have as many. If not,
//! such as for a text of several lines with `[[route]]` in it, the file is read as a whole; so is one with a mistake.

use std::collections::VecDeque;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::reader::Problem;
use super::sources;

/// Values with the text of the table that they were read from, in the order of the file, kept to read it again.
#[derive(Clone, Debug)]
pub struct Tables<T>(Vec<(Box<str>, T)>);

impl<T> Default for Tables<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// How many tables further on the text of one is looked for: others were taken out before it. Of a file that is in
/// another order everything is read.
const NEAR: usize = 256;

/// The tables of one name in the text of a file.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    pub(super) file: String,
    pub(super) text: String,
    pub(super) at: Vec<Range<usize>>,
}

/// Cuts the tables of `name` out. The rest has their heads, and as many lines; nothing when there are none.
pub(super) fn cut(text: &str, name: &str) -> Option<(String, Vec<Range<usize>>)> {
    let (head, part) = (format!("[[{name}]]"), format!("{name}."));
    let mut rest = String::new();
    let mut at: Vec<Range<usize>> = Vec::new();
    let (mut offset, mut inside) = (0, false);
    for line in text.split_inclusive('\n') {
        let begin = offset;
        offset += line.len();
        if line.starts_with(&head) {
            inside = true;
            at.push(begin..offset);
            rest.push_str(line);
            continue;
        }
        inside &= !line.starts_with('[') || line.trim_start_matches('[').starts_with(&part);
        match at.last_mut().filter(|_| inside) {
            Some(piece) => {
                piece.end = offset;
                rest.push('\n');
            }
            None => rest.push_str(line),
        }
    }
    (!at.is_empty()).then_some((rest, at))
}

/// Whether `value`, what the rest has of the name, is as many tables without anything in them: otherwise the text was
/// not cut where its tables are.
pub(super) fn fits(value: &DeValue<'_>, pieces: usize) -> bool {
    let is_empty = |table: &DeValue<'_>| table.as_table().is_some_and(DeTable::is_empty);
    value
        .as_array()
        .is_some_and(|tables| tables.len() == pieces && tables.iter().all(|table| is_empty(table.get_ref())))
}

impl Pieces {
    /// What `read` makes of each, given its index, the table, and where to put what is wrong with it; what is `known` of
    /// the same text already is not read. Nothing, and nothing known, when one of them is not a table by itself.
    pub(super) fn read<T: Clone>(
        &self,
        name: &str,
        known: &mut Tables<T>,
        problems: &mut Vec<String>,
        mut read: impl FnMut(usize, &toml::Table, &mut Vec<String>) -> T,
    ) -> Option<Vec<T>> {
        let mut before = VecDeque::from(std::mem::take(&mut known.0));
        let mut now = Vec::with_capacity(self.at.len());
        let mut values = Vec::with_capacity(self.at.len());
        for (index, range) in self.at.iter().enumerate() {
            let text = &self.text[range.clone()];
            let near = before.iter().take(NEAR);
            let found = near.map(|(text, _)| text).position(|before| **before == *text);
            let as_before = found.and_then(|at| before.drain(..=at).next_back());
            if let Some((text, value)) = as_before {
                values.push(value.clone());
                now.push((text, value));
                continue;
            }
            let (table, told) = (parse(text, name)?, problems.len());
            let value = read(index, &table, problems);
            values.push(value.clone());
            if problems.len() == told {
                now.push((text.into(), value));
            }
        }
        known.0 = now;
        Some(values)
    }

    /// The tables as the file has them when it is read as a whole.
    pub(super) fn whole(&self, name: &str) -> Result<toml::Value, Problem> {
        let table = sources::parse(&self.file, &self.text)?;
        let value = table.get_ref().get(name);
        Ok(value.map_or(toml::Value::Array(Vec::new()), |value| {
            sources::to_value(value.get_ref())
        }))
    }
}

/// The table of `name` that a piece is; nothing when it is anything else.
fn parse(piece: &str, name: &str) -> Option<toml::Table> {
    let document = DeTable::parse(piece).ok()?;
    let (key, value) = document.get_ref().iter().next()?;
    let is_all = document.get_ref().len() == 1 && key.get_ref() == name;
    match &value.get_ref().as_array()?[..] {
        [table] if is_all => match sources::to_value(table.get_ref()) {
            toml::Value::Table(table) => Some(table),
            _ => None,
        },
        _ => None,
    }
}
