//! Which sensors does this machine have? All of them, in the order in which they are read and recorded.

use std::path::Path;

use super::sensor::Found;
use super::{allowance, cpu, fan, gpu, memory, mode, nvml, power, process, thermal};

/// Finds every sensor below `root`, and those of process `pid` where one is given.
pub fn find(root: &Path, pid: Option<u32>) -> Found {
    let mut found = Found::default();
    memory::find(root, &mut found);
    if let Some(pid) = pid {
        process::find(root, pid, &mut found);
        allowance::find(root, pid, &mut found);
    }
    memory::find_nvmap(root, pid, &mut found);
    cpu::find(root, &mut found);
    gpu::find(root, &mut found);
    gpu::find_emc(root, &mut found);
    power::find(root, &mut found);
    thermal::find(root, &mut found);
    thermal::find_over_current(root, &mut found);
    fan::find(root, &mut found);
    mode::find(root, &mut found);
    nvml::find(root, pid, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::sensor::tree;

    #[test]
    fn an_empty_tree_has_no_sensors_and_a_reason_for_each() {
        let empty = tree(&[]);
        let found = find(empty.path(), Some(1));
        assert!(found.channels().is_empty(), "{:?}", found.channels());
        let named: Vec<&str> = found.missing.iter().map(|m| m.sensor.as_str()).collect();
        let expected = [
            "memory",
            "worker memory",
            "worker cpu",
            "processor quota",
            "nvmap",
            "cpu use",
            "cpu clocks",
            "cpu throttle counters",
            "gpu",
            "emc",
            "rails",
            "thermal",
            "throttle alerts",
            "over-current",
            "fan",
            "power mode",
            "nvml",
        ];
        assert_eq!(named, expected);
        assert!(found.missing.iter().all(|m| !m.reason.is_empty()));
    }
}
