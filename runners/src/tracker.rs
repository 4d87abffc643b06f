//! The SAM 2 family tracking loop.

use std::path::Path;

use crate::manifest::Pack;
use crate::types::{Capabilities, Device, OpenRequest, Precision};
use crate::{Runner, RunnerError, contract};

/// What the pack in `dir` can do on `device`.
///
/// # Errors
/// [`RunnerError::Pack`] when the manifest is wrong.
pub fn describe(dir: &Path, device: Device) -> Result<Capabilities, RunnerError> {
    let pack = Pack::read(dir)?;
    contract::sizes(&pack)?;
    Ok(contract::capabilities(&pack, device))
}

/// Compares the pack's files with its manifest and the family's contract.
///
/// # Errors
/// [`RunnerError::Pack`] naming file, tensor, expected and found.
pub fn check(dir: &Path, precision: Precision) -> Result<(), RunnerError> {
    let pack = Pack::read(dir)?;
    contract::sizes(&pack)?;
    pack.check(precision)
}

/// Opens the tracker.
///
/// # Errors
/// Any [`RunnerError`].
pub fn open(_request: &OpenRequest) -> Result<Box<dyn Runner>, RunnerError> {
    Err(RunnerError::Environment("the tracker lands with the next increment".to_string()))
}
