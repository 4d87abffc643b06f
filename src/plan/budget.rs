//! `--memory-budget`: does what is asked for fit into so much memory? Looked at before anything is loaded. The figure it is
//! held against is an estimate, computed from the pack's graphs (weights, state of all objects, bound tensors, largest live
//! values; see `inspect::memory_needed`) and always called one, so the peak that was measured is held against the budget again
//! after the run. What does not fit is refused with what would: one object after the other,
//! no second frame beside this one, fewer objects, another precision, another pack.

use std::path::{Path, PathBuf};

use jetbench_runners::options::{MAX_TRACKS, OBJECTS, PIPELINE};
use jetbench_runners::types::{Device, Dtype, OpenRequest, Options};
use jetbench_runners::{RunnerError, inspect};

use crate::exit::Error;
use crate::results::record::MemoryRecord;
use crate::text::plural;

/// A label pack beside it.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    /// Its directory.
    pub pack: &'a Path,
    /// Most objects of a video that get a name.
    pub tracks: usize,
    /// Longest side of any frame, pixels.
    pub longest: u32,
}

/// What is to fit: one pack with so many objects.
#[derive(Clone, Debug)]
pub struct Load<'a> {
    /// Directory of the pack.
    pub pack: &'a Path,
    /// Directory of the detector's pack.
    pub detector: Option<&'a Path>,
    /// The label pack, and what it is asked to name.
    pub labels: Option<Labels<'a>>,
    /// Precision.
    pub dtype: Dtype,
    /// Where it runs.
    pub device: Device,
    /// Most objects of any video, or most tracks at once where the model finds them.
    pub objects: usize,
    /// Does it find them itself? Then the data sets no limit to their number.
    pub finds: bool,
    /// What the runner is given.
    pub options: Options,
}

impl Load<'_> {
    /// Estimate in bytes, computed from the graphs as the device gets them; on a CPU with the runtime's own needs.
    ///
    /// # Errors
    /// The graphs cannot be read, or not all of their operators counted; an option has no such value.
    pub fn estimate(&self) -> Result<u64, RunnerError> {
        let request = OpenRequest {
            pack: self.pack.to_path_buf(),
            detector: self.detector.map(Path::to_path_buf),
            prompted: false,
            dtype: self.dtype,
            device: self.device,
            options: self.options.clone(),
            ort_lib: None,
            ep_library: None,
        };
        let tracker = inspect::memory_needed(&request, self.objects)?;
        let alone = |pack: &Path| OpenRequest { pack: pack.to_path_buf(), detector: None, ..request.clone() };
        // The runtime is there once.
        let own = if self.device == Device::Cpu { inspect::CPU_RUNTIME_BYTES } else { 0 };
        let detector = self.detector.map(|pack| inspect::memory_needed(&alone(pack), 1)).transpose()?;
        let labels =
            self.labels.map(|of| inspect::memory_for_labels(&alone(of.pack), of.tracks, of.longest)).transpose()?;
        let beside = [detector.map_or(0, |need| need.saturating_sub(own)), labels.unwrap_or(0)];
        Ok(beside.into_iter().fold(tracker, u64::saturating_add))
    }

    /// The same with an option set.
    fn with(&self, name: &str, value: &str) -> Self {
        let mut load = self.clone();
        load.options.extra.insert(name.to_string(), value.to_string());
        load
    }
}

