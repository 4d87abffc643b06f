//! The fan: how hard it is driven and how fast it turns. A board that holds its clocks only at full fan speed is another
//! board in summer.

use std::path::Path;

use super::{Files, Found, entries, why_not};

/// `pwm1` (0..255), and `rpm` or `fan1_input`; they may belong to two hwmon devices.
pub(super) fn find(root: &Path, found: &mut Found) {
    let place = root.join("sys/class/hwmon");
    let mut files = Files::new();
    files.slow = true;
    for monitor in entries(&place) {
        let known = |files: &Files, name: &str| files.files.iter().any(|f| f.0.name == name);
        let pwm = monitor.join("pwm1");
        if pwm.exists() && !known(&files, "fan_pwm") {
            files.push("fan", "fan_pwm", pwm, 1.0);
        }
        for name in ["rpm", "fan1_input"] {
            let speed = monitor.join(name);
            if speed.exists() && !known(&files, "fan_rpm") {
                files.push("fan", "fan_rpm", speed, 1.0);
            }
        }
    }
    if files.files.is_empty() {
        let reason =
            if place.is_dir() { "no hwmon device drives or counts a fan".to_string() } else { why_not(&place) };
        return found.miss("fan", reason);
    }
    files.settle(found);
}
