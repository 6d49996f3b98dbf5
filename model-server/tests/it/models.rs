//! Small ONNX models, written at the level of the wire so that tests need nothing but ONNX Runtime.

/// `TensorProto.DataType`.
pub(crate) const FLOAT: i64 = 1;
pub(crate) const INT32: i64 = 6;
pub(crate) const INT64: i64 = 7;
pub(crate) const STRING: i64 = 8;

/// Every element type with a datatype in the protocol, with that datatype.
pub(crate) const ELEMENTS: [(i64, &str); 14] = [
    (9, "BOOL"),
    (2, "UINT8"),
    (4, "UINT16"),
    (12, "UINT32"),
    (13, "UINT64"),
    (3, "INT8"),
    (5, "INT16"),
    (6, "INT32"),
    (7, "INT64"),
    (10, "FP16"),
    (16, "BF16"),
    (1, "FP32"),
    (11, "FP64"),
    (8, "BYTES"),
];

/// A dimension of an input or output.
#[derive(Clone, Copy)]
pub(crate) enum Dim {
    Size(i64),
    Name(&'static str),
    Any,
}

use Dim::{Any, Name, Size};

/// A message under construction.
#[derive(Clone, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub(crate) fn int(mut self, number: u64, value: i64) -> Message {
        self.varint(number << 3);
        self.varint(value as u64);
        self
    }

    pub(crate) fn float(mut self, number: u64, value: f32) -> Message {
        self.varint(number << 3 | 5);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn bytes(mut self, number: u64, bytes: impl AsRef<[u8]>) -> Message {
        self.varint(number << 3 | 2);
        self.varint(bytes.as_ref().len() as u64);
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    pub(crate) fn message(self, number: u64, message: Message) -> Message {
        self.bytes(number, message.0)
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

pub(crate) fn tensor_type(element: i64, dimensions: &[Dim]) -> Message {
    let shape = dimensions.iter().fold(Message::default(), |shape, dimension| {
        shape.message(
            1,
            match dimension {
                Size(size) => Message::default().int(1, *size),
                Name(name) => Message::default().bytes(2, name),
                Any => Message::default(),
            },
        )
    });
    Message::default().message(1, Message::default().int(1, element).message(2, shape))
}

pub(crate) fn value(name: &str, value_type: Message) -> Message {
    Message::default().bytes(1, name).message(2, value_type)
}

pub(crate) fn node(
    op: &str,
    domain: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: &[Message],
) -> Message {
    let node = inputs
        .iter()
        .fold(Message::default(), |node, input| node.bytes(1, input));
    let node = outputs.iter().fold(node, |node, output| node.bytes(2, output));
    let node = attributes.iter().fold(node.bytes(4, op), |node, attribute| {
        node.message(5, attribute.clone())
    });
    node.bytes(7, domain)
}

pub(crate) fn strings(name: &str, values: &[&str]) -> Message {
    let attribute = Message::default().bytes(1, name).int(20, 8);
    values
        .iter()
        .fold(attribute, |attribute, value| attribute.bytes(9, value))
}

pub(crate) fn ints(name: &str, values: &[i64]) -> Message {
    let attribute = Message::default().bytes(1, name).int(20, 7);
    values
        .iter()
        .fold(attribute, |attribute, value| attribute.int(8, *value))
}

pub(crate) fn floats(name: &str, values: &[f32]) -> Message {
    let attribute = Message::default().bytes(1, name).int(20, 6);
    values
        .iter()
        .fold(attribute, |attribute, value| attribute.float(7, *value))
}

pub(crate) fn text(name: &str, value: &str) -> Message {
    Message::default().bytes(1, name).int(20, 3).bytes(4, value)
}

/// A graph: its nodes, inputs and outputs.
#[derive(Default)]
pub(crate) struct Graph {
    pub(crate) initializers: Vec<Message>,
    pub(crate) nodes: Vec<Message>,
    pub(crate) inputs: Vec<Message>,
    pub(crate) outputs: Vec<Message>,
}

impl Graph {
    pub(crate) fn into_model(self, ir_version: i64, opset: i64) -> Vec<u8> {
        let graph = self
            .nodes
            .into_iter()
            .fold(Message::default(), |graph, node| graph.message(1, node));
        let graph = graph.bytes(2, "graph");
        let graph = self
            .initializers
            .into_iter()
            .fold(graph, |graph, tensor| graph.message(5, tensor));
        let graph = self
            .inputs
            .into_iter()
            .fold(graph, |graph, input| graph.message(11, input));
        let graph = self
            .outputs
            .into_iter()
            .fold(graph, |graph, output| graph.message(12, output));
        let ml = Message::default().bytes(1, "ai.onnx.ml").int(2, 1);
        Message::default()
            .int(1, ir_version)
            .bytes(2, "plumbline-tests")
            .bytes(3, "1.0")
            .message(7, graph)
            .message(8, Message::default().int(2, opset))
            .message(8, ml)
            .into_bytes()
    }

    pub(crate) fn model(self) -> Vec<u8> {
        self.into_model(8, 15)
    }
}

/// Triton's `simple`: `OUTPUT0` = `INPUT0` + `INPUT1`, `OUTPUT1` = `INPUT0` - `INPUT1`, INT32 `[-1, 4]`.
pub(crate) fn simple() -> Vec<u8> {
    let tensor = || tensor_type(INT32, &[Name("N"), Size(4)]);
    Graph {
        initializers: Vec::new(),
        nodes: vec![
            node("Add", "", &["INPUT0", "INPUT1"], &["OUTPUT0"], &[]),
            node("Sub", "", &["INPUT0", "INPUT1"], &["OUTPUT1"], &[]),
        ],
        inputs: vec![value("INPUT0", tensor()), value("INPUT1", tensor())],
        outputs: vec![value("OUTPUT0", tensor()), value("OUTPUT1", tensor())],
    }
    .model()
}

/// `y` = `x`, of this element type and shape.
pub(crate) fn identity(element: i64, dimensions: &[Dim]) -> Vec<u8> {
    Graph {
        initializers: Vec::new(),
        nodes: vec![node("Identity", "", &["x"], &["y"], &[])],
        inputs: vec![value("x", tensor_type(element, dimensions))],
        outputs: vec![value("y", tensor_type(element, dimensions))],
    }
    .model()
}

/// `y` = `x` + `number`, FP32 `[-1, 1]`: models of one signature that can be told apart.
pub(crate) fn plus(number: f32) -> Vec<u8> {
    let weights = Message::default().int(1, 1).int(2, FLOAT).bytes(8, "w");
    let column = || tensor_type(FLOAT, &[Name("N"), Size(1)]);
    Graph {
        initializers: vec![weights.bytes(9, number.to_le_bytes())],
        nodes: vec![node("Add", "", &["x", "w"], &["y"], &[])],
        inputs: vec![value("x", column())],
        outputs: vec![value("y", column())],
    }
    .model()
}

/// An output that is the input itself, without a node between.
pub(crate) fn pass_through() -> Vec<u8> {
    Graph {
        initializers: Vec::new(),
        nodes: vec![node("Abs", "", &["x"], &["y"], &[])],
        inputs: vec![value("x", tensor_type(FLOAT, &[Name("N"), Size(2)]))],
        outputs: vec![
            value("x", tensor_type(FLOAT, &[Name("N"), Size(2)])),
            value("y", tensor_type(FLOAT, &[Name("N"), Size(2)])),
        ],
    }
    .model()
}

/// The columns of a tabular model: `id` INT64 `[-1, 1]` and `plan` BYTES `[-1, 1]`, both handed through.
pub(crate) fn columns() -> Vec<u8> {
    let column = |element| tensor_type(element, &[Any, Size(1)]);
    Graph {
        initializers: Vec::new(),
        nodes: vec![
            node("Identity", "", &["id"], &["id_out"], &[]),
            node("Identity", "", &["plan"], &["plan_out"], &[]),
        ],
        inputs: vec![value("id", column(INT64)), value("plan", column(STRING))],
        outputs: vec![value("id_out", column(INT64)), value("plan_out", column(STRING))],
    }
    .model()
}

/// The type of a map from `key` to FP32.
pub(crate) fn map_type(key: i64) -> Message {
    let map = Message::default().int(1, key).message(2, tensor_type(FLOAT, &[]));
    Message::default().message(5, map)
}

/// Labels of [`classifier`].
pub(crate) enum Labels {
    Strings,
    Ints,
}

/// What `skl2onnx` makes of a logistic regression over two features: `LinearClassifier`, Normalizer, `ZipMap`. The
/// probability of the second class is `e^(2 x0) / (e^(2 x0) + e^(2 x1))`.
pub(crate) fn classifier(labels: &Labels) -> Vec<u8> {
    let (element, class_labels, zip_labels) = match labels {
        Labels::Strings => (
            STRING,
            strings("classlabels_strings", &["no", "yes"]),
            strings("classlabels_strings", &["no", "yes"]),
        ),
        Labels::Ints => (
            INT64,
            ints("classlabels_ints", &[0, 1]),
            ints("classlabels_int64s", &[0, 1]),
        ),
    };
    let classifier = [
        class_labels,
        floats("coefficients", &[-1.0, 1.0, 1.0, -1.0]),
        floats("intercepts", &[0.0, 0.0]),
        text("post_transform", "SOFTMAX"),
    ];
    let sequence = sequence_type(map_type(element));
    Graph {
        initializers: Vec::new(),
        nodes: vec![
            node(
                "LinearClassifier",
                "ai.onnx.ml",
                &["X"],
                &["output_label", "scores"],
                &classifier,
            ),
            node(
                "Normalizer",
                "ai.onnx.ml",
                &["scores"],
                &["probabilities"],
                &[text("norm", "L1")],
            ),
            node(
                "ZipMap",
                "ai.onnx.ml",
                &["probabilities"],
                &["output_probability"],
                &[zip_labels],
            ),
        ],
        inputs: vec![value("X", tensor_type(FLOAT, &[Any, Size(2)]))],
        outputs: vec![
            value("output_label", tensor_type(element, &[Any])),
            value("output_probability", sequence),
        ],
    }
    .model()
}

/// `y` = `x` + `w`, where the two FP32 values of `w` lie in the file `weights.bin` beside the model. `w` is listed
/// among the inputs as well, as old converters do.
pub(crate) fn external_weights() -> Vec<u8> {
    let entry = |key: &str, value: &str| Message::default().bytes(1, key).bytes(2, value);
    let weights = Message::default().int(1, 2).int(2, FLOAT).bytes(8, "w");
    let weights = weights.message(13, entry("location", "weights.bin")).int(14, 1);
    let vector = || tensor_type(FLOAT, &[Any, Size(2)]);
    Graph {
        initializers: vec![weights],
        nodes: vec![node("Add", "", &["x", "w"], &["y"], &[])],
        inputs: vec![value("x", vector()), value("w", tensor_type(FLOAT, &[Size(2)]))],
        outputs: vec![value("y", vector())],
    }
    .model()
}

/// `y` = the mean of `x`, FP32 `[-1]`: a sum whose last bits depend on its order.
pub(crate) fn mean() -> Vec<u8> {
    Graph {
        initializers: Vec::new(),
        nodes: vec![node("ReduceMean", "", &["x"], &["y"], &[])],
        inputs: vec![value("x", tensor_type(FLOAT, &[Name("N")]))],
        outputs: vec![value("y", tensor_type(FLOAT, &[Size(1)]))],
    }
    .model()
}

/// The type of a sequence.
pub(crate) fn sequence_type(element: Message) -> Message {
    Message::default().message(4, Message::default().message(1, element))
}

/// An input that no tensor can be: a sequence. Its length comes out.
pub(crate) fn sequence_input() -> Vec<u8> {
    Graph {
        initializers: Vec::new(),
        nodes: vec![node("SequenceLength", "", &["parts"], &["length"], &[])],
        inputs: vec![value("parts", sequence_type(tensor_type(FLOAT, &[Any])))],
        outputs: vec![value("length", tensor_type(INT64, &[]))],
    }
    .model()
}

/// `y` = `a` × `b` with every dimension variable: shapes that the signature lets pass and the operator does not.
pub(crate) fn product() -> Vec<u8> {
    let matrix = |rows, columns| tensor_type(FLOAT, &[Name(rows), Name(columns)]);
    Graph {
        initializers: Vec::new(),
        nodes: vec![node("MatMul", "", &["a", "b"], &["y"], &[])],
        inputs: vec![value("a", matrix("M", "K")), value("b", matrix("L", "N"))],
        outputs: vec![value("y", matrix("M", "N"))],
    }
    .model()
}

/// A model as slow as its input asks for: the sum of a product of two matrices of zeros of the given shape.
pub(crate) fn slow() -> Vec<u8> {
    Graph {
        initializers: Vec::new(),
        nodes: vec![
            node("ConstantOfShape", "", &["shape"], &["zeros"], &[]),
            node("MatMul", "", &["zeros", "zeros"], &["product"], &[]),
            node("ReduceSum", "", &["product"], &["sum"], &[]),
        ],
        inputs: vec![value("shape", tensor_type(INT64, &[Size(2)]))],
        outputs: vec![value("sum", tensor_type(FLOAT, &[Size(1), Size(1)]))],
    }
    .model()
}