/// Holds one cell against the budget; its estimate. `others`: tags and packs that could stand in for it, asked for only when
/// it does not fit.
///
/// # Errors
/// [`Error::Usage`] when it does not fit, or cannot be estimated: with the estimate, and what would fit.
pub fn check(
    label: &str,
    load: &Load<'_>,
    budget: u64,
    others: impl FnOnce() -> Vec<(String, PathBuf)>,
) -> Result<u64, Error> {
    let refused = |text: String| Error::Usage(format!("--memory-budget: {label}: {text}"));
    let need = load.estimate().map_err(|e| refused(format!("its memory cannot be estimated: {e}")))?;
    if need <= budget {
        return Ok(need);
    }
    let mut would = Vec::new();
    let mut offer = |way: String, load: &Load<'_>| {
        let fits = load.estimate().ok().filter(|need| *need <= budget);
        would.extend(fits.map(|need| format!("{way} ({})", mib(need))));
    };
    // A video segmenter has its tracks in one graph.
    let segmenter = load.finds && load.detector.is_none();
    if !segmenter {
        offer(format!("--option {OBJECTS}=loop, one object after the other"), &load.with(OBJECTS, "loop"));
    }
    if load.options.extra.get(PIPELINE).is_some_and(|on| on == "on") {
        offer(format!("--option {PIPELINE}=off"), &load.with(PIPELINE, "off"));
    }
    if load.labels.is_some() {
        offer("without --labels".to_string(), &Load { labels: None, ..load.clone() });
    }
    let (mut fit, mut too_many) = (0, if segmenter { 0 } else { load.objects });
    while too_many - fit > 1 {
        let objects = fit + (too_many - fit) / 2;
        let fits = Load { objects, ..load.clone() }.estimate().is_ok_and(|need| need <= budget);
        if fits { fit = objects } else { too_many = objects }
    }
    if fit > 0 {
        let limit = if load.finds { format!("--option {MAX_TRACKS}={fit}") } else { format!("--limit-objects {fit}") };
        offer(limit, &Load { objects: fit, ..load.clone() });
    }
    for precision in Dtype::ALL.into_iter().filter(|precision| *precision != load.dtype) {
        offer(format!("--dtype {precision}"), &Load { dtype: precision, ..load.clone() });
    }
    for (tag, pack) in others().iter().filter(|(_, pack)| pack != load.pack) {
        // What finds by itself needs no detector, and tracks what it tracks.
        offer(tag.clone(), &Load { pack, detector: None, ..load.clone() });
    }
    let objects = match (load.finds, load.objects) {
        (true, most) => format!("at most {}", plural(most, "track at once", "tracks at once")),
        (false, 1) => "one object".to_string(),
        (false, objects) => format!("{objects} objects"),
    };
    let would = match would.is_empty() {
        true => "nothing on the pack path would fit".to_string(),
        false => format!("what would fit: {}", would.join("; ")),
    };
    Err(refused(format!(
        "about {} for {objects} in one video, {} (an estimate from the graphs), and the budget is {}; {would}",
        mib(need),
        own(load.device),
        mib(budget)
    )))
}

/// What an estimate says of the runtime's own needs.
pub fn own(device: Device) -> String {
    match device {
        Device::Cpu => format!("with {} for program and runtime", mib(inspect::CPU_RUNTIME_BYTES)),
        _ => "without what driver and runtime take".to_string(),
    }
}

/// What was measured, where it is above the budget although the estimate was within it. `None`: the budget was kept,
/// or nothing was measured.
pub fn remark(budget: u64, peak: &MemoryRecord) -> Option<String> {
    let figures = [("of the worker process", peak.rss_mib), ("of the system's memory", peak.system_mib)];
    let above = figures.iter().filter_map(|(whose, found)| Some((whose, found.filter(|m| m * MIB > budget as f64)?)));
    let above: Vec<String> = above.map(|(whose, found)| format!("{found:.1} MiB {whose}")).collect();
    (!above.is_empty()).then(|| {
        format!(
            "the memory budget of {} was not kept: the measured peak is {}; only the estimate was within it",
            mib(budget),
            above.join(", ")
        )
    })
}

const MIB: f64 = 1_048_576.0;

