//! Where do the nodes of each graph really run, and what is copied between host and device on the way? ONNX Runtime's own
//! profile answers for its nodes and its Memcpy nodes; tracker and detector count what they bind and read back themselves. Timings of
//! a profiled session are distorted: shares of time are what is taken from them, nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::compose::{self, Composed};
use crate::detect::Detector;
use crate::files;
use crate::follow::{self, Follower};
use crate::packs;
use crate::runner::{Runner, RunnerError};
pub use crate::sam::copies::{Copied, Copies};
use crate::sam::tracker::Tracker;
use crate::segment::Segmenter;
use crate::segment::contract::SEGMENTER;
use crate::types::{Frame, OpenRequest, Prompt};

/// Nodes of one graph on one provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// Graph.
    pub graph: String,
    /// Provider, as ONNX Runtime calls it.
    pub provider: String,
    /// Different nodes that ran there.
    pub nodes: usize,
    /// Share of the graph's kernel time, 0..1.
    pub time_share: f64,
}

/// Copies that ONNX Runtime put into a graph itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Memcpy {
    /// Graph.
    pub graph: String,
    /// Down to the host, or up to the device.
    pub to_host: bool,
    /// How often they ran.
    pub count: usize,
    /// Bytes of all of them, where the profile says.
    pub bytes: u64,
}

/// What a profiled run showed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Audit {
    /// Nodes by graph and provider.
    pub placements: Vec<Placement>,
    /// ONNX Runtime's own copies.
    pub memcpy: Vec<Memcpy>,
    /// The runner's copies, each as often as it was made.
    pub copies: Vec<Copied>,
    /// Frames tracked.
    pub frames: usize,
}

/// A runner whose graphs are profiled and whose copies are counted.
trait Profiled: Runner {
    fn copies(&self) -> Vec<Copied>;
    fn end_profiles(&mut self) -> Result<Vec<(String, PathBuf)>, RunnerError>;
}

impl Profiled for Tracker {
    fn copies(&self) -> Vec<Copied> {
        Tracker::copies(self).to_vec()
    }
    fn end_profiles(&mut self) -> Result<Vec<(String, PathBuf)>, RunnerError> {
        Tracker::end_profiles(self)
    }
}

impl Profiled for Composed<Tracker, Detector> {
    fn copies(&self) -> Vec<Copied> {
        Composed::copies(self)
    }
    fn end_profiles(&mut self) -> Result<Vec<(String, PathBuf)>, RunnerError> {
        Composed::end_profiles(self)
    }
}

/// Tracks `frames` with profiling on; `prompts` start on the first. Where the request names a detector, it founds the tracks.
///
/// # Errors
/// [`RunnerError::Usage`] for a pack without graphs; whatever opening and running give; [`RunnerError::Environment`] when
/// the profile cannot be written or read.
pub fn audit(
    request: &OpenRequest,
    frames: &mut dyn Iterator<Item = Result<(u32, u32, Vec<u8>), RunnerError>>,
    prompts: &[Prompt],
    profiles: &Path,
) -> Result<Audit, RunnerError> {
    if packs::describe(&request.pack, request.device)?.hidden {
        return Err(RunnerError::Usage(format!("{}: a scripted pack has no graphs to audit", request.pack.display())));
    }
    if packs::describe(&request.pack, request.device)?.finds_and_tracks() {
        return of_segmenter(request, frames, profiles);
    }
    let mut runner: Box<dyn Profiled> = match &request.detector {
        Some(_) => Box::new(compose::open_with(request, Some(profiles))?),
        None => Box::new(Tracker::open_with(request, Some(profiles))?),
    };
    let mut count = 0;
    for (i, frame) in frames.enumerate() {
        let (width, height, rgb) = frame?;
        runner.step(Frame { width, height, rgb: &rgb }, if i == 0 { prompts } else { &[] })?;
        count += 1;
    }
    let mut audit = Audit { copies: runner.copies(), frames: count, ..Audit::default() };
    for (graph, file) in runner.end_profiles()? {
        let wrong = |e: String| RunnerError::Environment(format!("profile {}: {e}", file.display()));
        let text = files::read_text(&file, files::LARGE).map_err(|e| wrong(e.to_string()))?;
        read_profile(&graph, &text, &mut audit).map_err(wrong)?;
    }
    Ok(audit)
}

/// The same of a video segmenter, which nobody prompts.
fn of_segmenter(
    request: &OpenRequest,
    frames: &mut dyn Iterator<Item = Result<(u32, u32, Vec<u8>), RunnerError>>,
    profiles: &Path,
) -> Result<Audit, RunnerError> {
    if packs::describe(&request.pack, request.device)?.family == follow::contract::FAMILY {
        return of_follower(request, frames, profiles);
    }
    let mut segmenter = Segmenter::open(request, Some(profiles))?;
    let (mut audit, mut copies) = (Audit::default(), Copies::new(true));
    for frame in frames {
        let (width, height, rgb) = frame?;
        segmenter.step(Frame { width, height, rgb: &rgb }, &[])?;
        segmenter.count_copies(&mut copies);
        audit.frames += 1;
    }
    audit.copies = copies.list().to_vec();
    let file = segmenter.end_profile()?;
    let wrong = |e: String| RunnerError::Environment(format!("profile {}: {e}", file.display()));
    let text = files::read_text(&file, files::LARGE).map_err(|e| wrong(e.to_string()))?;
    read_profile(SEGMENTER, &text, &mut audit).map_err(wrong)?;
    Ok(audit)
}

