//! Supply rails of the board, measured by INA3221 monitors. Each rail is reported under the board's own name. Rails are
//! parts of different wholes on different boards, so none are ever added up.

use std::path::{Path, PathBuf};

use super::key::Channel;
use super::sensor::{Found, Reading, Sensor, entries, number, text, why_not};

/// One rail.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rail {
    name: String,
    millivolt: PathBuf,
    milliampere: PathBuf,
}

/// All rails of all monitors. Channels without a load (`NC`) and the sum of shunt voltages (7) are no rails.
fn rails(root: &Path) -> Vec<Rail> {
    let mut rails: Vec<Rail> = Vec::new();
    for device in entries(&root.join("sys/bus/i2c/devices")) {
        if !text(&device.join("name")).is_ok_and(|name| name.contains("ina3221")) {
            continue;
        }
        // The number of the hwmon directory changes from boot to boot.
        for monitor in entries(&device.join("hwmon")) {
            for channel in 1..=6 {
                let file = |name: String| monitor.join(name);
                let label = text(&file(format!("in{channel}_label")));
                let millivolt = file(format!("in{channel}_input"));
                let milliampere = file(format!("curr{channel}_input"));
                if let Ok(name) = label
                    && name != "NC"
                    && !name.is_empty()
                    && millivolt.exists()
                    && milliampere.exists()
                {
                    let same =
                        rails.iter().filter(|r| r.name == name || r.name.starts_with(&format!("{name}#"))).count();
                    let name = if same == 0 { name } else { format!("{name}#{}", same + 1) };
                    rails.push(Rail { name, millivolt, milliampere });
                }
            }
        }
    }
    rails
}

struct Rails(Vec<Rail>);

impl Sensor for Rails {
    fn channels(&self) -> Vec<Channel> {
        self.0.iter().map(|r| Channel::Rail(r.name.clone())).collect()
    }

    fn read(&mut self, out: &mut Vec<Reading>) {
        out.extend(self.0.iter().map(|r| Ok(number(&r.millivolt)? * number(&r.milliampere)? / 1e6)));
    }
}

/// Power of every rail, watts.
pub(super) fn find(root: &Path, found: &mut Found) {
    let (good, bad): (Vec<Rail>, Vec<Rail>) =
        rails(root).into_iter().partition(|r| number(&r.millivolt).is_ok() && number(&r.milliampere).is_ok());
    if good.is_empty() && bad.is_empty() {
        let place = root.join("sys/bus/i2c/devices");
        let reason = if place.is_dir() {
            format!("no INA3221 power monitor below {}", place.display())
        } else {
            why_not(&place)
        };
        return found.miss("rails", reason);
    }
    for rail in bad {
        let reason = number(&rail.millivolt).err().or_else(|| number(&rail.milliampere).err());
        found.miss(Channel::Rail(rail.name), reason.unwrap_or_default());
    }
    if !good.is_empty() {
        found.add(Rails(good));
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
        let board = tree(&files.iter().map(|(p, c)| (p.as_str(), *c)).collect::<Vec<_>>());
        let mut found = Found::default();
        find(board.path(), &mut found);
        assert_eq!(found.channels(), [Channel::Rail("VDD_IN".into())]);
        assert!(found.missing[0].sensor == "VDD_SOC_w" && found.missing[0].reason.contains("not a number"));
        let mut recorder = Recorder::new(find_all(board.path(), None));
        recorder.sample(true);
        assert_eq!(recorder.finish().largest(&Channel::Rail("VDD_IN".into())), Some(3.0));
    }
}
