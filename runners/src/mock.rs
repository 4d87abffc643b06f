//! Scripted runner: fixed latencies, empty or non-finite masks at a frame, crash, hang. It lets every path of the
//! harness be tested in milliseconds without ONNX Runtime.

use crate::types::{Capabilities, OpenRequest};
use crate::{Entry, Runner, RunnerError};

/// Registry entry of the mock runner.
pub const ENTRY: Entry =
    Entry { family: "mock", aliases: &[], summary: "scripted runner for tests", hidden: true, describe, open };

fn describe(_pack: &std::path::Path) -> Result<Capabilities, RunnerError> {
    Err(RunnerError::Usage("the mock runner is not written yet".into()))
}

fn open(_request: &OpenRequest) -> Result<Box<dyn Runner>, RunnerError> {
    Err(RunnerError::Usage("the mock runner is not written yet".into()))
}
