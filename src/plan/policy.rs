//! What does a cell suffer from what should not be?

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What something that should not be does to a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// It is recorded.
    Report,
    /// The cell is invalid.
    Strict,
}
