//! How a whole run ended, as the exit code that scripts and schedulers act on.

use crate::exit;
use crate::results::record::{RunRecord, Verdict};
use crate::run::event::FaultClass;

/// Why a run stopped when the user or a signal ended it.
pub const INTERRUPTED: &str = "interrupted";

/// Exit code of a whole run. A device or environment that is not there weighs most: nothing about it can be repaired on
/// the command line.
pub fn exit_code(record: &RunRecord, classes: &[FaultClass]) -> u8 {
    if record.stopped.as_deref() == Some(INTERRUPTED) {
        exit::INTERRUPTED
    } else if record.stopped.is_some() || classes.contains(&FaultClass::Environment) {
        exit::ENVIRONMENT
    } else if classes.contains(&FaultClass::Input) {
        exit::USAGE
    } else if record.cells.iter().any(|c| c.verdict != Verdict::Valid) {
        exit::NOT_VALID
    } else {
        exit::OK
    }
}
