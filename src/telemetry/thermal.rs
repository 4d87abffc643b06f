//! Temperatures, the alarms by which a Jetson's kernel says that it is cutting clocks, and the counters of its
//! over-current unit.

use std::path::Path;

use super::key::Channel;
use super::sensor::{Found, Numbers, entries, is_tegra, number, text, why_not};

/// Temperatures that a chip can have and still run; gated zones read as -256 °C or as errors.
const PLAUSIBLE: std::ops::Range<f64> = -40.0..200.0;

/// Every thermal zone, and the throttle alerts among the cooling devices.
pub(super) fn find(root: &Path, found: &mut Found) {
    // The first holds links into the second; a captured tree may have only that.
    let places = ["sys/class/thermal", "sys/devices/virtual/thermal"].map(|place| root.join(place));
    let place = places.iter().find(|place| place.is_dir()).unwrap_or(&places[0]);
    let mut zones = Numbers::new();
    zones.range = PLAUSIBLE;
    let mut alerts = Numbers::new();
    for entry in entries(place) {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Ok(kind) = text(&entry.join("type")) else { continue };
        if name.starts_with("thermal_zone") {
            let zone = Channel::Temperature(kind);
            // Zones of one kind are told apart by their number.
            let zone = if zones.has(&zone) { Channel::Temperature(name) } else { zone };
            zones.push(zone, entry.join("temp"), 1e-3);
        } else if name.starts_with("cooling_device") && kind.ends_with("throttle-alert") {
            alerts.push(Channel::ThrottleAlert(kind), entry.join("cur_state"), 1.0);
        }
    }
    if zones.files.is_empty() {
        found.miss("thermal", why_not(place));
    }
    if alerts.files.is_empty() {
        let tegra = is_tegra(root);
        found.miss("throttle alerts", if tegra { why_not(place) } else { "not a Tegra board".to_string() });
    }
    zones.settle(found);
    alerts.settle(found);
}

/// Over-current events of the SoC (`oc1`: under-voltage, `oc2`: average, `oc3`: instantaneous), cumulative.
pub(super) fn find_over_current(root: &Path, found: &mut Found) {
    let mut files = Numbers::new();
    for monitor in entries(&root.join("sys/class/hwmon")) {
        if text(&monitor.join("name")).as_deref() != Ok("soctherm_oc") {
            continue;
        }
        for n in 1..=3 {
            let path = monitor.join(format!("oc{n}_event_cnt"));
            if number(&path).is_ok() || path.exists() {
                files.push(Channel::OverCurrent(n), path, 1.0);
            }
        }
    }
    if files.files.is_empty() {
        let reason = if is_tegra(root) {
            "no hwmon device named soctherm_oc with event counters".to_string()
        } else {
            "not a Tegra board".to_string()
        };
        return found.miss("over-current", reason);
    }
    files.settle(found);
}

/// The hottest zone now: name and degrees Celsius.
pub fn hottest(root: &Path) -> Option<(String, f64)> {
    entries(&root.join("sys/class/thermal"))
        .into_iter()
        .filter_map(|zone| Some((text(&zone.join("type")).ok()?, number(&zone.join("temp")).ok()? / 1000.0)))
        .filter(|(_, celsius)| PLAUSIBLE.contains(celsius))
        .max_by(|a, b| a.1.total_cmp(&b.1))
}
