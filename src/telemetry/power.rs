//! Supply rails of the board, measured by INA3221 monitors (three rails each, volts and amperes) and INA238 monitors (one rail, which they
//! multiply themselves). Each rail is reported under the board's own name. Rails are parts of different wholes on different boards, so none
//! are ever added up.

use std::path::{Path, PathBuf};

use super::key::Channel;
use super::sensor::{Found, Reading, Sensor, entries, number, text, why_not};

/// One rail.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rail {
    name: String,
    power: Power,
}

/// The files that tell a rail's power.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Power {
    /// Millivolts and milliamperes.
    Product(PathBuf, PathBuf),
    /// Microwatts (the kernel's hwmon interface, `power1_input`).
    Direct(PathBuf),
}

impl Rail {
    /// Watts.
    fn read(&self) -> Reading {
        match &self.power {
            Power::Product(millivolt, milliampere) => Ok(number(millivolt)? * number(milliampere)? / 1e6),
            Power::Direct(microwatt) => Ok(number(microwatt)? / 1e6),
        }
    }
}

/// All rails of all monitors.
fn rails(root: &Path) -> Vec<Rail> {
    let mut rails: Vec<Rail> = Vec::new();
    for device in entries(&root.join("sys/bus/i2c/devices")) {
        let chip = text(&device.join("name")).unwrap_or_default();
        // The number of the hwmon directory changes from boot to boot.
        for monitor in entries(&device.join("hwmon")) {
            let of_monitor = if chip.contains("ina3221") {
                three(&monitor)
            } else if chip.contains("ina238") {
                one(&monitor).into_iter().collect()
            } else {
                Vec::new()
            };
            for Rail { name, power } in of_monitor {
                let same = rails.iter().filter(|r| r.name == name || r.name.starts_with(&format!("{name}#"))).count();
                let name = if same == 0 { name } else { format!("{name}#{}", same + 1) };
                rails.push(Rail { name, power });
            }
        }
    }
    rails
}

/// Rails of an INA3221. Channels without a load (`NC`) and the sum of shunt voltages (7) are none.
fn three(monitor: &Path) -> Vec<Rail> {
    let rail = |channel: u32| {
        let name = text(&monitor.join(format!("in{channel}_label"))).ok()?;
        let millivolt = monitor.join(format!("in{channel}_input"));
        let milliampere = monitor.join(format!("curr{channel}_input"));
        let is_rail = name != "NC" && !name.is_empty() && millivolt.exists() && milliampere.exists();
        is_rail.then_some(Rail { name, power: Power::Product(millivolt, milliampere) })
    };
    (1..=6).filter_map(rail).collect()
}

/// The rail of an INA238. It has no label on the carrier of Thor, the one Jetson with such a monitor, where it measures what `tegrastats`
/// calls `VIN`: all that the developer kit draws, carrier board included.
fn one(monitor: &Path) -> Option<Rail> {
    let label = ["power1_label", "in1_label"].into_iter().find_map(|file| text(&monitor.join(file)).ok());
    let microwatt = monitor.join("power1_input");
    microwatt.exists().then(|| Rail {
        name: label.filter(|label| !label.is_empty()).unwrap_or_else(|| "VIN".to_string()),
        power: Power::Direct(microwatt),
    })
}

struct Rails(Vec<Rail>);

impl Sensor for Rails {
    fn channels(&self) -> Vec<Channel> {
        self.0.iter().map(|r| Channel::Rail(r.name.clone())).collect()
    }

    fn read(&mut self, out: &mut Vec<Reading>) {
        out.extend(self.0.iter().map(Rail::read));
    }
}

/// Power of every rail, watts.
pub(super) fn find(root: &Path, found: &mut Found) {
    let (mut good, mut missed) = (Vec::new(), false);
    for rail in rails(root) {
        match rail.read() {
            Ok(_) => good.push(rail),
            Err(reason) => {
                missed = true;
                found.miss(Channel::Rail(rail.name), reason);
            }
        }
    }
    if !good.is_empty() {
        found.add(Rails(good));
    } else if !missed {
        let place = root.join("sys/bus/i2c/devices");
        let reason = if place.is_dir() {
            format!("no INA3221 or INA238 power monitor below {}", place.display())
        } else {
            why_not(&place)
        };
        found.miss("rails", reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Recorder, find as find_all, tree};

    #[test]
    fn rails_are_volts_times_amperes_and_nothing_else_is_a_rail() {
        let monitor = "sys/bus/i2c/devices/1-0040/hwmon/hwmon3";
        let mut files = vec![("sys/bus/i2c/devices/1-0040/name".to_string(), "ina3221\n")];
        for (n, label) in [(1, "VDD_IN\n"), (2, "VDD_SOC\n"), (3, "NC\n"), (7, "sum of shunt voltages\n")] {
            files.push((format!("{monitor}/in{n}_label"), label));
            files.push((format!("{monitor}/in{n}_input"), "5000\n"));
            files.push((format!("{monitor}/curr{n}_input"), if n == 2 { "\n" } else { "600\n" }));
        }
        let one = "sys/bus/i2c/devices/1-0044";
        files.push((format!("{one}/name"), "ina238\n"));
        files.push((format!("{one}/hwmon/hwmon4/power1_input"), "50000000\n"));
        files.push(("sys/bus/i2c/devices/1-0045/name".to_string(), "ina238\n"));
        files.push(("sys/bus/i2c/devices/1-0045/hwmon/hwmon5/power1_input".to_string(), "1000000\n"));
        files.push(("sys/bus/i2c/devices/1-0046/name".to_string(), "tmp451\n"));
        files.push(("sys/bus/i2c/devices/1-0046/hwmon/hwmon6/power1_input".to_string(), "7\n"));
        let board = tree(&files.iter().map(|(p, c)| (p.as_str(), *c)).collect::<Vec<_>>());
        let mut found = Found::default();
        find(board.path(), &mut found);
        assert_eq!(found.channels(), ["VDD_IN", "VIN", "VIN#2"].map(|name| Channel::Rail(name.into())));
        assert!(found.missing[0].sensor == "VDD_SOC_w" && found.missing[0].reason.contains("not a number"));
        let mut recorder = Recorder::new(find_all(board.path(), None));
        recorder.sample(true);
        let telemetry = recorder.finish();
        let watts = |name: &str| telemetry.largest(&Channel::Rail(name.into()));
        assert_eq!((watts("VDD_IN"), watts("VIN"), watts("VIN#2")), (Some(3.0), Some(50.0), Some(1.0)));
    }
}
