//! Finds a profile's subjects in the tensors of an exchange.

use plumbline_drift::monitor::{Monitor, SubjectInfo};
use plumbline_drift::performance::Task;
use plumbline_drift::profile::Role;
use plumbline_drift::segments::Segments;
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
pub(crate) struct Column<'a> {
    pub(crate) subject: usize,
    data: &'a TensorData,
    first: usize,
    stride: usize,
    read: Read,
}

/// How a datatype is handed over. The monitor looks a number up as a class where the subject has classes.
#[derive(Clone, Copy, Debug)]
enum Read {
    Number,
    /// A number of 64 bits.
    Signed,
    Unsigned,
    Text,
    Boolean,
}

/// A value as classes are told apart by it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Number(f64),
    /// One that no `f64` tells from its neighbours; as text it names a class.
    Integer(i128),
    Boolean(bool),
    Text(&'a [u8]),
}

/// 2⁵³: below it every integer is an `f64` of its own.
const EXACT_INTEGERS: f64 = 9_007_199_254_740_992.0;

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

impl Value<'_> {
    /// Hands the value to the monitor, as one of this subject.
    pub(super) fn observe(self, monitor: &mut Monitor, subject: usize) {
        match self {
            Self::Number(number) => monitor.observe_number(subject, number),
            Self::Integer(integer) => {
                monitor.observe_text(subject, itoa::Buffer::new().format(integer).as_bytes());
            }
            Self::Boolean(value) => monitor.observe_boolean(subject, value),
            Self::Text(text) => monitor.observe_text(subject, text),
        }
    }

    /// The segment of a row whose feature has this value.
    pub(super) fn segment(self, segments: &Segments) -> Option<usize> {
        match self {
            Self::Number(number) => segments.of_number(number),
            Self::Integer(integer) => segments.of_text(itoa::Buffer::new().format(integer).as_bytes()),
            Self::Boolean(value) => segments.of_boolean(value),
            Self::Text(text) => segments.of_text(text),
        }
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
            Datatype::Int64 => Read::Signed,
            Datatype::Uint64 => Read::Unsigned,
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

    /// The value of `row`.
    pub(super) fn value(&self, row: usize) -> Value<'a> {
        match self.read {
            Read::Number => Value::Number(self.number(row)),
            Read::Signed => self.integer(row, |bytes| i64::from_le_bytes(bytes).into()),
            Read::Unsigned => self.integer(row, |bytes| u64::from_le_bytes(bytes).into()),
            Read::Boolean => Value::Boolean(self.number(row) != 0.0),
            Read::Text => Value::Text(self.text(row)),
        }
    }

    fn integer(&self, row: usize, read: fn([u8; 8]) -> i128) -> Value<'a> {
        let number = self.number(row);
        if number.abs() < EXACT_INTEGERS {
            return Value::Number(number);
        }
        let start = self.at(row) * size_of::<[u8; 8]>();
        let bytes = self.data.as_le_bytes().and_then(|bytes| bytes.get(start..));
        let bytes = bytes.and_then(|bytes| bytes.first_chunk());
        bytes.map_or(Value::Number(number), |&bytes| Value::Integer(read(bytes)))
    }

    /// The value of `row` as a number; NaN when it is none.
    pub(crate) fn number(&self, row: usize) -> f64 {
        self.data.f64_at(self.at(row)).unwrap_or(f64::NAN)
    }

    /// The class that the value of `row` names.
    pub(crate) fn class(&self, task: &Task, row: usize) -> Option<usize> {
        match self.value(row) {
            Value::Number(number) => task.class_of_number(number),
            Value::Integer(integer) => task.class_of_text(itoa::Buffer::new().format(integer).as_bytes()),
            Value::Boolean(value) => task.class_of_boolean(value),
            Value::Text(text) => task.class_of_text(text),
        }
    }

    fn text(&self, row: usize) -> &'a [u8] {
        let strings = self.data.as_strings();
        strings
            .and_then(|strings| strings.get(self.at(row)))
            .unwrap_or(b"")
    }

    fn at(&self, row: usize) -> usize {
        row * self.stride + self.first
    }
}

#[cfg(test)]
mod tests {
    use plumbline_drift::profile::{Datatype as ProfileDatatype, Kind};
    use plumbline_inference_protocol::StringData;

    use super::*;

    fn subject(
        name: &str,
        tensor: &str,
        column: u32,
        role: Option<Role>,
        class: Option<&str>,
    ) -> SubjectInfo {
        SubjectInfo {
            name: name.to_owned(),
            tensor: tensor.to_owned(),
            column,
            datatype: ProfileDatatype::Fp32,
            kind: Kind::Numeric,
            role,
            class: class.map(str::to_owned),
            bins: Vec::new(),
        }
    }

    fn all(subjects: &[SubjectInfo]) -> Side {
        Side::new(subjects, |_| true)
    }

