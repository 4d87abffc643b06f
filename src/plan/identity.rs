//! What decides the figures, as digests: program, runtime, data and settings. Runs are joined, resumed and skipped by them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jetbench_runners::digest::hex;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::dataset::content::file_sha;
use crate::dataset::{Dataset, LIVE, Sequence};
use crate::exit::Error;
use crate::plan::Plan;
use crate::plan::resolve::Cell;
use crate::results::record::PromptRecord;

/// Digest of what is to be tracked: names, sizes, frames and annotated objects of all videos.
pub(crate) fn list_sha256(dataset: &Dataset) -> String {
    let mut digest = Sha256::new();
    digest.update(format!("{}\n", dataset.layout));
    if dataset.layout == LIVE {
        digest.update(format!("{}\n", dataset.root.display()));
    }
    for sequence in &dataset.sequences {
        digest.update(format!("{:?} {}x{}\n", sequence.name, sequence.width, sequence.height));
        for frame in &sequence.frames {
            digest.update(format!("{:?}\n", frame.name));
        }
        for object in &sequence.objects {
            digest.update(format!("{:?} {} {:?}\n", object.name, object.prompt_frame, object.annotated));
        }
    }
    if dataset.protocol().is_none() {
        digest.update(prompts_sha256(&dataset.sequences));
    }
    hex(&digest.finalize())
}

/// Digest of the prompts that the user gave: video, object, frame, and each prompt as records have it.
pub(crate) fn prompts_sha256<'a>(sequences: impl IntoIterator<Item = &'a Sequence>) -> String {
    let mut digest = Sha256::new();
    for sequence in sequences {
        for object in &sequence.objects {
            let shape = sequence.given(object).map(PromptRecord::from);
            digest.update(json!([sequence.name, object.name, object.prompt_frame, shape]).to_string());
        }
    }
    hex(&digest.finalize())
}

/// SHA-256 of the program file; empty when it cannot be read (it was replaced while it ran).
pub(crate) fn program_sha256() -> String {
    std::env::current_exe().ok().and_then(|path| file_sha(&path).ok()).map(|sha| hex(&sha)).unwrap_or_default()
}

/// Enters into each cell the libraries that its worker loads, with their SHA-256.
///
/// # Errors
/// One cannot be read: exit 3.
pub(super) fn libraries(cells: &mut [Cell], ort_lib: &Path) -> Result<(), Error> {
    let mut known: BTreeMap<PathBuf, String> = BTreeMap::new();
    for cell in cells.iter_mut().filter(|cell| !cell.pack.hidden) {
        for file in cell.loads(ort_lib) {
            let sha256 = match known.get(&file) {
                Some(sha256) => sha256.clone(),
                None => hex(&file_sha(&file).map_err(|e| {
                    Error::Environment(format!("cannot read {} to take its SHA-256: {e}", file.display()))
                })?),
            };
            known.insert(file.clone(), sha256.clone());
            cell.libraries.push((file, sha256));
        }
    }
    Ok(())
}

/// The settings that decide figures: those that only say where things lie, how patient to be, or which part to do are
/// left out. What the cells tell of themselves (models, label packs, precisions, devices) is left to them.
pub(crate) fn deciding(settings: &BTreeMap<String, serde_json::Value>) -> BTreeMap<String, serde_json::Value> {
    const LEFT_OUT: [&str; 18] = [
        "models",
        "dtype",
        "device",
        "alias",
        "data",
        "out",
        "packs",
        "ort_lib",
        "ep_library",
        "event_timeout_s",
        "load_timeout_s",
        "save_masks",
        "overlays",
        "backward",
        "labels",
        "waiting",
        "memory_budget",
        "keep",
    ];
    let mut settings = settings.clone();
    settings.retain(|name, _| !LEFT_OUT.contains(&name.as_str()));
    if let Some(limits) = settings.get_mut("limits").and_then(|l| l.as_object_mut()) {
        limits.remove("shard");
    }
    settings
}

/// Digest of everything that decides the figures but the machine: see [`Origin::job_sha256`]. Settings as in [`deciding`].
pub(crate) fn job_sha256(plan: &Plan, program_sha256: &str) -> String {
    let settings = deciding(&settings(plan));
    let cells: Vec<_> = plan
        .cells
        .iter()
        .map(|c| json!([c.model, c.pack.id, c.pack_digest(), c.prompt, c.dtype, c.device, c.admitted.passed]))
        .collect();
    let loaded = plan.cells.iter().map(|cell| cell.libraries.iter().map(|(_, sha256)| sha256).collect::<Vec<_>>());
    let runtime = loaded.clone().find_map(|digests| digests.first().copied());
    let protocol = plan.dataset.protocol().map(|p| p.to_string());
    let mut job = vec![json!([program_sha256, runtime, plan.list_sha256, protocol, settings, cells])];
    // From which libraries come the providers of each cell? A job without any keeps the digest that it always had.
    let providers: Vec<_> = loaded.map(|digests| digests.into_iter().skip(1).collect::<Vec<_>>()).collect();
    if providers.iter().any(|files| !files.is_empty()) {
        job.push(json!(providers));
    }
    let job = if job.len() == 1 { job.remove(0) } else { json!(job) };
    hex(&Sha256::digest(job.to_string().as_bytes()))
}

pub(crate) fn settings(plan: &Plan) -> BTreeMap<String, serde_json::Value> {
    match serde_json::to_value(&plan.settings) {
        Ok(serde_json::Value::Object(map)) => map.into_iter().collect(),
        _ => BTreeMap::new(),
    }
}
