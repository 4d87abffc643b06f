//! What does the harness itself cost? The same loop without a model.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::plan::Plan;
use crate::results::record::NullRunRecord;
use crate::results::store::RunDir;
use crate::run::event::{Event, Job};
use crate::run::supervise;

/// Has a worker measure the harness itself, on the first video of the plan.
pub(super) fn measure(plan: &Plan, dir: &RunDir, interrupt: &AtomicBool) -> Result<NullRunRecord, String> {
    let cell = plan.cells.first().ok_or("there is no cell")?;
    let spool = dir.path.join("spool").join("null");
    let job = Job { null_run: true, ..Job::new(plan, cell, spool.clone(), Vec::new()) };
    std::fs::create_dir_all(&spool).map_err(|e| e.to_string())?;
    let timeout = Duration::from_secs_f64(plan.settings.event_timeout_s);
    let mut measured = None;
    supervise::see_through(&job, &dir.log(), timeout, interrupt, &mut |event| {
        if let Event::NullRun { record } = event {
            measured = Some(record);
        }
    })?;
    measured.ok_or_else(|| "the worker said nothing about it".to_string())
}
