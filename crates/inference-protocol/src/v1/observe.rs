//! Reading V1 bodies without a signature: values are what they look like.

use std::collections::HashMap;

use bytes::Bytes;

use super::{Form, UNNAMED, V1Request};
use crate::{
    Datatype, ProtocolError, Role, Shape, Tensor, TensorData,
    error::shown,
    json::{DEPTH_LIMIT, DataFault, Fault, Mode, Reader, Scalar, Sink, Strings, is_base64, nested},
};

/// Reads a request as it looks: numbers become `FP64`, strings `BYTES`, booleans `BOOL`; `null` becomes NaN among
/// numbers and an empty string among strings. Numbers and booleans together are numbers, anything else together is text.
///
/// Rows that are objects, and inputs by name, give a tensor per name. Other bodies give one tensor named [`UNNAMED`],
/// except rows that are arrays of different kinds: those give a tensor per position, named `0`, `1`, ….
///
/// # Errors
/// What is wrong with the body, e.g. [`ProtocolError::Ragged`] for rows of different lengths.
pub fn observe_request(body: &Bytes) -> Result<V1Request, ProtocolError> {
    let (inputs, form) = observe(
        body,
        Role::Input,
        [Form::Rows, Form::Columns].map(|form| (form.request_key(), form)),
    )?;
    Ok(V1Request { inputs, form })
}

/// Reads an answer as [`observe_request`] reads a request. An object of numbers within a row, as a classifier's
/// `probabilities`, becomes a tensor `[rows, classes]` with [`Tensor::class_labels`].
///
/// # Errors
/// As [`observe_request`].
pub fn observe_response(body: &Bytes) -> Result<Vec<Tensor>, ProtocolError> {
    let keys = [Form::Rows, Form::Columns].map(|form| (form.response_key(), form));
    observe(body, Role::Output, keys).map(|(outputs, _)| outputs)
}

