//! What differs between two runs beside their figures? Told in things that a reader knows (videos, power mode, options);
//! digests are kept apart, for those who ask.

use std::collections::BTreeSet;

use crate::results::record::{CellRecord, RunRecord};
use crate::text::{clean, plural};

/// A cell in its run.
type Placed<'a> = (&'a RunRecord, &'a CellRecord);

/// What makes scores of different things.
pub(super) fn data(base: &RunRecord, other: &RunRecord) -> Vec<String> {
    let mut found = Vec::new();
    if base.data.list_sha256 != other.data.list_sha256 {
        found.push(videos(base, other));
    }
    match (base.data.has_truth(), other.data.has_truth()) {
        (true, true) => found.extend(moved("protocol", &base.data.protocol, &other.data.protocol)),
        (false, false) if base.data.prompts_sha256 != other.data.prompts_sha256 => {
            found.push("other prompts".to_string())
        }
        (false, false) => {}
        _ => found.push("prompts of the user's own in one of them".to_string()),
    }
    // Runs of before content was recorded do not say it; clips looped to other lengths have read other frames.
    let [ours, theirs] = [base, other].map(|run| &run.data.content_sha256);
    let told = !ours.is_empty() && !theirs.is_empty();
    if told && ours != theirs && setting(base, "loop_frames") == setting(other, "loop_frames") {
        found.push("other content of frames and annotations".to_string());
    }
    found
}

/// What makes latencies of different things.
pub(super) fn machine(base: &RunRecord, other: &RunRecord) -> Vec<String> {
    let mut found = Vec::new();
    if base.device.digest != other.device.digest {
        found.push(device(base, other));
    }
    let scenario = |run: &RunRecord| setting(run, "scenario");
    found.extend(moved("scenario", &scenario(base), &scenario(other)));
    found
}

/// Digests of the tracker's pack, of a detector's beside it and of the label pack; empty where there is none.
fn packs(cell: &CellRecord) -> [&str; 3] {
    let mut parts = cell.pack_digest.split('+');
    let mut next = |there: bool| if there { parts.next().unwrap_or_default() } else { "" };
    [next(true), next(cell.detector.as_ref().is_some_and(|d| d.pack != cell.pack)), next(cell.labels.is_some())]
}

/// What a change may come from.
pub(super) fn explaining((base, a): Placed, (other, b): Placed) -> Vec<String> {
    let mut found = Vec::new();
    match moved("jetbench", &base.version, &other.version) {
        Some(version) => found.push(version),
        None if base.origin.program_sha256 != other.origin.program_sha256 => {
            found.push(format!("another build of jetbench {}", clean(&base.version)));
        }
        None => {}
    }
    match moved("pack", &a.pack, &b.pack) {
        Some(pack) => found.push(pack),
        None if packs(a)[0] != packs(b)[0] => found.push(format!("another version of pack {}", clean(&a.pack))),
        None => {}
    }
    let detector = |c: &CellRecord| c.detector.as_ref().map(|d| d.pack.clone()).unwrap_or_default();
    match moved("detector", &detector(a), &detector(b)) {
        Some(pack) => found.push(pack),
        None if packs(a)[1] != packs(b)[1] => found.push(format!("another version of pack {}", clean(&detector(a)))),
        None => {}
    }
    let labels = |c: &CellRecord| c.labels.as_ref().map(|l| l.pack.clone()).unwrap_or_default();
    match moved("label pack", &labels(a), &labels(b)) {
        Some(pack) => found.push(pack),
        None if packs(a)[2] != packs(b)[2] => found.push(format!("another version of pack {}", clean(&labels(a)))),
        None => {}
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    found.extend(moved("precision in effect", &text(&a.effective_dtype), &text(&b.effective_dtype)));
    let runtime = |c: &CellRecord| c.runtime.as_ref().map(|r| r.words()).unwrap_or_default();
    found.extend(moved("ONNX Runtime", &runtime(a), &runtime(b)));
    let names: BTreeSet<&String> = a.options.passed.iter().chain(&b.options.passed).map(|(name, _)| name).collect();
    for name in names {
        let value = |c: &CellRecord| c.options.value(name).unwrap_or_default().to_string();
        found.extend(moved(name, &value(a), &value(b)));
    }
    found.extend(moved("clicks", &setting(base, "clicks"), &setting(other, "clicks")));
    if base.device.digest != other.device.digest {
        found.push(device(base, other));
    }
    if base.data.is_live() && other.data.is_live() {
        found.push("other frames: a live source gives its frames once".to_string());
    }
    found
}

/// Digests that differ: name, base, other.
pub(super) fn digests((base, a): Placed, (other, b): Placed) -> Vec<(String, String, String)> {
    [
        ("program", &base.origin.program_sha256, &other.origin.program_sha256),
        ("pack", &a.pack_digest, &b.pack_digest),
        ("list of videos", &base.data.list_sha256, &other.data.list_sha256),
        ("content of frames and annotations", &base.data.content_sha256, &other.data.content_sha256),
        ("device", &base.device.digest, &other.device.digest),
    ]
    .into_iter()
    .filter(|(_, x, y)| x != y)
    .map(|(name, x, y)| (name.to_string(), clean(x), clean(y)))
    .collect()
}

fn setting(run: &RunRecord, name: &str) -> String {
    run.settings
        .get(name)
        .map(|value| value.as_str().map_or_else(|| value.to_string(), String::from))
        .unwrap_or_default()
}

/// `name base → other`, where they differ.
fn moved(name: &str, base: &str, other: &str) -> Option<String> {
    let show = |text: &str| if text.is_empty() { "none".to_string() } else { clean(text) };
    (base != other).then(|| format!("{} {} → {}", clean(name), show(base), show(other)))
}

/// How the lists of videos differ.
fn videos(base: &RunRecord, other: &RunRecord) -> String {
    let (a, b) = (&base.data, &other.data);
    if a.videos != b.videos {
        return format!("{} → {}", plural(a.videos, "video", "videos"), b.videos);
    }
    if a.objects != b.objects {
        return format!("{} → {}", plural(a.objects, "object", "objects"), b.objects);
    }
    if a.frames != b.frames {
        return format!("{} → {}", plural(a.frames, "frame", "frames"), b.frames);
    }
    let new = b.list.iter().filter(|v| !a.list.contains(v)).count();
    match new {
        0 => "the same videos with other frames or objects".to_string(),
        n => format!("{n} of {} are others", plural(b.videos, "video", "videos")),
    }
}

/// How the machines differ: by name, else by what is known of them.
fn device(base: &RunRecord, other: &RunRecord) -> String {
    let (a, b) = (&base.device, &other.device);
    if a.name != b.name {
        return format!("device {} → {}", clean(&a.name), clean(&b.name));
    }
    let names: BTreeSet<&String> = a.facts.keys().chain(b.facts.keys()).collect();
    let value =
        |facts: &std::collections::BTreeMap<String, String>, name: &str| facts.get(name).cloned().unwrap_or_default();
    let facts: Vec<String> = names
        .into_iter()
        .filter_map(|name| moved(&name.replace('_', " "), &value(&a.facts, name), &value(&b.facts, name)))
        .collect();
    match facts.as_slice() {
        [] => format!("another state of device {} (digests in -v)", clean(&a.name)),
        some => format!("device {}: {}", clean(&a.name), some[..some.len().min(3)].join(", ")),
    }
}
