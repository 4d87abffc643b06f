//! What is measured: model packs behind one trait. The root crate sees [`Runner`], [`REGISTRY`] and plain data; ONNX
//! Runtime is named only in `runtime` and `session`. Runners never print and never write results.

pub mod mock;
pub mod types;

use types::{Capabilities, Frame, FrameMasks, OpenReport, OpenRequest, Prompt, StagePrecision, StageTimes};

/// Why a runner could not be opened or could not go on. The class decides the exit code.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The pack or its files are wrong: names the file, what was expected, what was found. Exit code 2.
    #[error("{0}")]
    Pack(String),
    /// Device, driver or runtime is missing or too old: says where it was looked for and what to do. Exit code 3.
    #[error("{0}")]
    Environment(String),
    /// The caller asked for something this runner cannot do (too many clicks, unknown object). Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The model failed while running: graph, frame, cause. The cell is `Failed`.
    #[error("{0}")]
    Inference(String),
}

/// A model that tracks objects through the frames of a sequence, one frame at a time.
pub trait Runner {
    /// What this runner can do.
    fn capabilities(&self) -> &Capabilities;
    /// Requested and effective precision per graph, with evidence.
    fn precision(&self) -> Vec<StagePrecision>;
    /// What opening showed.
    fn open_report(&self) -> &OpenReport;
    /// Forgets all objects: the next frame is the first of a sequence. Device memory is kept for re-use.
    fn reset(&mut self);
    /// Tracks every live object on `frame`; objects in `prompts` start on it. Device idle on return.
    ///
    /// # Errors
    /// [`RunnerError::Usage`] for a prompt it cannot take, [`RunnerError::Inference`] when the model fails.
    fn step(&mut self, frame: Frame<'_>, prompts: &[Prompt]) -> Result<FrameMasks, RunnerError>;
    /// Stage times of the last [`Runner::step`], drained.
    fn take_stage_times(&mut self) -> StageTimes;
}

/// One family of models; the registry is the single source for `--models`, `jetbench models`, completions and docs.
pub struct Entry {
    /// Family name, as in a pack's `family` field.
    pub family: &'static str,
    /// Model names (before `_<prompt>`) that mean a default pack: `(alias, pack id)`.
    pub aliases: &'static [(&'static str, &'static str)],
    /// One line for help and docs.
    pub summary: &'static str,
    /// Hidden from listings (test runners).
    pub hidden: bool,
    /// What the pack says it can do, without loading any graph.
    pub describe: fn(&std::path::Path) -> Result<Capabilities, RunnerError>,
    /// Opens the runner.
    pub open: fn(&OpenRequest) -> Result<Box<dyn Runner>, RunnerError>,
}

/// Every family jetbench can run.
pub const REGISTRY: &[Entry] = &[mock::ENTRY];
