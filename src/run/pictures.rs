//! Pictures of a cell's worst moments and of its id switches, made while its masks are still there.

use std::path::Path;

use crate::dataset::{Layout, Sequence};
use crate::report::{self, thumb};
use crate::results::record::SequenceRecord;
use crate::results::store;
use crate::score::grade::{self, Finished};
use jetbench_runners::files;

/// Leaves pictures of these moments for the report. A sequence that was scored before an interruption has no masks
/// any more; its pictures from then are kept.
pub(super) fn leave(
    dir: &Path,
    (plan, layout): (&[Sequence], Layout),
    scored: &[SequenceRecord],
    tracked: &[Finished],
) -> Result<(), String> {
    let old: Vec<thumb::Moment> = files::read(&dir.join("moments.json"), files::LARGE)
        .ok()
        .and_then(|b| serde_json::from_slice(&b).ok())
        .unwrap_or_default();
    let mut kept = Vec::new();
    for mut moment in thumb::worst(scored).into_iter().chain(thumb::switched(scored)) {
        let finished = tracked.iter().find(|f| f.video == moment.video);
        let sequence = finished.and_then(|f| Some((f, plan.get(f.index)?)));
        let before = old.iter().find(|m| m.is_same(&moment));
        if let Some((finished, sequence)) = sequence {
            let (object, image, kind) = match &moment.switch {
                None => {
                    let image = grade::lost(sequence, &finished.spool, moment.frame as usize, &moment.object);
                    (moment.object.clone(), image.map_err(|e| e.to_string())?, "")
                }
                Some(switch) => {
                    let (object, image) =
                        grade::switched(sequence, finished, layout, switch).map_err(|e| e.to_string())?;
                    (object, image, "-switch")
                }
            };
            let png = report::png::encode(&image).map_err(|e| e.to_string())?;
            moment.file = format!("{}-{}{kind}.png", finished.index, moment.frame);
            moment.object = object;
            store::write_atomic(&dir.join(&moment.file), &png).map_err(|e| e.to_string())?;
        } else if let Some(before) = before {
            (moment.file, moment.object) = (before.file.clone(), before.object.clone());
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
