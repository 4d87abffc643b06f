//! Load and clock of a Jetson's GPU through devfreq, and of its memory controller (EMC). The GPU's node is found by the
//! name its device tree gives it, because its path changes between JetPack releases. On Thor the GPU is a PCIe device without a name there;
//! its nodes are called `gpu-gpc-0` (graphics) and `gpu-nvd-0` (video engines) and have no load (jetson_stats, `thor_gpu.py`, `thor_power.py`).

use std::path::{Path, PathBuf};

use super::key::Channel;
use super::sensor::{Found, Numbers, Reading, Sensor, entries, is_tegra, number, text, why_not};

/// Device tree names of the GPUs: Orin (`ga10b`, from JetPack 6 on plain `gpu`), Xavier, TX2, Thor.
const NAMES: [&str; 5] = ["ga10b", "gpu", "gv11b", "gp10b", "gb10b"];

/// How the nodes of Thor's graphics clusters begin.
const GRAPHICS: &str = "gpu-gpc-";

/// The node of Thor's video engines, below devfreq.
const VIDEO: &str = "gpu-nvd-0";

/// devfreq nodes that are a GPU.
pub(crate) fn nodes(root: &Path) -> Vec<PathBuf> {
    let named = |node: &PathBuf| {
        text(&node.join("device/of_node/name")).is_ok_and(|name| NAMES.contains(&name.as_str()))
            || node.file_name().is_some_and(|name| name.to_string_lossy().starts_with(GRAPHICS))
    };
    entries(&root.join("sys/class/devfreq")).into_iter().filter(named).collect()
}

/// Upper bound of the clock in a devfreq node, Hz.
const CAP: &str = "max_freq";

/// The cap that the board states for the clock of its first GPU, MHz.
pub(crate) fn clock_cap_mhz(root: &Path) -> Option<f64> {
    number(&nodes(root).first()?.join(CAP)).ok().map(|hz| hz / 1e6)
}

/// GPU load in percent, clock and its upper bound.
pub(super) fn find(root: &Path, found: &mut Found) {
    let nodes = nodes(root);
    if nodes.is_empty() {
        let place = root.join("sys/class/devfreq");
        let reason = if is_tegra(root) { why_not(&place) } else { "no devfreq GPU: not a Tegra board".to_string() };
        return found.miss("gpu", reason);
    }
    let mut files = Numbers::new();
    let mut caps = Numbers::new();
    caps.slow = true;
    for (i, node) in (0..).zip(&nodes) {
        files.push(Channel::GpuLoad(i), node.join("device/load"), 0.1);
        files.push(Channel::GpuClock(i), node.join("cur_freq"), 1e-6);
        caps.push(Channel::GpuClockCap(i), node.join(CAP), 1e-6);
    }
    let video = root.join("sys/class/devfreq").join(VIDEO);
    if video.is_dir() {
        files.push(Channel::GpuVideoClock, video.join("cur_freq"), 1e-6);
    }
    files.settle(found);
    caps.settle(found);
}

/// Use of the memory controller: activity over its clock.
struct EmcUse {
    activity: PathBuf,
    rate: PathBuf,
}

impl Sensor for EmcUse {
    fn channels(&self) -> Vec<Channel> {
        vec![Channel::EmcLoad]
    }

    fn read(&mut self, out: &mut Vec<Reading>) {
        out.push(number(&self.activity).and_then(|busy| {
            let khz = number(&self.rate)? / 1000.0;
            if khz > 0.0 { Ok(100.0 * busy / khz) } else { Err("the memory clock reads as 0".into()) }
        }));
    }
}

/// Clock and use of the memory controller; both mostly for root.
pub(super) fn find_emc(root: &Path, found: &mut Found) {
    if !is_tegra(root) {
        return found.miss("emc", "not a Tegra board");
    }
    let rate = root.join("sys/kernel/debug/bpmp/debug/clk/emc/rate");
    match number(&rate) {
        Err(reason) => found.miss("emc", reason),
        Ok(_) => {
            let mut files = Numbers::new();
            files.push(Channel::EmcClock, rate.clone(), 1e-6);
            files.settle(found);
            let places = [
                "sys/kernel/debug/cactmon/mc_all",
                "sys/kernel/debug/bpmp/debug/actmon/mc_all_avg_activity",
                "sys/kernel/actmon_avg_activity/mc_all",
            ];
            match places.iter().map(|p| root.join(p)).find(|p| number(p).is_ok()) {
                Some(activity) => found.add(EmcUse { activity, rate }),
                None => found.miss(Channel::EmcLoad, format!("none of {} can be read", places.join(", "))),
            }
        }
    }
}
