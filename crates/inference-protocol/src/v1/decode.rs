//! Reading V1 requests by a model's signature.

use bytes::Bytes;

use super::{Form, V1Request};
use crate::{
    Datatype, ModelSignature, Names, ProtocolError, Role, Shape, Tensor, TensorData, TensorLabel, TensorSpec,
    error::shown,
    json::{DataFault, Fault, Mode, Numbers, Reader, Sink, Strings, is_base64, nested},
};

/// Reads a request for a model: the values go straight into tensors of its datatypes, and the tensors fit it.
///
/// # Errors
/// What is wrong with the body, told with the model; as [`ModelSignature::validate`].
pub fn decode_request(signature: &ModelSignature, body: &Bytes) -> Result<V1Request, ProtocolError> {
    let request = decode(signature, body).map_err(|error| error.in_model(&signature.model))?;
    signature.validate_inputs(&request.inputs)?;
    Ok(request)
}

fn decode(signature: &ModelSignature, body: &Bytes) -> Result<V1Request, ProtocolError> {
    let mut reader = Reader::new(body, Mode::Strict)?;
    let mut inputs = Inputs::new(signature, body);
    let mut form = None;
    let error = |reader: &Reader<'_>, fault| reader.error(fault, || "the request".to_owned());
    let mut object = reader.enter_object().map_err(|fault| error(&reader, fault))?;
    while let Some(key) = reader
        .next_key(&mut object)
        .map_err(|fault| error(&reader, fault))?
    {
        let this = match &*key {
            "instances" => Form::Rows,
            "inputs" => Form::Columns,
            _ => {
                reader.skip().map_err(|fault| error(&reader, fault))?;
                continue;
            }
        };
        match form.replace(this) {
            None => {}
            Some(before) if before == this => {
                return Err(ProtocolError::DuplicateField {
                    field: this.request_key().into(),
                });
            }
            Some(_) => return Err(ProtocolError::V1Form { got: "both" }),
        }
        match this {
            Form::Rows => inputs.read_rows(&mut reader)?,
            Form::Columns => inputs.read_columns(&mut reader)?,
        }
    }
    reader.end().map_err(|fault| error(&reader, fault))?;
    let form = form.ok_or(ProtocolError::V1Form { got: "neither" })?;
    Ok(V1Request {
        inputs: inputs.finish()?,
        form,
    })
}

/// The inputs of the model, as far as they are read.
struct Inputs<'s> {
    signature: &'s ModelSignature,
    body: &'s Bytes,
    columns: Vec<Column<'s>>,
}

struct Column<'s> {
    spec: &'s TensorSpec,
    is_optional: bool,
    sink: AnySink,
    /// Dimensions of one row in the form by rows, of the whole tensor otherwise; -1 until known.
    dimensions: Shape,
    /// Rows in the form by rows; 1 once read otherwise.
    filled: usize,
}

