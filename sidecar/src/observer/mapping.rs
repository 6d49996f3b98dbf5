//! Finds a profile's subjects in the tensors of an exchange.

use plumbline_drift::monitor::{Monitor, SubjectInfo};
use plumbline_drift::profile::Role;
use plumbline_inference_protocol::{Datatype, Tensor, TensorData, v1};

/// Where the subjects of one side of a model, inputs or outputs, are.
#[derive(Debug)]
pub(super) struct Side {
    /// In the profile's order.
    slots: Vec<Slot>,
    /// Slots by tensor, in the order of first mention.
    tensors: Vec<(String, Vec<usize>)>,
}

#[derive(Debug)]
struct Slot {
    /// Index of the subject in the monitor.
    subject: usize,
    column: usize,
    role: Option<Role>,
    class: Option<String>,
}

/// One subject's values in one exchange.
#[derive(Debug)]
pub(super) struct Column<'a> {
    pub(super) subject: usize,
    data: &'a TensorData,
    first: usize,
    stride: usize,
    read: Read,
}

/// How a datatype is handed over. The monitor looks a number up as a class where the subject has classes.
#[derive(Clone, Copy, Debug)]
enum Read {
    Number,
    Text,
    Boolean,
}

impl Side {
    /// The subjects of `subjects` that `belongs` accepts.
    pub(super) fn new(subjects: &[SubjectInfo], belongs: impl Fn(&SubjectInfo) -> bool) -> Self {
        let mut side = Self {
            slots: Vec::new(),
            tensors: Vec::new(),
        };
        for (index, subject) in subjects
            .iter()
            .enumerate()
            .filter(|(_, subject)| belongs(subject))
        {
            let slot = side.slots.len();
            side.slots.push(Slot {
                subject: index,
                column: subject.column as usize,
                role: subject.role,
                class: subject.class.clone(),
            });
            match side.tensors.iter_mut().find(|(name, _)| *name == subject.tensor) {
                Some((_, slots)) => slots.push(slot),
                None => side.tensors.push((subject.tensor.clone(), vec![slot])),
            }
        }
        side
    }