/// The same of one whose tracks come and go.
fn of_follower(
    request: &OpenRequest,
    frames: &mut dyn Iterator<Item = Result<(u32, u32, Vec<u8>), RunnerError>>,
    profiles: &Path,
) -> Result<Audit, RunnerError> {
    let mut follower = Follower::open(request, Some(profiles))?;
    let (mut audit, mut copies) = (Audit::default(), Copies::new(true));
    for frame in frames {
        let (width, height, rgb) = frame?;
        follower.step(Frame { width, height, rgb: &rgb }, &[])?;
        follower.count_copies(&mut copies);
        audit.frames += 1;
    }
    audit.copies = copies.list().to_vec();
    for (graph, file) in follower.end_profiles()? {
        let wrong = |e: String| RunnerError::Environment(format!("profile {}: {e}", file.display()));
        let text = files::read_text(&file, files::LARGE).map_err(|e| wrong(e.to_string()))?;
        read_profile(&graph, &text, &mut audit).map_err(wrong)?;
    }
    Ok(audit)
}

/// Adds what one profile says. Events of category `Node` whose name ends in `_kernel_time` are runs of a node.
fn read_profile(graph: &str, text: &str, audit: &mut Audit) -> Result<(), String> {
    let events: Vec<serde_json::Value> = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let mut nodes: BTreeMap<&str, (BTreeSet<&str>, f64)> = BTreeMap::new();
    let mut copies: BTreeMap<bool, (usize, u64)> = BTreeMap::new();
    for event in &events {
        let name = event["name"].as_str().unwrap_or_default();
        let Some(node) = name.strip_suffix("_kernel_time").filter(|_| event["cat"] == "Node") else { continue };
        let args = &event["args"];
        let provider = args["provider"].as_str().filter(|p| !p.is_empty()).unwrap_or("not named by this ONNX Runtime");
        let entry = nodes.entry(provider).or_default();
        entry.0.insert(node);
        entry.1 += event["dur"].as_f64().unwrap_or(0.0);
        let to_host = match args["op_name"].as_str() {
            Some("MemcpyToHost") => true,
            Some("MemcpyFromHost") => false,
            _ => continue,
        };
        let bytes = args["output_size"].as_str().and_then(|s| s.parse().ok()).or_else(|| args["output_size"].as_u64());
        let copy = copies.entry(to_host).or_default();
        copy.0 += 1;
        copy.1 += bytes.unwrap_or(0);
    }
    let total: f64 = nodes.values().map(|n| n.1).sum();
    for (provider, (names, time)) in nodes {
        audit.placements.push(Placement {
            graph: graph.to_string(),
            provider: provider.to_string(),
            nodes: names.len(),
            time_share: if total > 0.0 { time / total } else { 0.0 },
        });
    }
    for (to_host, (count, bytes)) in copies {
        audit.memcpy.push(Memcpy { graph: graph.to_string(), to_host, count, bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read() {
        let text = r#"[
            {"cat":"Session","name":"model_run","dur":900},
            {"cat":"Node","name":"a_fence_before","dur":5,"args":{"provider":"CPUExecutionProvider"}},
            {"cat":"Node","name":"a_kernel_time","dur":60,"args":{"provider":"CUDAExecutionProvider","op_name":"Conv"}},
            {"cat":"Node","name":"a_kernel_time","dur":20,"args":{"provider":"CUDAExecutionProvider","op_name":"Conv"}},
            {"cat":"Node","name":"b_kernel_time","dur":20,"args":{"provider":"CPUExecutionProvider","op_name":"NonZero"}},
            {"cat":"Node","name":"m_kernel_time","dur":0,"args":{"provider":"CUDAExecutionProvider","op_name":"MemcpyToHost","output_size":"64"}},
            {"cat":"Node","name":"m_kernel_time","dur":0,"args":{"provider":"CUDAExecutionProvider","op_name":"MemcpyToHost","output_size":"64"}}
        ]"#;
        let mut audit = Audit::default();
        read_profile("g", text, &mut audit).unwrap();
        let place = |provider: &str, nodes, time_share| Placement {
            graph: "g".into(),
            provider: provider.into(),
            nodes,
            time_share,
        };
        assert_eq!(audit.placements, [place("CPUExecutionProvider", 1, 0.2), place("CUDAExecutionProvider", 2, 0.8)]);
        assert_eq!(audit.memcpy, [Memcpy { graph: "g".into(), to_host: true, count: 2, bytes: 128 }]);
        assert!(read_profile("g", "[{", &mut audit).is_err());
    }
}
