//! Writes ONNX files of one node: the messages of onnx.proto with the fields that such a file needs.

use prost::Message;

/// Element types of `TensorProto`.
pub const FP32: i32 = 1;
pub const BF16: i32 = 16;

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<Opset>,
}

#[derive(Clone, PartialEq, Message)]
struct Opset {
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    ints: Vec<i64>,
    #[prost(int32, tag = "20")]
    kind: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Message)]
struct Kind {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorKind>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorKind {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dim>,
}

#[derive(Clone, PartialEq, Message)]
struct Dim {
    #[prost(int64, optional, tag = "1")]
    value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    param: Option<String>,
}

/// A tensor of any number of objects, each of the given shape.
fn port(name: &str, elem_type: i32, shape: &[i64]) -> ValueInfo {
    let mut dim = vec![Dim { value: None, param: Some("objects".to_string()) }];
    dim.extend(shape.iter().map(|size| Dim { value: Some(*size), param: None }));
    let tensor = TensorKind { elem_type, shape: Some(Shape { dim }) };
    ValueInfo { name: name.to_string(), kind: Some(Kind { tensor: Some(tensor) }) }
}

/// A model of one node with input x and output y.
fn model(node: Node, initializer: Vec<Tensor>, [x, y]: [ValueInfo; 2]) -> Vec<u8> {
    let graph = Graph { node: vec![node], name: "g".to_string(), initializer, input: vec![x], output: vec![y] };
    // Convolutions in bfloat16 exist from opset 22 on.
    Model { ir_version: 10, graph: Some(graph), opset_import: vec![Opset { version: 22 }] }.encode_to_vec()
}

/// y = relu(x), x [objects,8].
pub fn rectifier(elem_type: i32) -> Vec<u8> {
    let node = Node {
        input: vec!["x".to_string()],
        output: vec!["y".to_string()],
        name: "rectify".to_string(),
        op_type: "Relu".to_string(),
        attribute: Vec::new(),
    };
    model(node, Vec::new(), ["x", "y"].map(|name| port(name, elem_type, &[8])))
}

/// y = a transposed convolution of x, kernel = stride = 2: x [objects,8,4,4], y [objects,8,8,8].
pub fn deconvolution(elem_type: i32) -> Vec<u8> {
    const INTS: i32 = 7;
    let pair = |name: &str| Attribute { name: name.to_string(), ints: vec![2, 2], kind: INTS };
    let node = Node {
        input: vec!["x".to_string(), "w".to_string()],
        output: vec!["y".to_string()],
        name: "upscale".to_string(),
        op_type: "ConvTranspose".to_string(),
        attribute: vec![pair("kernel_shape"), pair("strides")],
    };
    let bytes = if elem_type == BF16 { 2 } else { 4 };
    // 0x3c repeated is a small positive number in both types.
    let raw_data = vec![0x3c; 8 * 8 * 2 * 2 * bytes];
    let weights = Tensor { dims: vec![8, 8, 2, 2], data_type: elem_type, name: "w".to_string(), raw_data };
    model(node, vec![weights], [port("x", elem_type, &[8, 4, 4]), port("y", elem_type, &[8, 8, 8])])
}
