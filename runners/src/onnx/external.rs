//! Which constants does a model keep in other files? ONNX allows that wherever there is a tensor: among the constants of a graph, in attributes of
//! its nodes, in sub-graphs of `If`, `Loop` and `Scan`, in functions and in what belongs to training.

use super::model::{DEEPEST, Model};
use super::wire::{FieldReader, OnnxError, Wire, error};

/// A constant in another file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalTensor {
    /// Its name; where it has none, that of the node or attribute that holds it.
    pub name: String,
    /// The file, as the model names it.
    pub location: String,
    /// Where its values begin in the file, bytes.
    pub offset: u64,
    /// How long they are, bytes; `None`: up to the end of the file.
    pub length: Option<u64>,
}

/// The messages of ONNX that lead to tensors.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Training,
    Function,
    Graph,
    Node,
    Attribute,
    SparseTensor,
    Tensor,
}

impl Message {
    fn name(self) -> &'static str {
        match self {
            Message::Model => "the model",
            Message::Training => "training information",
            Message::Function => "a function",
            Message::Graph => "a graph",
            Message::Node => "a node",
            Message::Attribute => "an attribute",
            Message::SparseTensor => "a sparse tensor",
            Message::Tensor => "a tensor",
        }
    }

    /// What a field of it holds, where that leads to tensors.
    fn inner(self, field: u32) -> Option<Message> {
        match (self, field) {
            (Message::Model, 7) | (Message::Training, 1 | 2) | (Message::Attribute, 6 | 11) => Some(Message::Graph),
            (Message::Model, 20) => Some(Message::Training),
            (Message::Model, 25) => Some(Message::Function),
            (Message::Function, 7) | (Message::Graph, 1) => Some(Message::Node),
            (Message::Function, 11) | (Message::Node, 5) => Some(Message::Attribute),
            (Message::Graph, 15) | (Message::Attribute, 22 | 23) => Some(Message::SparseTensor),
            (Message::Graph, 5) | (Message::Attribute, 5 | 10) | (Message::SparseTensor, 1 | 2) => {
                Some(Message::Tensor)
            }
            _ => None,
        }
    }
}

impl Model<'_> {
    /// Every constant that is kept in another file, wherever it stands; none: this file is all.
    ///
    /// # Errors
    /// A broken or too deeply nested message.
    pub fn external(&self) -> Result<Vec<ExternalTensor>, OnnxError> {
        let mut found = Vec::new();
        find(Message::Model, self.bytes, "", 0, &mut found)?;
        Ok(found)
    }
}

fn find(
    message: Message,
    bytes: &[u8],
    holder: &str,
    depth: usize,
    found: &mut Vec<ExternalTensor>,
) -> Result<(), OnnxError> {
    // A sub-graph lies three messages below its owner: graph, node, attribute.
    if depth > 3 * DEEPEST {
        return error(format!("sub-graphs are nested more than {DEEPEST} deep"));
    }
    if let Message::Tensor = message {
        found.extend(tensor(bytes, holder)?);
        return Ok(());
    }
    let own = name(message, bytes)?;
    let holder = if own.is_empty() { holder } else { own };
    for field in FieldReader::new(message.name(), bytes) {
        let field = field?;
        let Some(inner) = message.inner(field.number) else { continue };
        find(inner, field.bytes(inner.name())?, holder, depth + 1, found)?;
    }
    Ok(())
}

/// Name of a node.
fn name(message: Message, bytes: &[u8]) -> Result<&str, OnnxError> {
    let (Message::Node, mut fields) = (message, FieldReader::new("a node", bytes)) else { return Ok("") };
    let named = fields.find_map(|field| field.ok().filter(|field| field.number == 3));
    named.map_or(Ok(""), |field| field.text("a node's name"))
}