impl<'s> Inputs<'s> {
    fn new(signature: &'s ModelSignature, body: &'s Bytes) -> Inputs<'s> {
        Inputs {
            signature,
            body,
            columns: Vec::with_capacity(signature.inputs.len()),
        }
    }

    /// Sets the columns up; `dimensions` of a spec's shape are those of a value in the body.
    fn start(&mut self, dimensions: impl Fn(&Shape) -> &[i64]) -> Result<(), ProtocolError> {
        let required = self.signature.inputs.iter().map(|spec| (spec, false));
        let optional = self.signature.optional_inputs.iter().map(|spec| (spec, true));
        for (spec, is_optional) in required.chain(optional) {
            let Some(sink) = AnySink::new(spec.datatype) else {
                if is_optional {
                    continue;
                }
                let tensor = TensorLabel::new(Role::Input, &spec.name);
                return Err(ProtocolError::NotInJson {
                    tensor,
                    datatype: spec.datatype,
                });
            };
            let dimensions = Shape::new(dimensions(&spec.shape));
            self.columns.push(Column {
                spec,
                is_optional,
                sink,
                dimensions,
                filled: 0,
            });
        }
        Ok(())
    }

    fn read_rows(&mut self, reader: &mut Reader<'_>) -> Result<(), ProtocolError> {
        if self.signature.inputs.is_empty() {
            return Err(ProtocolError::Field {
                field: "instances".into(),
                expected: "`inputs` instead, `{}` if need be: the model needs no inputs, and so has no rows",
                got: "`instances`".into(),
            });
        }
        self.start(|shape| shape.dimensions().get(1..).unwrap_or_default())?;
        let error = |reader: &Reader<'_>, fault| reader.error(fault, || "instances".to_owned());
        let mut rows = 0;
        let mut array = reader.enter_array().map_err(|fault| error(reader, fault))?;
        while reader
            .next_element(&mut array)
            .map_err(|fault| error(reader, fault))?
        {
            self.read_row(reader, rows)?;
            rows += 1;
        }
        if rows == 0 {
            let (expected, got) = ("at least one row", "`[]`".into());
            return Err(ProtocolError::Field {
                field: "instances".into(),
                expected,
                got,
            });
        }
        for column in &mut self.columns {
            if column.is_optional && column.filled != 0 && column.filled != rows {
                return Err(column.gaps());
            }
            let row = column.dimensions.dimensions();
            column.dimensions = std::iter::once(rows as i64).chain(row.iter().copied()).collect();
        }
        Ok(())
    }

    fn read_row(&mut self, reader: &mut Reader<'_>, row: usize) -> Result<(), ProtocolError> {
        let error = |reader: &Reader<'_>, fault| reader.error(fault, || format!("instances[{row}]"));
        let opening = reader.peek();
        let required = self.signature.inputs.len();
        match &mut self.columns[..required] {
            [only]
                if opening != Some(b'{') || (only.spec.datatype == Datatype::Bytes && is_base64(reader)) =>
            {
                return only.read_value(reader);
            }
            _ if opening == Some(b'{') => return self.read_named(reader, row),
            _ => {}
        }
        // Values by position, of the inputs that every row has.
        let mut array = match reader.enter_array() {
            Ok(array) => array,
            Err(Fault::Unwanted { at, .. }) => {
                let expected = "an object with a value per input, or an array of them";
                return Err(error(reader, Fault::Unwanted { at, expected }));
            }
            Err(fault) => return Err(error(reader, fault)),
        };
        let mut columns = self.columns[..required].iter_mut();
        let mut got = 0;
        while reader
            .next_element(&mut array)
            .map_err(|fault| error(reader, fault))?
        {
            match columns.next() {
                Some(column) => column.read_value(reader)?,
                None => drop(reader.skip().map_err(|fault| error(reader, fault))?),
            }
            got += 1;
        }
        if got == required {
            return Ok(());
        }
        Err(ProtocolError::Field {
            field: format!("instances[{row}]").into(),
            expected: "a value for each input of the model",
            got: format!("{got} for {required}").into(),
        })
    }

    /// An object with a member per input: of one row, or of the whole request.
    fn read_named(&mut self, reader: &mut Reader<'_>, row: usize) -> Result<(), ProtocolError> {
        let error = |reader: &Reader<'_>, fault| reader.error(fault, || "the row".to_owned());
        let mut object = reader.enter_object().map_err(|fault| error(reader, fault))?;
        let mut members = 0;
        while let Some(name) = reader
            .next_key(&mut object)
            .map_err(|fault| error(reader, fault))?
        {
            let in_order = self
                .columns
                .get(members)
                .is_some_and(|column| column.spec.name == name);
            let at = if in_order {
                Some(members)
            } else {
                self.columns.iter().position(|column| column.spec.name == name)
            };
            let Some(at) = at else {
                return Err(ProtocolError::UnexpectedInput {
                    model: self.signature.model.as_str().into(),
                    got: shown(&name),
                    expected: Names(
                        self.signature
                            .inputs
                            .iter()
                            .map(|spec| spec.name.clone())
                            .collect(),
                    ),
                });
            };
            let column = &mut self.columns[at];
            if column.filled > row {
                return Err(ProtocolError::DuplicateTensor {
                    tensor: column.label(),
                });
            }
            if column.is_optional && column.filled < row {
                return Err(column.gaps());
            }
            column.read_value(reader)?;
            members += 1;
        }
        if members == self.columns.len() {
            return Ok(());
        }
        let required = &self.columns[..self.signature.inputs.len()];
        let absent = required.iter().filter(|column| column.filled <= row);
        let missing = absent.clone().count();
        if missing == 0 {
            return Ok(());
        }
        Err(ProtocolError::MissingInputs {
            model: self.signature.model.as_str().into(),
            expected: required.len(),
            got: required.len() - missing,
            missing: Names(absent.map(|column| column.spec.name.clone()).collect()),
        })
    }

    fn read_columns(&mut self, reader: &mut Reader<'_>) -> Result<(), ProtocolError> {
        self.start(Shape::dimensions)?;
        let required = self.signature.inputs.len();
        match &mut self.columns[..required] {
            [only]
                if reader.peek() != Some(b'{')
                    || (only.spec.datatype == Datatype::Bytes && is_base64(reader)) =>
            {
                only.read_value(reader)
            }
            _ if reader.peek() == Some(b'{') => self.read_named(reader, 0),
            _ => {
                let fault = reader.fault("an object with a tensor per input");
                Err(reader.error(fault, || "inputs".to_owned()))
            }
        }
    }

    fn finish(self) -> Result<Vec<Tensor>, ProtocolError> {
        let body = self.body;
        let given = |column: &Column<'_>| !column.is_optional || column.filled > 0;
        let tensors = self.columns.into_iter().filter(given).map(|column| {
            // Still unknown: within an array that is empty.
            let shape: Shape = column.dimensions.dimensions().iter().map(|&n| n.max(0)).collect();
            Tensor::with_role(
                Role::Input,
                column.spec.name.clone(),
                shape,
                column.sink.finish(body),
            )
        });
        tensors.collect()
    }
}