    fn numbers(name: &str, shape: &[i64], values: &[f32]) -> Tensor {
        Tensor::new(name, shape, TensorData::from_vec(values.to_vec())).expect("a tensor")
    }

    fn texts(name: &str, values: &[&str]) -> Tensor {
        let data: StringData = values.iter().collect();
        Tensor::new(name, [values.len() as i64], TensorData::from_strings(data)).expect("a tensor")
    }

    /// Subject and values of each column, over two rows.
    fn found(side: &Side, tensors: &[Tensor]) -> Vec<(usize, [f64; 2])> {
        let columns = side.columns(tensors, 2);
        columns
            .iter()
            .map(|column| (column.subject, [column.number(0), column.number(1)]))
            .collect()
    }

    fn classifier() -> Side {
        all(&[
            subject("churn", "output_label", 0, Some(Role::Label), None),
            subject(
                "stays",
                "output_probability",
                0,
                Some(Role::Probability),
                Some("no"),
            ),
            subject(
                "leaves",
                "output_probability",
                1,
                Some(Role::Probability),
                Some("yes"),
            ),
        ])
    }

    #[test]
    fn columns_of_a_matrix_and_named_inputs_in_any_order() {
        let side = all(&[
            subject("a", "x", 0, None, None),
            subject("c", "x", 2, None, None),
            subject("y", "y", 0, None, None),
        ]);
        let tensors = [
            numbers("y", &[2, 1], &[7.0, 8.0]),
            numbers("x", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        ];
        let expected = vec![(0, [1.0, 4.0]), (1, [3.0, 6.0]), (2, [7.0, 8.0])];
        assert_eq!(found(&side, &tensors), expected);
    }

    #[test]
    fn a_tensor_of_other_rows_or_too_few_columns_is_left_out() {
        let side = all(&[subject("a", "x", 0, None, None), subject("b", "x", 1, None, None)]);
        assert_eq!(
            found(&side, &[numbers("x", &[2, 1], &[1.0, 2.0])]),
            [(0, [1.0, 2.0])]
        );
        assert_eq!(found(&side, &[numbers("x", &[3, 1], &[1.0, 2.0, 3.0])]), []);
        assert_eq!(found(&side, &[numbers("x", &[1, 2], &[1.0, 2.0])]), []);
        assert_eq!(found(&side, &[numbers("x", &[0, 2], &[])]), []);
        assert_eq!(found(&side, &[numbers("z", &[2, 2], &[1.0; 4])]), []);
        assert!(side.columns(&[numbers("x", &[0, 2], &[])], 0).is_empty());
    }

    #[test]
    fn rows_without_names_are_read_by_position() {
        let matrix = all(&[subject("a", "x", 0, None, None), subject("b", "x", 1, None, None)]);
        let unnamed = [numbers("", &[2, 2], &[1.0, 2.0, 3.0, 4.0])];
        assert_eq!(found(&matrix, &unnamed), [(0, [1.0, 3.0]), (1, [2.0, 4.0])]);
        let inputs = all(&[subject("a", "a", 0, None, None), subject("b", "b", 0, None, None)]);
        assert_eq!(found(&inputs, &unnamed), [(0, [1.0, 3.0]), (1, [2.0, 4.0])]);
        let positions = [numbers("0", &[2], &[1.0, 3.0]), numbers("1", &[2], &[2.0, 4.0])];
        assert_eq!(found(&inputs, &positions), [(0, [1.0, 3.0]), (1, [2.0, 4.0])]);
        assert_eq!(found(&inputs, &positions[..1]), [], "one position is missing");
    }

    #[test]
    fn a_classifier_may_tell_classes_only_or_probabilities_only() {
        assert_eq!(
            found(&classifier(), &[numbers("", &[2], &[1.0, 0.0])]),
            [(0, [1.0, 0.0])]
        );
        let probabilities = [numbers("", &[2, 2], &[0.9, 0.1, 0.3, 0.7])];
        assert_eq!(
            found(&classifier(), &probabilities),
            [
                (1, [0.9_f32, 0.3].map(f64::from)),
                (2, [0.1_f32, 0.7].map(f64::from))
            ]
        );
    }

    #[test]
    fn probabilities_are_found_by_their_class() {
        let mut probabilities = numbers("probabilities", &[2, 2], &[0.25, 0.75, 0.5, 0.5]);
        probabilities.set_class_labels(["yes", "no"]);
        let tensors = [texts("label", &["no", "yes"]), probabilities];
        let side = classifier();
        let columns = side.columns(&tensors, 2);
        assert_eq!(
            columns.iter().map(|column| column.subject).collect::<Vec<_>>(),
            [0, 1, 2]
        );
        assert_eq!([columns[1].number(0), columns[2].number(0)], [0.75, 0.25]);
        assert!(columns[0].number(0).is_nan(), "a text is no number");
    }
}