/// In MiB.
pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packs() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/packs")
    }

    fn load(pack: &Path, precision: Dtype, device: Device, objects: usize) -> Load<'_> {
        let (detector, labels, finds, options) = Default::default();
        Load { pack, detector, labels, dtype: precision, device, objects, finds, options }
    }

    fn refusal(load: &Load<'_>, budget: u64) -> String {
        let ids = ["sam2_mini", "edgetam_mini"];
        let others = || ids.map(|id| (format!("{id}_points"), packs().join(id))).to_vec();
        check("cell", load, budget, others).unwrap_err().to_string()
    }

    #[test]
    fn what_does_not_fit_is_told_what_would() {
        let sam2 = packs().join("sam2_mini");
        let eight = load(&sam2, Dtype::Fp32, Device::Cpu, 8);
        let whole = eight.estimate().unwrap();
        assert_eq!(check("cell", &eight, whole, Vec::new).unwrap(), whole);
        let text = refusal(&eight, whole - 1);
        for part in [
            "--memory-budget: cell: about",
            "8 objects in one video",
            "an estimate",
            "objects=loop",
            "--limit-objects 7 (",
        ] {
            assert!(text.contains(part), "{text:?} does not say {part:?}");
        }
        assert!(!text.contains("fp16"), "16-bit graphs need no less on a CPU: {text}");
        assert!(!text.contains("sam2_mini_points"), "the pack itself is no way out: {text}");
        let three = Load { objects: 3, ..eight.clone() }.estimate().unwrap();
        assert!(refusal(&eight, three).contains("--limit-objects 3 ("), "the most that fit are offered");
        let gpu = load(&sam2, Dtype::Fp32, Device::Cuda(0), 8);
        assert!(refusal(&gpu, gpu.estimate().unwrap() - 1).contains("--dtype fp16 ("));
        assert!(refusal(&eight, 1 << 20).contains("nothing on the pack path would fit"));
        // Where both packs could be had, the smaller one is named.
        let edgetam = packs().join("edgetam_mini");
        let one = |pack| load(pack, Dtype::Fp32, Device::Cpu, 1);
        let needs = [(&sam2, "sam2_mini_points ("), (&edgetam, "edgetam_mini_points (")]
            .map(|(pack, tag)| (one(pack).estimate().unwrap(), pack, tag));
        let [(small, _, tag), (_, large, _)] = if needs[0].0 < needs[1].0 { needs } else { [needs[1], needs[0]] };
        assert!(refusal(&one(large), small).contains(tag));
    }

    /// What is said would fit can be asked for.
    #[test]
    fn what_would_fit_of_found_tracks_is_no_limit_of_objects() {
        let [sam2, dfine, videomt] = ["sam2_mini", "dfine_mini", "videomt_mini"].map(|id| packs().join(id));
        let composed = Load { detector: Some(&dfine), finds: true, ..load(&sam2, Dtype::Fp32, Device::Cpu, 20) };
        let others = || vec![("videomt_mini".to_string(), videomt.clone())];
        let refused = |load: &Load<'_>, budget| check("cell", load, budget, others).unwrap_err().to_string();
        let text = refused(&composed, composed.estimate().unwrap() - 1);
        for part in
            ["at most 20 tracks at once in one video", "--option max_tracks=19 (", "objects=loop", "; videomt_mini ("]
        {
            assert!(text.contains(part), "{text:?} does not say {part:?}");
        }
        let alone = Load { finds: true, ..load(&videomt, Dtype::Fp32, Device::Cpu, 10) };
        let text = text + &refused(&alone, 1 << 20);
        assert!(text.contains("at most 10 tracks at once") && text.contains("nothing on the pack path"), "{text}");
        assert!(!text.contains("limit-objects") && !text.contains("videomt_mini_"), "{text}");
    }

    #[test]
    fn a_label_pack_counts_with_the_crops_that_it_may_hold() {
        let (sam2, pack) = (packs().join("sam2_mini"), packs().join("labels_mini"));
        let bare = load(&sam2, Dtype::Fp32, Device::Cpu, 2);
        let with = |tracks| Load { labels: Some(Labels { pack: &pack, tracks, longest: 100 }), ..bare.clone() };
        let need = |tracks| with(tracks).estimate().unwrap() - bare.estimate().unwrap();
        // 64 px; two rows of the square of a frame of 100 pixels, which is 120 wide.
        assert_eq!(need(3) - need(0), 3 * 8 * 3 * 64 * 64);
        let cost = &inspect::inspect(&pack, Some(Dtype::Fp32), 1, true).unwrap();
        assert_eq!(need(0), cost.memory.shared().unwrap() + 2 * 3 * 120);
        assert_eq!(need(1000), need(256), "no more objects than that get a name");
        let text = refusal(&with(4), with(4).estimate().unwrap() - 1);
        assert!(text.contains("without --labels ("), "{text}");
    }

    #[test]
    fn the_estimate_counts_what_a_run_holds() {
        let sam2 = packs().join("sam2_mini");
        let estimate = |objects: usize, precision: Dtype, options: &[(&str, &str)]| {
            let load = load(&sam2, precision, Device::Cpu, objects);
            options.iter().fold(load, |load, (name, value)| load.with(name, value)).estimate().unwrap()
        };
        let fp32 = |objects, options: &[(&str, &str)]| estimate(objects, Dtype::Fp32, options);
        let (one, state) = (fp32(1, &[]), fp32(2, &[("objects", "loop")]) - fp32(1, &[("objects", "loop")]));
        // 256 px: 7 memories of 256 tokens x 64, 16 pointers x 128, an age; two sets of them.
        assert_eq!(state, 2 * 4 * (7 * 256 * 64 + 16 * 128 + 1), "each object has its state");
        assert!(fp32(8, &[]) > fp32(8, &[("objects", "4")]) && fp32(8, &[("objects", "4")]) > one + 7 * state);
        // A second image, its embedding and its two finer features.
        let two_threads = |pipeline| {
            let mut load = load(&sam2, Dtype::Fp32, Device::Cpu, 1).with("pipeline", pipeline);
            load.options.threads = Some(2);
            load.estimate().unwrap()
        };
        let second = 4 * (3 * 256 * 256 + 128 * 16 * 16 + 16 * 64 * 64 + 32 * 32 * 32);
        let graphs = inspect::inspect(&sam2, Some(Dtype::Fp32), 1, true).unwrap().graphs;
        let live = |name: &str| graphs.iter().find(|g| g.name == name).unwrap().cost.peak_activation_bytes;
        // The image encoder's inner values are there beside those of the other graphs.
        let both = live("image_encoder").min(live("memory_attention"));
        assert_eq!(two_threads("on") - two_threads("off"), second + both);
        assert!(fp32(1, &[("form", "plain")]) > one, "on a CPU the forms for it are counted");
        // The largest graph needs 6.8 MiB for one object, all five together 13.3 MiB.
        let mib = |n: f64| (n * MIB) as u64;
        assert!(one < inspect::CPU_RUNTIME_BYTES + mib(15.0), "graphs that run in turn share their memory: {one}");
        assert!(fp32(1, &[("cpu_arena", "own")]) > one + mib(6.0));
        // Sixteen bits are held as thirty-two there, and the casts between need room.
        let parameters: u64 = inspect::inspect(&sam2, Some(Dtype::Bf16), 1, false)
            .map(|found| found.graphs.iter().map(|graph| graph.cost.parameters).sum())
            .unwrap();
        assert!(estimate(1, Dtype::Bf16, &[]) > 4 * parameters);
        assert!(estimate(1, Dtype::Bf16, &[]) >= one);
    }

    /// The largest value of the graphs is one object's matrix of attention weights: 256 queries, 7 x 256 + 16 x 2 keys.
    #[test]
    fn weights_of_attention_are_counted_as_they_are_computed() {
        let sam2 = packs().join("sam2_mini");
        let on = |device, attention: &[&str]| {
            let load = load(&sam2, Dtype::Fp16, device, 8);
            attention.iter().fold(load, |load, how| load.with("attention", how)).estimate().unwrap()
        };
        let weights = 8 * 256 * (7 * 256 + 16 * 2);
        let [whole, fused] = ["whole", "fused"].map(|how| on(Device::Cuda(0), &[how]));
        assert!(whole > fused + 3 * weights, "{whole} and {fused}");
        assert_eq!(on(Device::Cuda(0), &[]), fused, "what a run does unless told otherwise");
        assert!(on(Device::TensorRt(0), &["64"]) + 3 * weights < on(Device::TensorRt(0), &[]));
    }

    #[test]
    fn what_cannot_be_estimated_is_refused() {
        let nowhere = load(Path::new("/nonexistent"), Dtype::Fp32, Device::Cpu, 1);
        let foreign = Path::new(env!("CARGO_MANIFEST_DIR")).join("runners/tests/data/sam2_image_mini");
        let foreign = load(&foreign, Dtype::Fp32, Device::Cpu, 1);
        for (load, why) in [(nowhere, "/nonexistent"), (foreign, "vision_encoder.onnx: the shapes of")] {
            let text = refusal(&load, u64::MAX);
            assert!(text.contains("cannot be estimated") && text.contains(why), "{text}");
        }
    }

    #[test]
    fn a_measured_peak_above_the_budget_is_said() {
        let peak = MemoryRecord { rss_mib: Some(120.0), system_mib: Some(90.0), ..MemoryRecord::default() };
        let text = remark(100 << 20, &peak).unwrap();
        assert!(
            text.contains("budget of 100.0 MiB was not kept") && text.contains("120.0 MiB of the worker"),
            "{text}"
        );
        assert!(!text.contains("90.0"), "{text}");
        assert_eq!(remark(120 << 20, &peak), None);
        assert_eq!(remark(1, &MemoryRecord::default()), None);
    }
}
