//! What ran the graphs of a cell.

use jetbench_runners::types::PluginReport;
use serde::{Deserialize, Serialize};

/// The ONNX Runtime that was loaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuntimeRecord {
    /// Version, e.g. `1.31.1`.
    pub version: String,
    /// Library file.
    pub path: String,
    /// The plugin library whose provider ran the graphs; `None`: one of ONNX Runtime's own did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginReport>,
}

impl RuntimeRecord {
    /// What ran the graphs, in words: `1.31.1`, `1.31.1 with WebGpuExecutionProvider 0.4.0 of a plugin library (3f2a…)`. Equal words, equal
    /// plugin files.
    pub fn words(&self) -> String {
        let plugin = self.plugin.as_ref().map(|plugin| {
            let version = plugin.version.as_ref().map_or(String::new(), |version| format!(" {version}"));
            let digest = plugin.sha256.get(..12).unwrap_or(&plugin.sha256);
            format!(" with {}{version} of a plugin library ({digest})", plugin.provider)
        });
        format!("{}{}", self.version, plugin.unwrap_or_default())
    }
}
