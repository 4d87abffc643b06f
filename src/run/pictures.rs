//! Pictures of a cell's worst moments, made while its masks are still there.

use std::path::Path;

use crate::dataset::Sequence;
use crate::report::{self, thumb};
use crate::results::record::SequenceRecord;
use crate::results::store;
use crate::score::grade::{self, Finished};
use jetbench_runners::files;

/// Leaves pictures of the worst moments for the report. A sequence that was scored before an interruption has no masks
/// any more; its pictures from then are kept.
pub(super) fn leave(
    dir: &Path,
    plan: &[Sequence],
    scored: &[SequenceRecord],
    tracked: &[Finished],
) -> Result<(), String> {
    let old: Vec<thumb::Moment> = files::read(&dir.join("moments.json"), files::LARGE)
        .ok()
        .and_then(|b| serde_json::from_slice(&b).ok())
        .unwrap_or_default();
    let mut kept = Vec::new();
    for mut moment in thumb::worst(scored) {
        let finished = tracked.iter().find(|f| f.video == moment.video);
        let sequence = finished.and_then(|f| Some((f, plan.get(f.index)?)));
        let before =
            old.iter().find(|m| (&m.video, &m.object, m.frame) == (&moment.video, &moment.object, moment.frame));
        if let Some((finished, sequence)) = sequence {
            let image = grade::picture(sequence, &finished.spool, moment.frame as usize, &moment.object)
                .map_err(|e| e.to_string())?;
            let png = report::png::encode(&image).map_err(|e| e.to_string())?;
            moment.file = format!("{}-{}.png", finished.index, moment.frame);
            store::write_atomic(&dir.join(&moment.file), &png).map_err(|e| e.to_string())?;
        } else if let Some(before) = before {
            moment.file = before.file.clone();
        } else {
            continue;
        }
        kept.push(moment);
    }
    if !kept.is_empty() {
        store::write_json(&dir.join("moments.json"), &kept).map_err(|e| e.to_string())?;
    }
    // What a killed part of this run left: half a picture, or moments that are no longer among the worst.
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let stale = name.ends_with(".png") && !kept.iter().any(|moment| moment.file == name);
        if stale || name.starts_with(store::WRITING) {
            std::fs::remove_file(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    Ok(())
}