    /// How many subjects there are to find.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The columns of `rows` rows that are there; a tensor with another number of rows is none of them.
    pub(super) fn columns<'a>(&self, tensors: &'a [Tensor], rows: usize) -> Vec<Column<'a>> {
        let mut columns = Vec::with_capacity(self.slots.len());
        for (at, (name, slots)) in self.tensors.iter().enumerate() {
            // Clients mostly send tensors in the model's order.
            let same_place = tensors.get(at).filter(|tensor| tensor.name() == name);
            let tensor = same_place.or_else(|| tensors.iter().find(|tensor| tensor.name() == name));
            let Some(tensor) = tensor else { continue };
            columns.extend(slots.iter().filter_map(|&slot| {
                let slot = &self.slots[slot];
                Column::of(tensor, slot, slot.column, rows)
            }));
        }
        if columns.is_empty() {
            columns = self.columns_without_names(tensors, rows);
        }
        columns
    }

    /// V1 bodies need not name tensors: then positions count, and a classifier's answer has names of its own.
    fn columns_without_names<'a>(&self, tensors: &'a [Tensor], rows: usize) -> Vec<Column<'a>> {
        if let [tensor] = tensors
            && tensor.name() == v1::UNNAMED
        {
            return self.unnamed(tensor, rows);
        }
        let is_position = |(at, tensor): (usize, &Tensor)| tensor.name().parse() == Ok(at);
        if tensors.len() == self.slots.len() && tensors.iter().enumerate().all(is_position) {
            let pairs = self.slots.iter().zip(tensors);
            return pairs
                .filter_map(|(slot, tensor)| Column::of(tensor, slot, 0, rows))
                .collect();
        }
        self.classification(tensors, rows)
    }

    fn unnamed<'a>(&self, tensor: &'a Tensor, rows: usize) -> Vec<Column<'a>> {
        let width = tensor.len().checked_div(rows).unwrap_or(0);
        let take = |slots: Vec<(&Slot, usize)>| {
            slots
                .into_iter()
                .filter_map(|(slot, column)| Column::of(tensor, slot, column, rows))
                .collect()
        };
        let probabilities = || {
            self.slots
                .iter()
                .filter(|slot| slot.role == Some(Role::Probability))
        };
        if self.tensors.len() == 1 && self.slots.iter().all(|slot| slot.column < width) {
            take(self.slots.iter().map(|slot| (slot, slot.column)).collect())
        } else if width == 1 && self.slots.iter().any(|slot| slot.role == Some(Role::Label)) {
            // A classifier that tells only the class.
            take(
                self.slots
                    .iter()
                    .filter(|slot| slot.role == Some(Role::Label))
                    .map(|slot| (slot, 0))
                    .collect(),
            )
        } else if width > 1 && probabilities().count() == width {
            take(probabilities().map(|slot| (slot, slot.column)).collect())
        } else if width == self.slots.len() {
            // A row of the values of several one-column inputs.
            take(
                self.slots
                    .iter()
                    .enumerate()
                    .map(|(at, slot)| (slot, at))
                    .collect(),
            )
        } else {
            Vec::new()
        }
    }

    /// `{"label": …, "probabilities": {class: p}}`.
    fn classification<'a>(&self, tensors: &'a [Tensor], rows: usize) -> Vec<Column<'a>> {
        let named = |name: &str| tensors.iter().find(|tensor| tensor.name() == name);
        let probabilities =
            named(v1::PROBABILITIES).and_then(|tensor| Some((tensor, tensor.class_labels()?)));
        let column = |slot: &Slot| match slot.role {
            Some(Role::Label) => Column::of(named(v1::LABEL)?, slot, 0, rows),
            Some(Role::Probability) => {
                let (tensor, classes) = probabilities.as_ref()?;
                let class = slot.class.as_ref()?;
                Column::of(
                    tensor,
                    slot,
                    classes.iter().position(|other| other == class)?,
                    rows,
                )
            }
            Some(Role::Value) | None => None,
        };
        self.slots.iter().filter_map(column).collect()
    }
}

impl<'a> Column<'a> {
    fn of(tensor: &'a Tensor, slot: &Slot, column: usize, rows: usize) -> Option<Self> {
        let stride = tensor.len().checked_div(rows)?;
        let whole = stride * rows == tensor.len();
        let first = tensor
            .shape()
            .rows()
            .and_then(|first| usize::try_from(first).ok())
            .unwrap_or(1);
        if !whole || first != rows || column >= stride {
            return None;
        }
        let read = match tensor.datatype() {
            Datatype::Bytes => Read::Text,
            Datatype::Bool => Read::Boolean,
            _ => Read::Number,
        };
        Some(Self {
            subject: slot.subject,
            data: tensor.data(),
            first: column,
            stride,
            read,
        })
    }

    /// Hands the value of `row` to the monitor.
    pub(super) fn observe(&self, monitor: &mut Monitor, row: usize) {
        let subject = self.subject;
        match self.read {
            Read::Number => monitor.observe_number(subject, self.number(row)),
            Read::Boolean => monitor.observe_boolean(subject, self.number(row) != 0.0),
            Read::Text => {
                let text = self
                    .data
                    .as_strings()
                    .and_then(|strings| strings.get(self.at(row)));
                monitor.observe_text(subject, text.unwrap_or(b""));
            }
        }
    }

    /// The value of `row` as a number; NaN when it is none.
    pub(super) fn number(&self, row: usize) -> f64 {
        self.data.f64_at(self.at(row)).unwrap_or(f64::NAN)
    }

    fn at(&self, row: usize) -> usize {
        row * self.stride + self.first
    }
}
