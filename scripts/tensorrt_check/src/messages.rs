//! What does the compiler say? Its log, and what can be read out of it: refusals with their nodes, and sizes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use trtx::{LogHandler, Severity};

use crate::listing;
use crate::row::{ByType, Node, Refusal, Step};

/// What the log of one graph said so far.
#[derive(Debug, Default)]
pub struct Said {
    /// Errors, in order.
    pub errors: Vec<String>,
    /// `Total Weights Memory`, bytes.
    pub weight_bytes: Option<u64>,
    /// `Total Activation Memory`, bytes.
    pub activation_bytes: Option<u64>,
    /// The listing of the engine.
    pub layers: Option<BTreeMap<String, ByType>>,
}

/// The log handler of TensorRT, and the hand on what it heard.
#[derive(Clone, Debug, Default)]
pub struct Messages(Arc<Mutex<Said>>);

impl Messages {
    /// What was said until now.
    pub fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl LogHandler for Messages {
    fn log(&self, severity: Severity, message: &str) {
        let mut said = self.said();
        if severity <= Severity::Error {
            said.errors.push(message.to_string());
        } else if let Some(bytes) = amount(message, "Total Weights Memory: ") {
            said.weight_bytes = Some(bytes);
        } else if let Some(bytes) = amount(message, "Total Activation Memory: ") {
            said.activation_bytes = Some(bytes);
        } else if let Some(layers) = listing::layers(message) {
            said.layers = Some(layers);
        }
    }
}

/// The bytes that a message gives after a label.
fn amount(message: &str, label: &str) -> Option<u64> {
    message.strip_prefix(label)?.strip_suffix(" bytes")?.parse().ok()
}

/// A refusal out of what was said. `fallback`: the words of the bindings, used when the log has no error. `operators`: name -> operator
/// of the file's nodes.
pub fn refusal(step: Step, errors: &[String], fallback: &str, operators: &BTreeMap<String, String>) -> Refusal {
    // On a machine without a GPU every error is followed by one about the missing driver.
    let told: Vec<&str> = errors
        .iter()
        .flat_map(|message| message.lines())
        .filter(|line| !line.contains("catchCudaError"))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let node = parsed_node(&told).or_else(|| mentioned_node(&told, operators));
    let words: Vec<&str> = told.iter().copied().filter(|line| !is_frame(line)).collect();
    let text = if words.is_empty() { fallback.to_string() } else { words.join(" ") };
    Refusal { step, node, text }
}

/// Lines of the parser's log that only frame the message; what they say stands in [`Refusal::node`].
fn is_frame(line: &str) -> bool {
    line.contains("While parsing node number") || line.contains("--- ") || line.starts_with("Node name:")
}

/// The node that the parser was at: `While parsing node number 8 [Reshape -> "v8"]:`, then `Node name: Reshape_8`.
fn parsed_node(told: &[&str]) -> Option<Node> {
    let place = told.iter().find_map(|line| line.split_once("While parsing node number "))?.1;
    let (op, output) = place.split_once('[')?.1.split_once(" -> ")?;
    let name = told.iter().find_map(|line| line.strip_prefix("Node name:")).unwrap_or_default().trim();
    let output = output.split('"').nth(1).unwrap_or_default();
    let name = if name.is_empty() { format!("(unnamed, gives {output})") } else { name.to_string() };
    Some(Node { name, op: op.to_string() })
}

/// The first node of the file whose name is a word of the text: layers have the names of their nodes.
fn mentioned_node(told: &[&str], operators: &BTreeMap<String, String>) -> Option<Node> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '/' | '.' | ':');
    told.iter().flat_map(|line| line.split(|c| !is_part(c))).find_map(|word| {
        let word = word.trim_end_matches(['.', ':']);
        operators.get(word).map(|op| Node { name: word.to_string(), op: op.clone() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_refusal_of_the_parser_has_node_and_words() {
        let errors = lines(&[
            "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (cudaError 35)",
            "ModelImporter.cpp:140: While parsing node number 8 [Reshape -> \"v8\"]:",
            "ModelImporter.cpp:142: --- Begin node ---\nNode name: Reshape_8",
            "ModelImporter.cpp:143: --- End node ---",
            "ModelImporter.cpp:151: ERROR: In function parseNode:\n[6] Invalid Node - Reshape_8\n",
        ]);
        let refusal = refusal(Step::Parse, &errors, "unused", &BTreeMap::new());
        assert_eq!(refusal.node, Some(Node { name: "Reshape_8".to_string(), op: "Reshape".to_string() }));
        assert_eq!(refusal.text, "ModelImporter.cpp:151: ERROR: In function parseNode: [6] Invalid Node - Reshape_8");
    }

    #[test]
    fn a_node_without_a_name_is_known_by_its_output() {
        let errors = lines(&[
            "x: While parsing node number 3 [Slice -> \"known\"]:",
            "--- Begin node ---\nNode name: ",
            "bad ends",
        ]);
        let refusal = refusal(Step::Parse, &errors, "unused", &BTreeMap::new());
        assert_eq!(refusal.node.unwrap().name, "(unnamed, gives known)");
        assert_eq!(refusal.text, "bad ends");
    }

    #[test]
    fn a_refusal_of_the_builder_has_the_node_that_it_mentions() {
        let errors =
            lines(&["Myelin (could not infer: 12: deconv: v2- | v1-(bf16[1]), ConvTranspose_2 filterWeights-{0.1})"]);
        let operators = BTreeMap::from([("ConvTranspose_2".to_string(), "ConvTranspose".to_string())]);
        let named = refusal(Step::Build, &errors, "unused", &operators);
        assert_eq!(named.node, Some(Node { name: "ConvTranspose_2".to_string(), op: "ConvTranspose".to_string() }));
        assert_eq!(named.text, errors[0]);
        let other = BTreeMap::from([("ConvTranspose".to_string(), "Conv".to_string())]);
        assert_eq!(refusal(Step::Build, &errors, "unused", &other).node, None, "a part of a word is no name");
    }

    #[test]
    fn without_a_log_the_bindings_speak() {
        assert_eq!(refusal(Step::Build, &[], "Failed to build", &BTreeMap::new()).text, "Failed to build");
    }

    #[test]
    fn sizes_are_read_from_the_log() {
        let messages = Messages::default();
        messages.log(Severity::Info, "Total Weights Memory: 7040 bytes");
        messages.log(Severity::Info, "Total Activation Memory: 12 bytes");
        messages.log(Severity::Warning, "no error");
        let said = messages.said();
        assert_eq!((said.weight_bytes, said.activation_bytes), (Some(7040), Some(12)));
        assert!(said.errors.is_empty());
    }
}
