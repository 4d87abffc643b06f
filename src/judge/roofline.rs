//! How far each stage is from what the board could do at the best, as a remark on a finished cell: the roofline of each
//! graph against the median time of its stage. Only on Jetson modules whose peak is known, and only for GPU devices: on a
//! CPU the peak must be measured first (`jetbench packs inspect --roofline cpu`), which a run does not do by itself.

use std::collections::BTreeMap;
use std::path::Path;

use jetbench_runners::inspect;
use jetbench_runners::roofline::{MODULES, Module};
use jetbench_runners::types::Dtype;

use crate::judge::stats;
use crate::results::record::{CellRecord, DeviceRecord};
use crate::text::plural;

/// Part number of a module (as in the device's `module` fact) and its name in the table of peaks. The industrial module
/// and the early developer kit of AGX Orin are left out: their clocks are others.
const PARTS: [(&str, &str); 8] = [
    ("3834-0008", "agx-thor-t5000"),
    ("3701-0005", "agx-orin-64gb"),
    ("3701-0004", "agx-orin-32gb"),
    ("3767-0000", "orin-nx-16gb"),
    ("3767-0001", "orin-nx-8gb"),
    ("3767-0003", "orin-nano-8gb"),
    ("3767-0004", "orin-nano-4gb"),
    ("3767-0005", "orin-nano-8gb"),
];

/// The remark, or nothing where the device's peak is not known. `gpu_mhz` is the cap that the board states for its GPU
/// clock; without it the data sheet's clock counts.
pub fn remark(cell: &CellRecord, device: &DeviceRecord, pack: &Path, gpu_mhz: Option<f64>) -> Option<String> {
    // A quantised graph has products in int8 and in fp32, and the rates of the two lie far apart.
    if cell.device == "cpu" || cell.dtype == Dtype::Int8 {
        return None;
    }
    let peak = module(device.facts.get("module")?, gpu_mhz)?.peak();
    let (objects, stages) = medians(cell)?;
    let found = inspect::inspect(pack, Some(cell.dtype), objects, false).ok()?;
    let parts: Vec<String> = found
        .graphs
        .iter()
        .filter(|graph| graph.cost.uncounted() == 0)
        .filter_map(|graph| {
            let measured = stages.get(&graph.name).filter(|ms| **ms > 0.0)?;
            let limit = peak.limit(
                graph.cost.total_flops().saturating_mul(graph.runs),
                graph.cost.minimal_bytes().saturating_mul(graph.runs),
                cell.dtype,
            );
            Some(format!("{} {:.0} % ({})", graph.name, 100.0 * limit.ms / measured, limit.bound()))
        })
        .collect();
    (!parts.is_empty()).then(|| {
        format!(
            "share of the device's limit reached on frames with {}, bound in brackets: {}; limit of {}, {}",
            plural(objects, "object", "objects"),
            parts.join(", "),
            peak.name,
            peak.source
        )
    })
}

/// The module of a `module` fact, at the clock the board allows. A clock above the data sheet's means super mode.
fn module(fact: &str, gpu_mhz: Option<f64>) -> Option<Module> {
    let name = PARTS.iter().find(|(part, _)| fact.contains(part))?.1;
    let by_name = |name: &str| MODULES.iter().find(|m| m.name == name).copied();
    let plain = by_name(name)?;
    let Some(mhz) = gpu_mhz else { return Some(plain) };
    let above = mhz > plain.gpu_mhz * 1.1;
    let mut module = if above { by_name(&format!("{name}-super"))? } else { plain };
    module.gpu_mhz = mhz;
    Some(module)
}

/// The most frequent number of objects on tracked frames, and the median time of each stage on those frames.
fn medians(cell: &CellRecord) -> Option<(usize, BTreeMap<String, f64>)> {
    let tracked: Vec<_> = cell
        .sequences
        .iter()
        .flat_map(|s| &s.frames)
        .filter(|f| f.objects > 0 && f.stages_ms.contains_key("memory_attention"))
        .collect();
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    tracked.iter().for_each(|f| *counts.entry(f.objects).or_default() += 1);
    let (&objects, _) = counts.iter().max_by_key(|(_, n)| **n)?;
    let mut times: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for frame in tracked.iter().filter(|f| f.objects == objects) {
        for (stage, ms) in &frame.stages_ms {
            times.entry(stage.clone()).or_default().push(*ms);
        }
    }
    let medians = times.into_iter().filter_map(|(stage, list)| Some((stage, stats::median(&list)?))).collect();
    Some((objects as usize, medians))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_a_peak_and_caps_choose_the_clocks() {
        assert!(PARTS.iter().all(|(_, name)| MODULES.iter().any(|m| m.name == *name)));
        let fact = "Jetson Orin Nano 8 GB developer kit (p3767-0005)";
        let plain = module(fact, None).unwrap();
        assert_eq!((plain.name, plain.gpu_mhz), ("orin-nano-8gb", 625.0));
        let capped = module(fact, Some(420.0)).unwrap();
        assert_eq!((capped.name, capped.gpu_mhz, capped.memory_mhz), ("orin-nano-8gb", 420.0, 2133.0));
        let fast = module(fact, Some(1020.0)).unwrap();
        assert_eq!((fast.name, fast.memory_mhz), ("orin-nano-8gb-super", 3200.0));
        let thor = module("Jetson AGX Thor developer kit (p3834-0008)", Some(1386.0)).unwrap();
        assert_eq!((thor.name, thor.gpu_mhz, thor.memory_mhz), ("agx-thor-t5000", 1386.0, 4266.0));
        assert!(module("Jetson AGX Orin Industrial 64 GB (p3701-0008)", None).is_none());
    }
}
