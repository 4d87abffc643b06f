//! Which graphs does a pack name?

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::arguments::Dtype;

/// What is read of `pack.toml`.
#[derive(Debug, Deserialize)]
struct Manifest {
    id: String,
    #[serde(rename = "graph", default)]
    graphs: Vec<Graph>,
}

#[derive(Debug, Deserialize)]
struct Graph {
    name: String,
    /// Precision -> file.
    files: BTreeMap<String, String>,
    cpu: Option<CpuForm>,
}

#[derive(Debug, Deserialize)]
struct CpuForm {
    file: String,
}

/// A pack and where it lies.
#[derive(Debug)]
pub struct Pack {
    root: PathBuf,
    manifest: Manifest,
}

/// One graph in one precision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The pack's id.
    pub pack: String,
    /// The graph's name in the manifest.
    pub graph: String,
    /// Precision.
    pub dtype: String,
    /// The ONNX file.
    pub file: PathBuf,
}

/// Something of a pack that is not compiled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The pack's id.
    pub pack: String,
    /// The graph and its file or precision.
    pub what: String,
    /// Why.
    pub reason: String,
}

impl Pack {
    /// # Errors
    /// When there is no manifest, or it is none of a pack with graphs: says which file, and why.
    pub fn read(root: &Path) -> Result<Pack, String> {
        let file = root.join("pack.toml");
        let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let manifest: Manifest = toml::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?;
        if manifest.graphs.is_empty() {
            return Err(format!("{}: the pack has no graphs", file.display()));
        }
        Ok(Pack { root: root.to_path_buf(), manifest })
    }

    /// The graphs to compile, precision by precision.
    pub fn tasks(&self, dtypes: &[Dtype]) -> Vec<Task> {
        let mut tasks = Vec::new();
        for dtype in dtypes.iter().map(Dtype::to_string) {
            for graph in &self.manifest.graphs {
                tasks.extend(graph.files.get(&dtype).map(|file| Task {
                    pack: self.manifest.id.clone(),
                    graph: graph.name.clone(),
                    dtype: dtype.clone(),
                    file: self.root.join(file),
                }));
            }
        }
        tasks
    }

    /// The forms for the CPU, and asked-for precisions that a graph does not have.
    pub fn left_out(&self, dtypes: &[Dtype]) -> Vec<LeftOut> {
        let mut left = Vec::new();
        let mut add = |what: String, reason: &str| {
            left.push(LeftOut { pack: self.manifest.id.clone(), what, reason: reason.to_string() });
        };
        for graph in &self.manifest.graphs {
            if let Some(form) = &graph.cpu {
                add(
                    format!("{} ({})", graph.name, form.file),
                    "the form for ONNX Runtime's CPU provider; no other gets it",
                );
            }
            for dtype in dtypes.iter().map(Dtype::to_string).filter(|dtype| !graph.files.contains_key(dtype)) {
                add(format!("{} {dtype}", graph.name), "not in the pack");
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"
        id = "small"
        family = "sam2"
        [[graph]]
        name = "encoder"
        files = { fp32 = "fp32/e.onnx", bf16 = "bf16/e.onnx" }
        cpu = { file = "fp32/e.cpu.onnx", sha256 = "00" }
        [[graph]]
        name = "decoder"
        files = { fp32 = "fp32/d.onnx" }
    "#;

    fn pack() -> Pack {
        Pack { root: PathBuf::from("/p"), manifest: toml::from_str(MANIFEST).unwrap() }
    }

    #[test]
    fn only_what_the_manifest_names_is_compiled() {
        let tasks = pack().tasks(&[Dtype::Bf16, Dtype::Fp32]);
        let short: Vec<_> = tasks.iter().map(|t| (t.dtype.as_str(), t.file.to_str().unwrap())).collect();
        assert_eq!(short, [("bf16", "/p/bf16/e.onnx"), ("fp32", "/p/fp32/e.onnx"), ("fp32", "/p/fp32/d.onnx")]);
    }

    #[test]
    fn what_is_left_out_is_said() {
        let left = pack().left_out(&[Dtype::Bf16]);
        assert_eq!(left.len(), 2);
        assert!(left[0].what.contains("e.cpu.onnx") && left[0].reason.contains("CPU"), "{left:?}");
        assert_eq!((left[1].what.as_str(), left[1].reason.as_str()), ("decoder bf16", "not in the pack"));
    }

    #[test]
    fn a_folder_that_is_no_pack_is_named() {
        assert!(Pack::read(Path::new("/nonesuch")).unwrap_err().starts_with("/nonesuch/pack.toml: "));
    }
}
