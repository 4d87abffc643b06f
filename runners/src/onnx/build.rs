//! How is a small ONNX file written? The graph that joins two memories, the probe of the roofline, changed edges, and the graphs of tests.

use super::dtype::{Dimension, ElementType};
use super::facts::RUNTIME_DOMAIN;
use super::wire::{put_bytes, put_float, put_integer};

/// A ValueInfoProto with fixed sizes.
pub fn value_info(name: &str, dtype: ElementType, shape: &[i64]) -> Vec<u8> {
    let axes: Vec<Dimension> = shape.iter().map(|&size| Dimension::Size(size)).collect();
    value_info_of(name, dtype, &axes)
}

/// A ValueInfoProto; axes may have names.
pub fn value_info_of(name: &str, dtype: ElementType, shape: &[Dimension]) -> Vec<u8> {
    let mut dims = Vec::new();
    for size in shape {
        let mut axis = Vec::new();
        match size {
            Dimension::Size(size) => put_integer(&mut axis, 1, *size),
            Dimension::Dynamic(name) => put_bytes(&mut axis, 2, name.as_bytes()),
        }
        put_bytes(&mut dims, 1, &axis);
    }
    let mut tensor = Vec::new();
    put_integer(&mut tensor, 1, dtype.0);
    put_bytes(&mut tensor, 2, &dims);
    let mut kind = Vec::new();
    put_bytes(&mut kind, 1, &tensor);
    let mut info = Vec::new();
    put_bytes(&mut info, 1, name.as_bytes());
    put_bytes(&mut info, 2, &kind);
    info
}

/// A NodeProto of ONNX's own operator set with integer attributes.
pub fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[(&str, i64)]) -> Vec<u8> {
    let mut node = Vec::new();
    for input in inputs {
        put_bytes(&mut node, 1, input.as_bytes());
    }
    for output in outputs {
        put_bytes(&mut node, 2, output.as_bytes());
    }
    put_bytes(&mut node, 4, op.as_bytes());
    for (name, value) in attributes {
        let mut attribute = Vec::new();
        put_bytes(&mut attribute, 1, name.as_bytes());
        put_integer(&mut attribute, 3, *value);
        put_integer(&mut attribute, 20, 2);
        put_bytes(&mut node, 5, &attribute);
    }
    node
}

/// Gives a node an attribute with integers.
pub fn put_integers(node: &mut Vec<u8>, name: &str, values: &[i64]) {
    let mut attribute = Vec::new();
    put_bytes(&mut attribute, 1, name.as_bytes());
    values.iter().for_each(|&value| put_integer(&mut attribute, 8, value));
    put_integer(&mut attribute, 20, 7); // AttributeProto.INTS
    put_bytes(node, 5, &attribute);
}

/// Gives a node an attribute with a text.
#[cfg(test)]
pub fn put_text(node: &mut Vec<u8>, name: &str, text: &str) {
    let mut attribute = Vec::new();
    put_bytes(&mut attribute, 1, name.as_bytes());
    put_bytes(&mut attribute, 4, text.as_bytes());
    put_integer(&mut attribute, 20, 3); // AttributeProto.STRING
    put_bytes(node, 5, &attribute);
}

/// A Transpose with this order of axes.
pub fn transpose(input: &str, output: &str, order: &[i64]) -> Vec<u8> {
    let mut node = node("Transpose", &[input], &[output], &[]);
    put_integers(&mut node, "perm", order);
    node
}

/// ONNX Runtime's MultiHeadAttention of queries, keys and values `[batch, tokens, heads x width]`.
pub fn attention(inputs: [&str; 3], output: &str, heads: i64, scale: f32) -> Vec<u8> {
    let mut node = node("MultiHeadAttention", &inputs, &[output], &[("num_heads", heads)]);
    put_scale(&mut node, scale);
    put_bytes(&mut node, 7, RUNTIME_DOMAIN.as_bytes());
    node
}

/// ONNX's own Attention (opset 23) of queries, keys and values `[batch, heads, tokens, width]`, and a mask.
pub fn standard_attention(inputs: &[&str], output: &str, scale: f32) -> Vec<u8> {
    let mut node = node("Attention", inputs, &[output], &[]);
    put_scale(&mut node, scale);
    node
}

fn put_scale(node: &mut Vec<u8>, value: f32) {
    let mut scale = Vec::new();
    put_bytes(&mut scale, 1, b"scale");
    put_float(&mut scale, 2, value);
    put_integer(&mut scale, 20, 1); // AttributeProto.FLOAT
    put_bytes(node, 5, &scale);
}

/// A TensorProto with raw little-endian values.
pub fn initializer(name: &str, dtype: ElementType, dims: &[i64], raw: &[u8]) -> Vec<u8> {
    let mut tensor = Vec::new();
    for &size in dims {
        put_integer(&mut tensor, 1, size);
    }
    put_integer(&mut tensor, 2, dtype.0);
    put_bytes(&mut tensor, 8, name.as_bytes());
    put_bytes(&mut tensor, 9, raw);
    tensor
}

/// A ModelProto from the fields of its graph, as (number, bytes).
pub fn model(ir: i64, opset: i64, graph: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    put_bytes(&mut body, 2, b"g");
    for (number, bytes) in graph {
        put_bytes(&mut body, *number, bytes);
    }
    let mut version = Vec::new();
    put_integer(&mut version, 2, opset);
    let mut model = Vec::new();
    put_integer(&mut model, 1, ir);
    put_bytes(&mut model, 2, b"jetbench");
    put_bytes(&mut model, 7, &body);
    put_bytes(&mut model, 8, &version);
    model
}

/// y = (x cast to `dtype`) MatMul weight, cast back: 2x2 with weight [[1, 1 + 2^-9], [0, 1]].
#[cfg(test)]
pub fn matmul(dtype: ElementType) -> Vec<u8> {
    let values = [1.0f32, 1.0 + 2f32.powi(-9), 0.0, 1.0];
    let raw: Vec<u8> = match dtype {
        ElementType::BF16 => values.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect(),
        ElementType::F16 => values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    };
    model(
        9,
        20,
        &[
            (1, node("Cast", &["x"], &["xh"], &[("to", dtype.0)])),
            (1, node("MatMul", &["xh", "w"], &["yh"], &[])),
            (1, node("Cast", &["yh"], &["y"], &[("to", 1)])),
            (5, initializer("w", dtype, &[2, 2], &raw)),
            (11, value_info("x", ElementType::F32, &[2, 2])),
            (12, value_info("y", ElementType::F32, &[2, 2])),
            (14, b"\x0a\x01y".to_vec()),         // quantization_annotation: must survive
            (9999, b"from the future".to_vec()), // an unknown field: must survive
        ],
    )
}