fn observe(
    body: &Bytes,
    role: Role,
    keys: [(&'static str, Form); 2],
) -> Result<(Vec<Tensor>, Form), ProtocolError> {
    let mut reader = Reader::new(body, Mode::Lenient)?;
    let mut read: Option<(Vec<Named>, Form)> = None;
    let error = |reader: &Reader<'_>, fault| reader.error(fault, || "the body".to_owned());
    let mut object = reader.enter_object().map_err(|fault| error(&reader, fault))?;
    while let Some(key) = reader
        .next_key(&mut object)
        .map_err(|fault| error(&reader, fault))?
    {
        let Some(&(_, form)) = keys.iter().find(|(name, _)| *name == key) else {
            reader.skip().map_err(|fault| error(&reader, fault))?;
            continue;
        };
        if read.is_some() {
            return Err(ProtocolError::V1Form { got: "both" });
        }
        let columns = match form {
            Form::Rows => rows(&mut reader),
            Form::Columns => columns(&mut reader),
        };
        // Without a signature there is no shape to compare with; the fault speaks of what came before.
        let columns =
            columns.map_err(|fault| fault.error(&reader, role, &key, Datatype::Bytes, &Shape::default()))?;
        read = Some((columns, form));
    }
    reader.end().map_err(|fault| error(&reader, fault))?;
    let (columns, form) = read.ok_or(ProtocolError::V1Form { got: "neither" })?;
    let tensors = columns
        .into_iter()
        .map(|column| column.finish(role, body))
        .collect::<Result<_, _>>()?;
    Ok((tensors, form))
}

/// A column that is being read.
struct Named {
    name: String,
    rows: usize,
    column: Column,
}

enum Column {
    /// Values and arrays of values; the dimensions are those of a row, -1 until known.
    Values { values: Guess, row: Shape },
    /// Objects of numbers.
    Map { keys: Vec<String>, values: Vec<f64> },
}

impl Named {
    /// A column for values like the one at the cursor.
    fn new(name: &str, reader: &mut Reader<'_>) -> Named {
        let column = if reader.peek() == Some(b'{') && !is_base64(reader) {
            Column::Map {
                keys: Vec::new(),
                values: Vec::new(),
            }
        } else {
            Column::Values {
                values: Guess::default(),
                row: vec![-1; leading_arrays(reader)].into(),
            }
        };
        Named {
            name: name.to_owned(),
            rows: 0,
            column,
        }
    }

    fn read_row(&mut self, reader: &mut Reader<'_>) -> Result<(), DataFault> {
        match &mut self.column {
            Column::Values { values, row } => read_nested(reader, row.dimensions_mut(), values)?,
            Column::Map { keys, values } => read_map(reader, self.rows, keys, values)?,
        }
        self.rows += 1;
        Ok(())
    }

    fn finish(self, role: Role, body: &Bytes) -> Result<Tensor, ProtocolError> {
        let rows = self.rows as i64;
        match self.column {
            Column::Values { values, row } => {
                let known = row.dimensions().iter().map(|&dimension| dimension.max(0));
                let shape = std::iter::once(rows).chain(known).collect();
                Tensor::with_role(role, self.name, shape, values.finish(body))
            }
            Column::Map { keys, values } => {
                let shape = [rows, keys.len() as i64].into();
                let mut tensor = Tensor::with_role(role, self.name, shape, TensorData::from_vec(values))?;
                tensor.set_class_labels(keys);
                Ok(tensor)
            }
        }
    }
}

fn rows(reader: &mut Reader<'_>) -> Result<Vec<Named>, DataFault> {
    let start = {
        reader.peek();
        reader.at
    };
    let mut array = reader.enter_array()?;
    if reader.peek() == Some(b'{') && !is_base64(reader) {
        let mut columns = ByName::default();
        let mut row = 0;
        while reader.next_element(&mut array)? {
            columns.read_row(reader, row)?;
            row += 1;
        }
        return same_rows(columns.list, row);
    }
    let Some(_) = reader.peek().filter(|&byte| byte != b']') else {
        reader.next_element(&mut array)?;
        return Ok(Vec::new());
    };
    let mut bare = Named::new(UNNAMED, reader);
    let flat_rows = matches!(&bare.column, Column::Values { row, .. } if row.rank() == 1);
    while reader.next_element(&mut array)? {
        bare.read_row(reader)?;
        if flat_rows && matches!(&bare.column, Column::Values { values, .. } if values.mixed) {
            reader.restart(start);
            return positions(reader);
        }
    }
    Ok(vec![bare])
}

/// Rows that are flat arrays of different kinds: a column per position.
fn positions(reader: &mut Reader<'_>) -> Result<Vec<Named>, DataFault> {
    let mut columns: Vec<Named> = Vec::new();
    let mut row = 0;
    let mut array = reader.enter_array()?;
    while reader.next_element(&mut array)? {
        let mut position = 0;
        let mut values = reader.enter_array()?;
        while reader.next_element(&mut values)? {
            if position == columns.len() {
                if row > 0 {
                    return Err(ragged(columns.len(), "more"));
                }
                columns.push(Named::new(&position.to_string(), reader));
            }
            columns[position].read_row(reader)?;
            position += 1;
        }
        if position < columns.len() {
            return Err(ragged(columns.len(), "fewer"));
        }
        row += 1;
    }
    Ok(columns)
}

fn ragged(expected: usize, got: &str) -> DataFault {
    DataFault::Ragged {
        level: 1,
        expected: format!("{expected} elements").into(),
        got: got.into(),
    }
}

/// Columns in the order of the first row, found by name: a body may have very many.
#[derive(Default)]
struct ByName {
    list: Vec<Named>,
    places: HashMap<String, usize>,
}

impl ByName {
    /// Reads one row, an object with a value per column.
    fn read_row(&mut self, reader: &mut Reader<'_>, row: usize) -> Result<(), DataFault> {
        let mut object = reader.enter_object()?;
        let mut member = 0;
        while let Some(name) = reader.next_key(&mut object)? {
            let in_order = self.list.get(member).is_some_and(|column| column.name == name);
            let at = if in_order {
                Some(member)
            } else {
                self.places.get(&*name).copied()
            };
            let at = match at {
                Some(at) if self.list[at].rows == row => at,
                None if row == 0 => self.add(Named::new(&name, reader)),
                Some(_) | None => {
                    let got = format!("`{}`", shown(&name)).into();
                    let expected = "the keys of the first row, once each".into();
                    return Err(DataFault::Ragged {
                        level: 1,
                        expected,
                        got,
                    });
                }
            };
            self.list[at].read_row(reader)?;
            member += 1;
        }
        Ok(())
    }

    fn add(&mut self, column: Named) -> usize {
        let at = self.list.len();
        self.places.insert(column.name.clone(), at);
        self.list.push(column);
        at
    }
}

fn same_rows(columns: Vec<Named>, rows: usize) -> Result<Vec<Named>, DataFault> {
    match columns.iter().find(|column| column.rows != rows) {
        None => Ok(columns),
        Some(column) => Err(DataFault::Ragged {
            level: 0,
            expected: format!("`{}` in {rows} rows", shown(&column.name)).into(),
            got: format!("it in {}", column.rows).into(),
        }),
    }
}

fn columns(reader: &mut Reader<'_>) -> Result<Vec<Named>, DataFault> {
    if reader.peek() != Some(b'{') || is_base64(reader) {
        return Ok(vec![whole(UNNAMED, reader)?]);
    }
    let mut columns = ByName::default();
    let mut object = reader.enter_object()?;
    while let Some(name) = reader.next_key(&mut object)? {
        if columns.places.contains_key(&*name) {
            let (expected, got) = (format!("`{}` once", shown(&name)).into(), "it twice".into());
            return Err(DataFault::Ragged {
                level: 0,
                expected,
                got,
            });
        }
        columns.add(whole(&name, reader)?);
    }
    Ok(columns.list)
}

/// A whole tensor: an array of rows, or a bare value as a tensor of one row.
fn whole(name: &str, reader: &mut Reader<'_>) -> Result<Named, DataFault> {
    if reader.peek() != Some(b'[') {
        let mut column = Named::new(name, reader);
        column.read_row(reader)?;
        return Ok(column);
    }
    let mut array = reader.enter_array()?;
    let mut column = Named::new(name, reader);
    while reader.next_element(&mut array)? {
        column.read_row(reader)?;
    }
    Ok(column)
}

/// How many arrays open here, one directly in the other.
fn leading_arrays(reader: &mut Reader<'_>) -> usize {
    reader.peek();
    let rest = &reader.bytes()[reader.at..];
    let opening = rest
        .iter()
        .take_while(|byte| matches!(byte, b'[' | b' ' | b'\n' | b'\t' | b'\r'));
    // The reader refuses more levels than its limit: nobody prepares for more.
    opening
        .filter(|&&byte| byte == b'[')
        .take(DEPTH_LIMIT as usize + 1)
        .count()
}

fn read_nested(reader: &mut Reader<'_>, row: &mut [i64], values: &mut Guess) -> Result<(), DataFault> {
    if row.is_empty() {
        let index = values.len();
        return values
            .push(reader)
            .map_err(|fault| DataFault::Value { fault, index });
    }
    let mut array = reader.enter_array()?;
    nested(reader, &mut array, row, 0, values)
}

/// Classes are looked up one by one.
const MOST_CLASSES: usize = 1024;

/// An object of numbers; the first one settles the keys.
fn read_map(
    reader: &mut Reader<'_>,
    row: usize,
    keys: &mut Vec<String>,
    values: &mut Vec<f64>,
) -> Result<(), DataFault> {
    let start = values.len();
    values.resize(start + keys.len(), f64::NAN);
    let mut object = reader.enter_object()?;
    let mut member = 0;
    while let Some(key) = reader.next_key(&mut object)? {
        let in_order = keys.get(member).is_some_and(|known| *known == key);
        let at = if in_order {
            Some(member)
        } else {
            keys.iter().position(|known| *known == key)
        };
        let index = values.len();
        let value = f64::read(reader).map_err(|fault| DataFault::Value { fault, index })?;
        match at {
            Some(at) => values[start + at] = value,
            None if row == 0 && keys.len() < MOST_CLASSES => {
                keys.push(key.into_owned());
                values.push(value);
            }
            None => {
                let (expected, got) = (
                    "the keys of the first row, at most 1024".into(),
                    format!("`{}`", shown(&key)).into(),
                );
                return Err(DataFault::Ragged {
                    level: 1,
                    expected,
                    got,
                });
            }
        }
        member += 1;
    }
    Ok(())
}

/// Values whose datatype is that of what came first, widened when something else follows.
#[derive(Default)]
struct Guess {
    /// `null`s before anything else.
    nulls: usize,
    kind: Kind,
    /// Text and numbers stood together.
    mixed: bool,
}

#[derive(Default)]
enum Kind {
    #[default]
    Unknown,
    Bools(Vec<bool>),
    Numbers(Vec<f64>),
    Texts(Strings),
}

impl Guess {
    /// Makes room for numbers; `false` if there is text already.
    fn numbers(&mut self) -> Option<&mut Vec<f64>> {
        match &mut self.kind {
            Kind::Unknown => self.kind = Kind::Numbers(vec![f64::NAN; self.nulls]),
            Kind::Bools(bools) => {
                let numbers = bools.iter().map(|&value| f64::from(u8::from(value))).collect();
                self.kind = Kind::Numbers(numbers);
            }
            Kind::Numbers(_) | Kind::Texts(_) => {}
        }
        match &mut self.kind {
            Kind::Numbers(numbers) => Some(numbers),
            Kind::Unknown | Kind::Bools(_) | Kind::Texts(_) => None,
        }
    }

    /// Makes room for text: what came before becomes text.
    fn texts(&mut self, reader: &Reader<'_>) -> Result<&mut Strings, Fault> {
        let mut before: Vec<String> = Vec::new();
        match &self.kind {
            Kind::Unknown => before.resize(self.nulls, String::new()),
            Kind::Bools(bools) => before.extend(bools.iter().map(bool::to_string)),
            Kind::Numbers(numbers) => before.extend(numbers.iter().map(|&value| number_text(value))),
            Kind::Texts(_) => {}
        }
        self.mixed |= matches!(self.kind, Kind::Bools(_) | Kind::Numbers(_));
        if !matches!(self.kind, Kind::Texts(_)) {
            let mut texts = Strings::with_capacity(before.len(), true);
            for text in &before {
                texts.push_owned(reader, reader.at, text.as_bytes())?;
            }
            self.kind = Kind::Texts(texts);
        }
        match &mut self.kind {
            Kind::Texts(texts) => Ok(texts),
            Kind::Unknown | Kind::Bools(_) | Kind::Numbers(_) => unreachable!("just made text"),
        }
    }

    fn finish(self, body: &Bytes) -> TensorData {
        match self.kind {
            Kind::Unknown => TensorData::from_vec(vec![f64::NAN; self.nulls]),
            Kind::Bools(bools) => TensorData::from_vec(bools),
            Kind::Numbers(numbers) => TensorData::from_vec(numbers),
            Kind::Texts(texts) => TensorData::from_strings(texts.finish(body)),
        }
    }
}

/// A number as text: `1`, not `1.0`, as it most likely stood in the body. What has no number is empty.
fn number_text(value: f64) -> String {
    if value.is_nan() {
        String::new()
    } else {
        value.to_string()
    }
}

impl Sink for Guess {
    fn len(&self) -> usize {
        match &self.kind {
            Kind::Unknown => self.nulls,
            Kind::Bools(bools) => bools.len(),
            Kind::Numbers(numbers) => numbers.len(),
            Kind::Texts(texts) => texts.len(),
        }
    }

    fn push(&mut self, reader: &mut Reader<'_>) -> Result<(), Fault> {
        match reader.peek() {
            Some(b'"' | b'{') => self.texts(reader)?.push(reader),
            Some(b't' | b'f') => {
                let value = reader.boolean()?;
                match &mut self.kind {
                    Kind::Unknown if self.nulls == 0 => self.kind = Kind::Bools(vec![value]),
                    Kind::Bools(bools) => bools.push(value),
                    Kind::Texts(texts) => {
                        self.mixed = true;
                        texts.push_owned(reader, reader.at, value.to_string().as_bytes())?;
                    }
                    Kind::Unknown | Kind::Numbers(_) => {
                        if let Some(numbers) = self.numbers() {
                            numbers.push(f64::from(u8::from(value)));
                        }
                    }
                }
                Ok(())
            }
            Some(b'n') if matches!(self.kind, Kind::Unknown) && reader.literal("null") => {
                self.nulls += 1;
                Ok(())
            }
            _ => {
                let start = reader.at;
                let null = reader.peek() == Some(b'n');
                let value = f64::read(reader)?;
                if let Some(numbers) = self.numbers() {
                    numbers.push(value);
                } else if let Kind::Texts(texts) = &mut self.kind {
                    self.mixed |= !null;
                    let text = if null { "" } else { reader.slice(start, reader.at) };
                    texts.push_owned(reader, start, text.as_bytes())?;
                }
                Ok(())
            }
        }
    }
}