impl Column<'_> {
    fn label(&self) -> TensorLabel {
        TensorLabel::new(Role::Input, &self.spec.name)
    }

    /// An optional input stands in all rows or in none; a tensor has no gaps.
    fn gaps(&self) -> ProtocolError {
        ProtocolError::Field {
            field: "instances".into(),
            expected: "an optional input in every row or in none",
            got: format!("`{}` in some", self.spec.name).into(),
        }
    }

    fn read_value(&mut self, reader: &mut Reader<'_>) -> Result<(), ProtocolError> {
        if self.spec.any_rank && self.filled == 0 {
            // The first value settles it.
            self.dimensions = Shape::from(vec![-1; reader.arrays_ahead()]);
        }
        self.filled += 1;
        // In the form by rows, the outermost dimension of the spec is the rows.
        let outer = self.spec.shape.rank() - self.dimensions.rank().min(self.spec.shape.rank());
        self.read_dimensions(reader).map_err(|fault| {
            let fault = match fault {
                DataFault::Ragged { level, expected, got } => DataFault::Ragged {
                    level: level + outer,
                    expected,
                    got,
                },
                fault => fault,
            };
            fault.error(
                reader,
                Role::Input,
                &self.spec.name,
                self.spec.datatype,
                &self.spec.shape,
            )
        })
    }

    fn read_dimensions(&mut self, reader: &mut Reader<'_>) -> Result<(), DataFault> {
        let dimensions = self.dimensions.dimensions_mut();
        if reader.peek() != Some(b'[') {
            return if fill_with_ones(dimensions) {
                let index = self.sink.len();
                self.sink
                    .push(reader)
                    .map_err(|fault| DataFault::Value { fault, index })
            } else {
                Err(reader.fault("an array").into())
            };
        }
        if dimensions.is_empty() {
            let index = self.sink.len();
            return self
                .sink
                .push(reader)
                .map_err(|fault| DataFault::Value { fault, index });
        }
        let mut array = reader.enter_array()?;
        // A flat list is a column of one value per row.
        if dimensions.len() > 1 && !matches!(reader.peek(), Some(b'[' | b']')) {
            let (rows, row) = dimensions.split_at_mut(1);
            if fill_with_ones(row) {
                return nested(reader, &mut array, rows, 0, &mut self.sink);
            }
        }
        nested(reader, &mut array, dimensions, 0, &mut self.sink)
    }
}

/// Whether a bare value will do: every dimension is 1, or was not known until now.
fn fill_with_ones(dimensions: &mut [i64]) -> bool {
    let fits = dimensions
        .iter()
        .all(|&dimension| dimension == 1 || dimension == -1);
    if fits {
        dimensions.fill(1);
    }
    fits
}

macro_rules! any_sink {
    ($($datatype:ident),*) => {
        /// The sink of any datatype with a JSON form.
        enum AnySink {
            $($datatype(Numbers<any_sink!(@type $datatype)>),)*
            Bytes(Strings),
        }

        impl AnySink {
            fn new(datatype: Datatype) -> Option<AnySink> {
                match datatype {
                    $(Datatype::$datatype => Some(AnySink::$datatype(Numbers(Vec::new()))),)*
                    Datatype::Bytes => Some(AnySink::Bytes(Strings::with_capacity(0, true))),
                    Datatype::Fp16 | Datatype::Bf16 => None,
                }
            }

            fn finish(self, body: &Bytes) -> TensorData {
                match self {
                    $(AnySink::$datatype(numbers) => TensorData::from_vec(numbers.0),)*
                    AnySink::Bytes(strings) => TensorData::from_strings(strings.finish(body)),
                }
            }
        }

        impl Sink for AnySink {
            fn len(&self) -> usize {
                match self {
                    $(AnySink::$datatype(numbers) => numbers.len(),)*
                    AnySink::Bytes(strings) => strings.len(),
                }
            }

            fn push(&mut self, reader: &mut Reader<'_>) -> Result<(), Fault> {
                match self {
                    $(AnySink::$datatype(numbers) => numbers.push(reader),)*
                    AnySink::Bytes(strings) => strings.push(reader),
                }
            }
        }
    };
    (@type Bool) => { bool };
    (@type Uint8) => { u8 };
    (@type Uint16) => { u16 };
    (@type Uint32) => { u32 };
    (@type Uint64) => { u64 };
    (@type Int8) => { i8 };
    (@type Int16) => { i16 };
    (@type Int32) => { i32 };
    (@type Int64) => { i64 };
    (@type Fp32) => { f32 };
    (@type Fp64) => { f64 };
}

any_sink!(
    Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp32, Fp64
);
