//! A small ONNX model, written at the level of the wire: two columns in, both handed through.

/// `TensorProto.DataType`.
const FLOAT: u64 = 1;
const STRING: u64 = 8;

/// A protobuf message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn int(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn bytes(mut self, field: u64, bytes: impl AsRef<[u8]>) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.as_ref().len() as u64);
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    fn message(self, field: u64, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }
}

/// An input or output of shape `[N, 1]`.
fn column(name: &str, element: u64) -> Message {
    let rows = Message::default().bytes(2, "N");
    let width = Message::default().int(1, 1);
    let shape = Message::default().message(1, &rows).message(1, &width);
    let tensor = Message::default().int(1, element).message(2, &shape);
    Message::default()
        .bytes(1, name)
        .message(2, &Message::default().message(1, &tensor))
}

fn identity(input: &str, output: &str) -> Message {
    Message::default()
        .bytes(1, input)
        .bytes(2, output)
        .bytes(4, "Identity")
}

/// Inputs `amount` FP32 and `plan` BYTES, outputs `score` and `label` that equal them.
pub(crate) fn two_columns() -> Vec<u8> {
    let graph = Message::default()
        .message(1, &identity("amount", "score"))
        .message(1, &identity("plan", "label"))
        .bytes(2, "two columns")
        .message(11, &column("amount", FLOAT))
        .message(11, &column("plan", STRING))
        .message(12, &column("score", FLOAT))
        .message(12, &column("label", STRING));
    let opset = Message::default().int(2, 15);
    Message::default()
        .int(1, 8)
        .bytes(2, "plumbline-tests")
        .message(7, &graph)
        .message(8, &opset)
        .0
}
