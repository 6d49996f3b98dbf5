//! The `data` of a tensor: nested or flat arrays into one typed buffer.

use bytes::Bytes;

use super::{Fault, Reader, Scalar, Text, read};
use crate::{
    Datatype, ProtocolError, Role, Shape, StringData, TensorData, TensorLabel,
    tensor::{Element, Span},
};

/// Why `data` cannot be read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DataFault {
    /// Not JSON, or not an array where one must be.
    Json(Fault),
    /// A value that is not of the datatype.
    Value { fault: Fault, index: usize },
    /// A flat array of the wrong length.
    Count { expected: usize, got: usize },
    /// Nested arrays that do not follow the shape.
    Ragged {
        level: usize,
        expected: Box<str>,
        got: Box<str>,
    },
    /// The datatype has no JSON form.
    NotInJson,
}

impl From<Fault> for DataFault {
    fn from(fault: Fault) -> DataFault {
        DataFault::Json(fault)
    }
}

impl DataFault {
    /// The error, told with the tensor.
    pub(crate) fn error(
        self,
        reader: &Reader<'_>,
        role: Role,
        name: &str,
        datatype: Datatype,
        shape: &Shape,
    ) -> ProtocolError {
        let tensor = TensorLabel::new(role, name);
        match self {
            DataFault::Value {
                fault: Fault::Unwanted { at, expected },
                index,
            } => ProtocolError::Value {
                tensor,
                index,
                expected,
                got: reader.excerpt(at),
            },
            DataFault::Json(Fault::Unwanted { at, expected }) => ProtocolError::Data {
                tensor,
                expected,
                got: reader.excerpt(at),
            },
            DataFault::Json(fault) | DataFault::Value { fault, .. } => {
                reader.error(fault, || "data".to_owned())
            }
            DataFault::Count { expected, got } => ProtocolError::ElementCount {
                tensor,
                shape: shape.clone(),
                expected,
                got,
            },
            DataFault::Ragged { level, expected, got } => ProtocolError::Ragged {
                tensor,
                shape: shape.clone(),
                level,
                expected,
                got,
            },
            DataFault::NotInJson => ProtocolError::NotInJson { tensor, datatype },
        }
    }
}

/// Where values are gathered.
pub(crate) trait Sink {
    fn len(&self) -> usize;
    fn push(&mut self, reader: &mut Reader<'_>) -> Result<(), Fault>;
}

/// Values of a fixed-width datatype.
pub(crate) struct Numbers<T>(pub(crate) Vec<T>);

impl<T: Scalar> Sink for Numbers<T> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn push(&mut self, reader: &mut Reader<'_>) -> Result<(), Fault> {
        self.0.push(T::read(reader)?);
        Ok(())
    }
}

/// `BYTES` values: spans of the body until one has to be unescaped, or comes as base64.
pub(crate) struct Strings {
    spans: Vec<Span>,
    /// The values so far, once they are no longer spans of the body.
    own: Option<Vec<u8>>,
    /// Whether `{"b64": "…"}` is a value, as in V1.
    base64: bool,
}

impl Strings {
    pub(crate) fn with_capacity(values: usize, base64: bool) -> Strings {
        Strings {
            spans: Vec::with_capacity(values),
            own: None,
            base64,
        }
    }

    /// The values. `body` starts with the reader's text.
    pub(crate) fn finish(self, body: &Bytes) -> StringData {
        StringData::from_spans(self.own.map_or_else(|| body.clone(), Bytes::from), self.spans)
    }

    /// Copies the values so far out of the text.
    fn own<'a>(&'a mut self, reader: &Reader<'_>) -> &'a mut Vec<u8> {
        let spans = &mut self.spans;
        self.own.get_or_insert_with(|| {
            let mut own = Vec::new();
            for span in spans {
                let start = own.len() as u32; // no longer than the text
                own.extend_from_slice(&reader.bytes()[span.start as usize..][..span.len as usize]);
                span.start = start;
            }
            own
        })
    }

