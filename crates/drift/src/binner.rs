//! Finds the bin of a value, without allocating.

use std::collections::HashMap;

use crate::build::is_usable;
use crate::profile::{Kind, Subject};

/// The bins of one subject.
#[derive(Clone, Debug)]
pub(crate) struct Binner {
    scale: Scale,
    missing: usize,
}

#[derive(Clone, Debug)]
enum Scale {
    Edges {
        edges: Box<[f64]>,
        lengths: bool,
    },
    Categories {
        texts: HashMap<Box<[u8]>, usize>,
        numbers: HashMap<u64, usize>,
        other: usize,
    },
    Boolean,
}

/// Where a value belongs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Place {
    /// In a bin, as this number.
    Number(usize, f64),
    /// In a bin.
    Bin(usize),
}

impl Binner {
    pub(crate) fn new(subject: &Subject) -> Self {
        let bins = subject.reference_counts().len();
        let scale = match (&subject.numeric, &subject.categorical) {
            (Some(numeric), _) => Scale::Edges {
                edges: numeric.edges.clone().into(),
                lengths: subject.kind == Kind::TextLength,
            },
            (None, Some(categorical)) => {
                let values = || {
                    categorical
                        .categories
                        .iter()
                        .map(|c| c.value.as_str())
                        .enumerate()
                };
                // A class that is a number may arrive as one: 1 and "1" and 1.0 are the same class.
                let number = |text: &str| text.parse::<f64>().ok().filter(|x| is_usable(*x)).map(key);
                Scale::Categories {
                    texts: values().map(|(i, text)| (text.as_bytes().into(), i)).collect(),
                    numbers: values()
                        .filter_map(|(i, text)| Some((number(text)?, i)))
                        .collect(),
                    other: categorical.categories.len(),
                }
            }
            (None, None) => Scale::Boolean,
        };
        Self {
            scale,
            missing: bins.saturating_sub(1),
        }
    }

    pub(crate) fn missing(&self) -> Place {
        Place::Bin(self.missing)
    }

    pub(crate) fn number(&self, x: f64) -> Place {
        if !is_usable(x) {
            return self.missing();
        }
        match &self.scale {
            Scale::Edges {
                edges,
                lengths: false,
            } => Place::Number(edges.partition_point(|e| *e <= x), x),
            // The length of a number is not defined.
            Scale::Edges { lengths: true, .. } => self.missing(),
            Scale::Categories { numbers, other, .. } => Place::Bin(*numbers.get(&key(x)).unwrap_or(other)),
            Scale::Boolean => Place::Bin(usize::from(x != 0.0)),
        }
    }

    pub(crate) fn text(&self, text: &[u8]) -> Place {
        if text.is_empty() {
            return self.missing();
        }
        match &self.scale {
            Scale::Edges { edges, lengths: true } => {
                let length = text.len() as f64;
                Place::Number(edges.partition_point(|e| *e <= length), length)
            }
            Scale::Edges { lengths: false, .. } => {
                let number = std::str::from_utf8(text).ok().and_then(|t| t.trim().parse().ok());
                number.map_or(self.missing(), |x| self.number(x))
            }
            Scale::Categories { texts, other, .. } => Place::Bin(*texts.get(text).unwrap_or(other)),
            Scale::Boolean => match text {
                b"true" | b"True" | b"1" => Place::Bin(1),
                b"false" | b"False" | b"0" => Place::Bin(0),
                _ => self.missing(),
            },
        }
    }

    pub(crate) fn boolean(&self, value: bool) -> Place {
        match &self.scale {
            Scale::Categories { .. } => self.text(if value { b"true" } else { b"false" }),
            Scale::Edges { .. } | Scale::Boolean => self.number(f64::from(u8::from(value))),
        }
    }
}

/// Equal numbers have equal keys: −0 is 0.
fn key(x: f64) -> u64 {
    (x + 0.0).to_bits()
}

#[cfg(test)]
mod tests {
    use super::{Binner, Place};
    use crate::SubjectBuilder;
    use crate::profile::{Datatype, Kind};

    fn binner(kind: Kind, fill: impl FnOnce(&mut SubjectBuilder)) -> Binner {
        let mut builder = SubjectBuilder::new("x", "x", 0, Datatype::Fp64, kind);
        fill(&mut builder);
        Binner::new(&builder.finish())
    }

    #[test]
    fn numbers_fall_between_edges_and_outside_the_range() {
        let bins = binner(Kind::Numeric, |b| {
            for x in [1.0, 2.0, 3.0] {
                b.push_number(x);
            }
        });
        let bin = |x| match bins.number(x) {
            Place::Number(bin, value) => (bin, value),
            Place::Bin(bin) => (bin, f64::NAN),
        };
        assert_eq!([0.4, 0.6, 2.0, 3.4, 3.6].map(|x| bin(x).0), [0, 1, 2, 3, 4]);
        assert_eq!(
            [f64::NAN, f64::INFINITY, -1e301].map(|x| bin(x).0),
            [5, 5, 5],
            "missing"
        );
        assert_eq!(bins.text(b" 2 "), Place::Number(2, 2.0));
        assert_eq!(bins.text(b"two"), Place::Bin(5));
        assert_eq!(bins.boolean(true), Place::Number(1, 1.0));
    }

    #[test]
    fn a_class_is_found_as_text_and_as_number() {
        let bins = binner(Kind::Categorical, |b| {
            for t in ["0", "0", "1", "red"] {
                b.push_text(t);
            }
        });
        assert_eq!(
            [bins.text(b"0"), bins.number(0.0), bins.number(-0.0)],
            [Place::Bin(0); 3]
        );
        assert_eq!(
            [bins.text(b"red"), bins.text(b"blue"), bins.number(7.0)],
            [2, 3, 3].map(Place::Bin)
        );
        assert_eq!([bins.text(b""), bins.missing()], [Place::Bin(4); 2]);
        let flags = binner(Kind::Boolean, |b| b.push_boolean(true));
        assert_eq!(
            [flags.boolean(false), flags.number(1.0), flags.text(b"true")],
            [0, 1, 1].map(Place::Bin)
        );
        assert_eq!(flags.text(b"maybe"), Place::Bin(2));
    }
}
