//! How does `pack.toml` describe a graph: its files, forms and tensors?

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{escape, stays_inside};
use crate::digest::sha256_hex;
use crate::onnx::{Dimension, ElementType, shape_text};
use crate::types::Dtype;

/// One graph.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GraphSpec {
    /// Name, e.g. `image_encoder`.
    pub name: String,
    /// File per precision, relative to the pack directory.
    pub files: BTreeMap<Dtype, String>,
    /// SHA-256 per precision, hexadecimal.
    pub sha256: BTreeMap<Dtype, String>,
    /// Files with weights beside the graph's own, per precision: ONNX calls that external data. A graph above 2 GiB needs it.
    #[serde(default)]
    pub weights: BTreeMap<Dtype, Vec<WeightFile>>,
    /// Its form for ONNX Runtime's CPU provider, where it has one.
    pub cpu: Option<CpuForm>,
    /// Inputs.
    pub inputs: Vec<TensorSpec>,
    /// Outputs.
    pub outputs: Vec<TensorSpec>,
}

/// A graph in the form for ONNX Runtime's CPU provider: the same function in fp32, from the same inputs to the same outputs,
/// on that provider's own operators. Other providers get the file of the precision. In this form `memory_attention` wants
/// all objects of a batch to be of one age.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CpuForm {
    /// File, relative to the pack directory.
    pub file: String,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// Files with weights beside it, as for the graph.
    #[serde(default)]
    pub weights: Vec<WeightFile>,
}

/// A file with weights of a graph. The graph names it, relative to its own folder; it lies in that folder or below.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WeightFile {
    /// File, relative to the pack directory.
    pub file: String,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

/// A graph in one precision, or for the CPU provider.
#[derive(Clone, Copy, Debug)]
pub struct Form<'a> {
    /// The precision, or `cpu`.
    pub name: &'static str,
    /// File, relative to the pack directory.
    pub file: &'a str,
    /// Its SHA-256, hexadecimal; empty where the manifest says none.
    pub sha256: &'a str,
    /// Files with weights beside it.
    pub weights: &'a [WeightFile],
}

impl Form<'_> {
    /// What names the content of all its files: the file's own digest, where it is all.
    pub fn identity(&self) -> String {
        let own = self.sha256.to_ascii_lowercase();
        if self.weights.is_empty() {
            return own;
        }
        let each = self.weights.iter().map(|w| format!("\n{} {}", w.sha256.to_ascii_lowercase(), w.file));
        sha256_hex(each.fold(own, |all, one| all + &one).as_bytes())
    }
}

/// One tensor of a graph.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// Name.
    pub name: String,
    /// Element type.
    pub dtype: TensorType,
    /// Shape: sizes, and names for axes that are decided at run time (`"objects"`).
    pub shape: Vec<Dimension>,
}

/// Element types of graph inputs and outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum TensorType {
    /// 32-bit float.
    F32,
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
}

impl TensorType {
    pub(crate) fn onnx(self) -> ElementType {
        match self {
            TensorType::F32 => ElementType::F32,
            TensorType::I32 => ElementType::I32,
            TensorType::I64 => ElementType::I64,
        }
    }
}

/// A tensor that a graph takes in and gives back changed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StateSpec {
    /// Input name.
    pub input: String,
    /// Output name.
    pub output: String,
}

impl GraphSpec {
    /// The graph in a precision; `None` where it has no such file.
    pub fn form(&self, precision: Dtype) -> Option<Form<'_>> {
        Some(Form {
            name: precision.as_str(),
            file: self.files.get(&precision)?,
            sha256: self.sha256.get(&precision).map_or("", String::as_str),
            weights: self.weights.get(&precision).map_or(&[], Vec::as_slice),
        })
    }

    /// The graph for ONNX Runtime's CPU provider, where it has a form for that.
    pub fn cpu_form(&self) -> Option<Form<'_>> {
        let cpu = self.cpu.as_ref()?;
        Some(Form { name: "cpu", file: &cpu.file, sha256: &cpu.sha256, weights: &cpu.weights })
    }

    /// All of them.
    pub fn forms(&self) -> impl Iterator<Item = Form<'_>> {
        self.files.keys().filter_map(|precision| self.form(*precision)).chain(self.cpu_form())
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let name = &self.name;
        for form in self.forms() {
            let (of_file, of_digest) = match form.name {
                "cpu" => ("cpu.file".to_string(), "cpu.sha256".to_string()),
                precision => (format!("files.{precision}"), format!("sha256.{precision}")),
            };
            let weights = form.weights.iter().map(|w| {
                ("weights.file".to_string(), "weights.sha256".to_string(), w.file.as_str(), w.sha256.as_str())
            });
            for (of_file, of_digest, file, digest) in
                std::iter::once((of_file, of_digest, form.file, form.sha256)).chain(weights)
            {
                if !stays_inside(file) {
                    return Err(escape(&format!("graph `{name}`: {of_file}"), file));
                }
                if digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(format!("graph `{name}`: {of_digest} = {digest:?}: 64 hexadecimal digits expected"));
                }
            }
        }
        if let Some(precision) = self.weights.keys().find(|precision| !self.files.contains_key(precision)) {
            return Err(format!("graph `{name}`: weights.{precision}: the graph has no file of that precision"));
        }
        if self.cpu.is_some() && !self.files.contains_key(&Dtype::Fp32) {
            return Err(format!("graph `{name}`: cpu: a form of the fp32 graph, which has no file"));
        }
        if self.files.is_empty() {
            return Err(format!("graph `{name}` has no files"));
        }
        for tensors in [&self.inputs, &self.outputs] {
            for (i, tensor) in tensors.iter().enumerate() {
                if tensors[..i].iter().any(|other| other.name == tensor.name) {
                    return Err(format!("graph `{name}`: tensor `{}` is described twice", tensor.name));
                }
                let elements = tensor.shape.iter().try_fold(1i64, |n, axis| match axis {
                    Dimension::Size(size) if *size >= 1 => n.checked_mul(*size),
                    Dimension::Dynamic(name) if is_axis_name(name) => Some(n),
                    _ => None,
                });
                if tensor.shape.len() > 8 || elements.is_none_or(|n| n > 1 << 30) {
                    return Err(format!(
                        "graph `{name}`: tensor `{}` has shape {}: up to 8 axes, each a size from 1 or a name, at most \
                         2^30 elements expected",
                        tensor.name,
                        shape_text(&tensor.shape)
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Exporters name axes as they like, with dots and formulas; the name must only be fit to print.
fn is_axis_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 128 && name.chars().all(|c| c.is_ascii_graphic() || c == ' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_form_needs_the_graph_that_it_is_a_form_of() {
        let digest = "0".repeat(64);
        let described = |dtype: &str| -> GraphSpec {
            toml::from_str(&format!(
                "name = \"g\"\nfiles = {{ {dtype} = \"a.onnx\" }}\nsha256 = {{ {dtype} = \"{digest}\" }}\ninputs = []\noutputs = []\n\
                 cpu = {{ file = \"b.onnx\", sha256 = \"{digest}\", weights = [{{ file = \"a.onnx\", sha256 = \"{digest}\" }}] }}\n"
            ))
            .unwrap()
        };
        assert_eq!(described("fp32").check(), Ok(()));
        let refused = described("bf16").check().unwrap_err();
        assert_eq!(refused, "graph `g`: cpu: a form of the fp32 graph, which has no file");
    }
}
