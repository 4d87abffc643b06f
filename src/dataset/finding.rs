//! What is odd about a dataset, in words that `data check`, the plan and the run share.

use std::path::Path;

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingSeverity {
    /// A run or its scoring would fail, or be wrong.
    Error,
    /// It works, but probably not as meant.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: FindingSeverity,
    /// File or folder.
    pub place: String,
    /// What is wrong, and what to do.
    pub what: String,
}

impl Finding {
    pub(super) fn error(place: impl AsRef<Path>, what: impl Into<String>) -> Finding {
        let place = place.as_ref().display().to_string();
        Finding { severity: FindingSeverity::Error, place, what: what.into() }
    }

    pub(super) fn warning(place: impl AsRef<Path>, what: impl Into<String>) -> Finding {
        Finding { severity: FindingSeverity::Warning, ..Finding::error(place, what) }
    }
}