/// Where the values of a tensor are; `None`: in the model. `holder`: name of what holds it, where it has none itself.
pub(super) fn tensor(bytes: &[u8], holder: &str) -> Result<Option<ExternalTensor>, OnnxError> {
    let (mut external, mut name, mut location, mut offset, mut length) = (false, "", "", 0, None);
    for field in FieldReader::new("a tensor", bytes) {
        let field = field?;
        match field.number {
            8 => name = field.text("a tensor's name")?,
            13 => {
                external = true;
                let (mut key, mut value) = ("", "");
                for part in FieldReader::new("external data", field.bytes("external data")?) {
                    let part = part?;
                    match (part.number, part.value) {
                        (1, Wire::Bytes(_)) => key = part.text("a key of external data")?,
                        (2, Wire::Bytes(_)) => value = part.text("external data")?,
                        _ => {}
                    }
                }
                let number = || match value.parse::<u64>() {
                    Ok(number) => Ok(number),
                    Err(_) => error(format!("external data: {key} {value:?}: a number of bytes expected")),
                };
                match key {
                    "location" => location = value,
                    "offset" => offset = number()?,
                    "length" => length = Some(number()?),
                    _ => {}
                }
            }
            14 => external |= field.integer("a tensor's data_location")? == 1,
            _ => {}
        }
    }
    let name = if name.is_empty() { holder } else { name };
    Ok(external.then(|| ExternalTensor { name: name.to_string(), location: location.to_string(), offset, length }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::ElementType;
    use crate::onnx::build;
    use crate::onnx::wire::{put_bytes, put_integer};

    fn message(fields: &[(u32, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        fields.iter().for_each(|(number, inner)| put_bytes(&mut bytes, *number, inner));
        bytes
    }

    /// A tensor in the file `w.bin`.
    fn outside(name: &str) -> Vec<u8> {
        let entry = message(&[(1, b"location"), (2, b"../w.bin")]);
        let mut tensor = message(&[(8, name.as_bytes()), (13, &entry)]);
        put_integer(&mut tensor, 2, ElementType::F32.0);
        put_integer(&mut tensor, 14, 1);
        tensor
    }

    fn constant(attribute: &[u8]) -> Vec<u8> {
        message(&[(2, b"c"), (3, b"the_node"), (4, b"Constant"), (5, attribute)])
    }

    /// The model `y = Relu(x)` with one more field of its graph, and one of its own.
    fn model(in_graph: (u32, Vec<u8>), in_model: (u32, Vec<u8>)) -> Vec<u8> {
        let value = |name| build::value_info(name, ElementType::F32, &[2, 2]);
        let graph = message(&[
            (1, &build::node("Relu", &["x"], &["y"], &[])),
            (11, &value("x")),
            (12, &value("y")),
            (in_graph.0, &in_graph.1),
        ]);
        let mut bytes = message(&[(7, &graph), (in_model.0, &in_model.1)]);
        put_integer(&mut bytes, 1, 9);
        bytes
    }

    fn found(in_graph: (u32, Vec<u8>), in_model: (u32, Vec<u8>)) -> Option<String> {
        let bytes = model(in_graph, in_model);
        let external = Model::parse(&bytes).unwrap().external().unwrap();
        assert!(external.len() <= 1);
        external.first().map(|e| format!("{} {}", e.name, e.location))
    }

    #[test]
    fn constants_in_other_files_are_found_wherever_onnx_allows_them() {
        // 1000: fields that nobody knows.
        let nothing = || (1000, Vec::new());
        assert_eq!(found(nothing(), nothing()), None);
        let named = message(&[(1, b"value"), (5, &outside("w"))]);
        let nameless = message(&[(1, b"value"), (5, &outside(""))]);
        let several = message(&[(1, b"values"), (10, &outside("w"))]);
        let sparse = |tensor: &[u8]| message(&[(1, tensor)]);
        let within = |inner: &[u8]| message(&[(1, b"body"), (6, &message(&[(1, &constant(inner))]))]);
        let owner = |attribute: &[u8]| message(&[(4, b"Loop"), (5, attribute)]);
        let initial = message(&[(1, b"then_branch"), (6, &message(&[(5, &outside("w"))]))]);
        let places = [
            ((5, outside("w")), nothing()),
            ((15, sparse(&outside("w"))), nothing()),
            ((1, constant(&named)), nothing()),
            ((1, constant(&several)), nothing()),
            ((1, constant(&message(&[(22, &sparse(&outside("w")))]))), nothing()),
            ((1, owner(&within(&named))), nothing()),
            ((1, owner(&initial)), nothing()),
            ((1, owner(&within(&within(&named)))), nothing()),
            (nothing(), (25, message(&[(1, b"f"), (7, &constant(&named))]))),
            (nothing(), (20, message(&[(1, &message(&[(5, &outside("w"))]))]))),
        ];
        for (i, (in_graph, in_model)) in places.into_iter().enumerate() {
            assert_eq!(found(in_graph, in_model).as_deref(), Some("w ../w.bin"), "place {i}");
        }
        assert_eq!(found((1, constant(&nameless)), nothing()).as_deref(), Some("the_node ../w.bin"));
        // A forged file must not use up the stack.
        let deep = (0..100).fold(named, |inner, _| within(&inner));
        let bytes = model((1000, Vec::new()), (25, message(&[(7, &constant(&deep))])));
        assert!(Model::parse(&bytes).unwrap().external().unwrap_err().0.contains("deep"));
    }
}
