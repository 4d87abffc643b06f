//! What `--status FILE` says of a run: that it goes on, or how it ended. Schedules are watched through it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::exit::Error;
use crate::results::store;

/// What `--status FILE` holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// RFC 3339, UTC.
    pub started: String,
    /// RFC 3339, UTC; `None` while it runs, and after it was killed.
    pub finished: Option<String>,
    /// Exit code.
    pub code: Option<u8>,
    /// Directory of the run; `None` when nothing was run.
    pub run: Option<String>,
    /// Why nothing was run.
    pub error: Option<String>,
}

impl Status {
    /// Writes the file, atomically.
    ///
    /// # Errors
    /// It cannot be written: exit 3.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        store::write_json(path, self)
            .map_err(|e| Error::Environment(format!("--status: cannot write {}: {e}", path.display())))
    }
}