    pub(crate) fn push_owned(&mut self, reader: &Reader<'_>, at: usize, value: &[u8]) -> Result<(), Fault> {
        let own = self.own(reader);
        let start = own.len();
        own.extend_from_slice(value);
        let too_long = Fault::Unwanted {
            at,
            expected: LESS_THAN_4_GIB,
        };
        u32::try_from(own.len()).map_err(|_| too_long)?;
        self.spans.push(Span {
            start: start as u32,
            len: value.len() as u32,
        });
        Ok(())
    }

    fn push_text(&mut self, reader: &Reader<'_>, text: Text<'_>) -> Result<(), Fault> {
        if text.escaped || self.own.is_some() {
            return self.push_owned(reader, text.at, text.unescape().as_bytes());
        }
        let too_far = Fault::Unwanted {
            at: text.at,
            expected: LESS_THAN_4_GIB,
        };
        u32::try_from(text.at + text.raw.len()).map_err(|_| too_far)?;
        self.spans.push(Span {
            start: text.at as u32,
            len: text.raw.len() as u32,
        });
        Ok(())
    }

    /// `{"b64": "…"}`.
    fn push_base64(&mut self, reader: &mut Reader<'_>) -> Result<(), Fault> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};

        const EXPECTED: &str = "an object with base64 text as its only member `b64`";
        let at = reader.at;
        let wrong = Fault::Unwanted {
            at,
            expected: EXPECTED,
        };
        let mut object = reader.enter_object()?;
        let key = reader.next_key(&mut object)?;
        if key.as_deref() != Some("b64") {
            return Err(wrong);
        }
        let text = reader.string()?;
        let value = STANDARD.decode(text.as_bytes()).map_err(|_| wrong)?;
        if reader.next_key(&mut object)?.is_some() {
            return Err(wrong);
        }
        self.push_owned(reader, at, &value)
    }
}

const LESS_THAN_4_GIB: &str = "less than 4 GiB of text";

impl Sink for Strings {
    fn len(&self) -> usize {
        self.spans.len()
    }

    fn push(&mut self, reader: &mut Reader<'_>) -> Result<(), Fault> {
        if self.base64 && reader.peek() == Some(b'{') {
            return self.push_base64(reader);
        }
        let text = reader.text()?;
        self.push_text(reader, text)
    }
}

/// Something to do with the sink of a datatype, whatever its type.
pub(crate) trait WithSink {
    type Output;
    fn run<S: Sink>(&mut self, sink: &mut S) -> Result<Self::Output, DataFault>;
}

/// Runs `with` on the sink of `datatype`, and gives what was gathered. `body` starts with the reader's text.
pub(crate) fn gather<W: WithSink>(
    datatype: Datatype,
    capacity: usize,
    body: &Bytes,
    base64: bool,
    with: &mut W,
) -> Result<(TensorData, W::Output), DataFault> {
    fn numbers<T: Scalar + Element, W: WithSink>(
        capacity: usize,
        with: &mut W,
    ) -> Result<(TensorData, W::Output), DataFault> {
        let mut sink = Numbers::<T>(Vec::with_capacity(capacity));
        let output = with.run(&mut sink)?;
        Ok((TensorData::from_vec(sink.0), output))
    }
    match datatype {
        Datatype::Bool => numbers::<bool, W>(capacity, with),
        Datatype::Uint8 => numbers::<u8, W>(capacity, with),
        Datatype::Uint16 => numbers::<u16, W>(capacity, with),
        Datatype::Uint32 => numbers::<u32, W>(capacity, with),
        Datatype::Uint64 => numbers::<u64, W>(capacity, with),
        Datatype::Int8 => numbers::<i8, W>(capacity, with),
        Datatype::Int16 => numbers::<i16, W>(capacity, with),
        Datatype::Int32 => numbers::<i32, W>(capacity, with),
        Datatype::Int64 => numbers::<i64, W>(capacity, with),
        Datatype::Fp32 => numbers::<f32, W>(capacity, with),
        Datatype::Fp64 => numbers::<f64, W>(capacity, with),
        Datatype::Bytes => {
            let mut sink = Strings::with_capacity(capacity, base64);
            let output = with.run(&mut sink)?;
            Ok((TensorData::from_strings(sink.finish(body)), output))
        }
        Datatype::Fp16 | Datatype::Bf16 => Err(DataFault::NotInJson),
    }
}

