//! The Jetson's power mode, read from the files that `nvpmodel` keeps, because asking the program itself needs root. It is
//! never changed from here.

use std::path::Path;

use super::key::Channel;
use super::sensor::{Found, Text, is_tegra, text};
use jetbench_runners::files;

const STATUS: &str = "var/lib/nvpmodel/status";

/// The number in `pmode:0002`.
fn id(status: &str) -> Option<u32> {
    status.rsplit(':').next()?.trim().parse().ok()
}

/// The power mode, e.g. `MODE_30W (2)`; `None` where there is none.
pub fn power_mode(root: &Path) -> Option<String> {
    let id = id(&text(&root.join(STATUS)).ok()?)?;
    let names = files::read_text(&root.join("etc/nvpmodel.conf"), files::SMALL).unwrap_or_default();
    let name = names.lines().find_map(|line| {
        let inner = line.trim().strip_prefix("< POWER_MODEL")?.trim_end_matches('>');
        let value = |key: &str| inner.split_whitespace().find_map(|w| w.strip_prefix(key)?.strip_prefix('='));
        (value("ID")?.parse() == Ok(id)).then(|| value("NAME").map(String::from))?
    });
    Some(name.map_or_else(|| id.to_string(), |name| format!("{name} ({id})")))
}

/// The number of the mode, once a second: a change during a run makes its figures unfit.
pub(super) fn find(root: &Path, found: &mut Found) {
    let path = root.join(STATUS);
    let known =
        text(&path).and_then(|text| id(&text).ok_or_else(|| format!("{}: {text:?} is no power mode", path.display())));
    match known {
        Ok(_) => found.add(Text::new(path, true).with(Channel::PowerMode, "power mode", |t| id(t).map(f64::from))),
        Err(_) if !is_tegra(root) => found.miss("power mode", "not a Tegra board"),
        Err(reason) => found.miss("power mode", reason),
    }
}
