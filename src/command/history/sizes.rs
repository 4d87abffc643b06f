//! `jetbench history --sizes`: what does each run take on disk, and may `prune` remove it?

use std::path::Path;

use serde_json::json;

use crate::command::prune::size;
use crate::exit::{Error, Outcome};
use crate::results::retention::{Hold, Stored, stored};
use crate::text::{clean, plural};

/// The runs below `out`, device by device, oldest first.
///
/// # Errors
/// The results or a baseline cannot be read.
pub(super) fn sizes(out: &Path, as_json: bool) -> Result<Outcome, Error> {
    let mut runs = stored(out)?;
    runs.sort_by(|a, b| (&a.device, &a.id).cmp(&(&b.device, &b.id)));
    let total: u64 = runs.iter().map(|run| run.bytes).sum();
    if as_json {
        let list: Vec<_> = runs
            .iter()
            .map(|run| json!({"run": run.dir, "bytes": run.bytes, "hold": run.hold.map(Hold::as_str)}))
            .collect();
        return Ok(Outcome::ok(format!("{}\n", json!({"schema": 1, "runs": list, "bytes": total}))));
    }
    let wide = runs.iter().map(|run| clean(&run.id).chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for device in runs.chunk_by(|a, b| a.device == b.device) {
        text.push_str(&format!("{}\n", clean(&device[0].device)));
        device.iter().for_each(|run| text.push_str(&line(run, wide)));
    }
    text.push_str(&format!("{}, {}\n", plural(runs.len(), "run", "runs"), size(total)));
    Ok(Outcome::ok(text))
}

fn line(run: &Stored, wide: usize) -> String {
    let hold = run.hold.map_or_else(String::new, |hold| format!("  {}", hold.as_str()));
    format!("  {:wide$}  {:>10}{hold}\n", clean(&run.id), size(run.bytes))
}