/// Reads `data` of a V2 tensor: one flat array of `count` values, or arrays nested as `shape` says. A scalar may
/// also stand bare.
pub(crate) fn read_data(
    reader: &mut Reader<'_>,
    body: &Bytes,
    datatype: Datatype,
    shape: &Shape,
    count: usize,
) -> Result<TensorData, DataFault> {
    struct Read<'r, 'a> {
        reader: &'r mut Reader<'a>,
        dimensions: Shape,
        count: usize,
    }
    impl WithSink for Read<'_, '_> {
        type Output = ();
        fn run<S: Sink>(&mut self, sink: &mut S) -> Result<(), DataFault> {
            let reader = &mut *self.reader;
            if self.dimensions.rank() == 0 && reader.peek() != Some(b'[') {
                return push(reader, sink);
            }
            let mut array = reader.enter_array()?;
            if reader.peek() == Some(b'[') && self.dimensions.rank() > 1 {
                return nested(reader, &mut array, self.dimensions.dimensions_mut(), 0, sink);
            }
            let mut got = 0_usize;
            while reader.next_element(&mut array)? {
                if got < self.count {
                    push(reader, sink)?;
                } else {
                    reader.skip()?; // only counted, for the error
                }
                got += 1;
            }
            if got == self.count {
                Ok(())
            } else {
                Err(DataFault::Count {
                    expected: self.count,
                    got,
                })
            }
        }
    }
    // A value takes a byte and a comma at least, so that a large shape alone reserves no memory.
    let capacity = count.min(reader.left() / 2 + 1);
    let mut read = Read {
        reader,
        dimensions: shape.clone(),
        count,
    };
    gather(datatype, capacity, body, false, &mut read).map(|(data, ())| data)
}

/// Reads the rest of an array at `level`, whose elements are arrays down to the last of `dimensions`. A dimension
/// of -1 becomes that of the first array at its level.
pub(crate) fn nested<S: Sink>(
    reader: &mut Reader<'_>,
    array: &mut read::Container,
    dimensions: &mut [i64],
    level: usize,
    sink: &mut S,
) -> Result<(), DataFault> {
    let innermost = level + 1 == dimensions.len();
    let expected = dimensions[level];
    let mut count = 0_i64;
    while reader.next_element(array)? {
        let opens = reader.peek() == Some(b'[');
        if expected >= 0 && count >= expected {
            reader.skip()?; // only counted, for the error
        } else if innermost && opens {
            let got = format!("an array, {}", reader.excerpt(reader.at)).into();
            return Err(DataFault::Ragged {
                level: level + 1,
                expected: "a value".into(),
                got,
            });
        } else if innermost {
            push(reader, sink)?;
        } else if opens {
            let mut inner = reader.enter_array()?;
            nested(reader, &mut inner, dimensions, level + 1, sink)?;
        } else {
            match reader.fault("an array") {
                fault @ (Fault::Syntax { .. } | Fault::Depth { .. }) => return Err(fault.into()),
                Fault::Unwanted { .. } => {}
            }
            let got = reader.excerpt(reader.at);
            return Err(DataFault::Ragged {
                level: level + 1,
                expected: "an array".into(),
                got,
            });
        }
        count += 1;
    }
    if expected < 0 {
        dimensions[level] = count;
    } else if count != expected {
        let (expected, got) = (elements(expected), elements(count));
        return Err(DataFault::Ragged { level, expected, got });
    }
    Ok(())
}

fn elements(count: i64) -> Box<str> {
    format!("{count} element{}", if count == 1 { "" } else { "s" }).into()
}

fn push<S: Sink>(reader: &mut Reader<'_>, sink: &mut S) -> Result<(), DataFault> {
    let index = sink.len();
    sink.push(reader)
        .map_err(|fault| DataFault::Value { fault, index })
}
