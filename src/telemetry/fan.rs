//! The fan: how hard it is driven and how fast it turns. A board that holds its clocks only at full fan speed is another
//! board in summer.

use std::path::Path;

use super::key::Channel;
use super::sensor::{Found, Numbers, entries, why_not};

/// `pwm1` (0..255), and `rpm` or `fan1_input`; they may belong to two hwmon devices.
pub(super) fn find(root: &Path, found: &mut Found) {
    let place = root.join("sys/class/hwmon");
    let mut files = Numbers::new();
    files.slow = true;
    for monitor in entries(&place) {
        let pwm = monitor.join("pwm1");
        if pwm.exists() && !files.has(&Channel::FanDrive) {
            files.push(Channel::FanDrive, pwm, 1.0);
        }
        for name in ["rpm", "fan1_input"] {
            let speed = monitor.join(name);
            if speed.exists() && !files.has(&Channel::FanSpeed) {
                files.push(Channel::FanSpeed, speed, 1.0);
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
