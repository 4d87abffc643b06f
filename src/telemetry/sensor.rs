//! What a sensor is, and the kinds that most of them are: files of the kernel with one number each, and one text with
//! several. Every path lies below a root that is given, so that a captured tree of any board tests them anywhere.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::key::Channel;
use crate::results::record::MissingRecord;
use jetbench_runners::files;

/// A reading, or why there is none.
pub type Reading = Result<f64, String>;

/// Something that can be read again and again.
pub trait Sensor: Send {
    /// What it gives, in the order of [`Sensor::read`].
    fn channels(&self) -> Vec<Channel>;
    /// Appends one reading per channel.
    fn read(&mut self, out: &mut Vec<Reading>);
    /// Is it dear to read? Then it is read once a second.
    fn slow(&self) -> bool {
        false
    }
}

/// The sensors of a machine, and what it does not have.
#[derive(Default)]
pub struct Found {
    /// Sensors that gave a reading, or at least are there.
    pub sensors: Vec<Box<dyn Sensor>>,
    /// Sources that cannot be read, each with the reason.
    pub missing: Vec<MissingRecord>,
}

impl Found {
    pub(super) fn add(&mut self, sensor: impl Sensor + 'static) {
        self.sensors.push(Box::new(sensor));
    }

    /// Notes that a source or a channel cannot be read.
    pub(super) fn miss(&mut self, sensor: impl ToString, reason: impl Into<String>) {
        self.missing.push(MissingRecord { sensor: sensor.to_string(), reason: reason.into() });
    }

    /// All channels, in reading order.
    pub fn channels(&self) -> Vec<Channel> {
        self.sensors.iter().flat_map(|s| s.channels()).collect()
    }
}

/// Text of a file without NULs and white space at its ends, or why not.
pub(super) fn text(path: &Path) -> Result<String, String> {
    match files::read(path, files::SMALL) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            Ok(text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_string())
        }
        Err(e) => Err(why(path, &e)),
    }
}

/// An input error in words that say what to do.
fn why(path: &Path, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound if path.to_string_lossy().contains("sys/kernel/debug") => {
            format!("{} is not there; debugfs is for root", path.display())
        }
        std::io::ErrorKind::NotFound => format!("{} is not there", path.display()),
        std::io::ErrorKind::PermissionDenied => format!("{} may only be read by root", path.display()),
        _ => format!("{}: {error}", path.display()),
    }
}

/// A file that holds one number.
pub(super) fn number(path: &Path) -> Reading {
    let text = text(path)?;
    let word = text.split_whitespace().next().unwrap_or_default();
    match word.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(format!("{}: {:?} is not a number", path.display(), text.chars().take(40).collect::<String>())),
    }
}

/// What lies in a directory, by name; nothing where there is none.
pub(super) fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.sort();
    paths
}

/// Why a directory that should hold something is of no use.
pub(super) fn why_not(dir: &Path) -> String {
    match std::fs::read_dir(dir) {
        Ok(_) => format!("{} has none", dir.display()),
        Err(e) => why(dir, &e),
    }
}

/// Is this a board with a Tegra chip?
pub fn is_tegra(root: &Path) -> bool {
    ["proc/device-tree/compatible", "sys/firmware/devicetree/base/compatible"].iter().any(|file| {
        files::read(&root.join(file), files::SMALL).is_ok_and(|b| String::from_utf8_lossy(&b).contains("nvidia,tegra"))
    })
}

/// Files with one number each, scaled to the channel's unit.
pub(super) struct Numbers {
    pub files: Vec<(Channel, PathBuf, f64)>,
    /// Readings outside are errors: sensors that are switched off often give absurd values.
    pub range: Range<f64>,
    pub slow: bool,
}

impl Numbers {
    pub fn new() -> Self {
        Numbers { files: Vec::new(), range: f64::MIN..f64::MAX, slow: false }
    }

    pub fn push(&mut self, channel: Channel, path: PathBuf, scale: f64) {
        self.files.push((channel, path, scale));
    }

    pub fn has(&self, channel: &Channel) -> bool {
        self.files.iter().any(|f| f.0 == *channel)
    }

    /// Adds itself to what was found, without the files that cannot be read now; those are missing.
    pub fn settle(mut self, found: &mut Found) {
        let files = std::mem::take(&mut self.files);
        for (channel, path, scale) in files {
            match self.range_check(number(&path).map(|v| v * scale), &path) {
                Ok(_) => self.files.push((channel, path, scale)),
                Err(reason) => found.miss(channel, reason),
            }
        }
        if !self.files.is_empty() {
            found.add(self);
        }
    }

    fn range_check(&self, reading: Reading, path: &Path) -> Reading {
        match reading? {
            value if self.range.contains(&value) => Ok(value),
            value => {
                Err(format!("{}: {value} is outside what this sensor can measure; it is switched off", path.display()))
            }
        }
    }
}

impl Sensor for Numbers {
    fn channels(&self) -> Vec<Channel> {
        self.files.iter().map(|f| f.0.clone()).collect()
    }

    fn read(&mut self, out: &mut Vec<Reading>) {
        for (_, path, scale) in &self.files {
            out.push(self.range_check(number(path).map(|v| v * scale), path));
        }
    }

    fn slow(&self) -> bool {
        self.slow
    }
}

/// What finds one figure in a text.
type Pick = Box<dyn Fn(&str) -> Option<f64> + Send>;

/// A file that is read once per sample and gives several figures.
pub(super) struct Text {
    path: PathBuf,
    /// Channel, what its reading is called in the file, and how it is found.
    figures: Vec<(Channel, &'static str, Pick)>,
    slow: bool,
}

impl Text {
    pub fn new(path: PathBuf, slow: bool) -> Self {
        Text { path, figures: Vec::new(), slow }
    }

    /// Adds a figure; `what` is what the file lacks when `pick` finds nothing.
    pub fn with(
        mut self,
        channel: Channel,
        what: &'static str,
        pick: impl Fn(&str) -> Option<f64> + Send + 'static,
    ) -> Self {
        self.figures.push((channel, what, Box::new(pick)));
        self
    }

    /// Adds a line of a `key: value kB` file, in MiB.
    pub fn with_field(self, channel: Channel, key: &'static str) -> Self {
        self.with(channel, key, move |text| field_mib(text, key))
    }

    /// Adds itself to what was found, if it has a figure.
    pub fn settle(self, found: &mut Found) {
        if !self.figures.is_empty() {
            found.add(self);
        }
    }
}

impl Sensor for Text {
    fn channels(&self) -> Vec<Channel> {
        self.figures.iter().map(|f| f.0.clone()).collect()
    }

    fn read(&mut self, out: &mut Vec<Reading>) {
        let text = text(&self.path);
        out.extend(self.figures.iter().map(|(_, what, pick)| match &text {
            Ok(text) => pick(text).ok_or_else(|| format!("{} has no {what}", self.path.display())),
            Err(reason) => Err(reason.clone()),
        }));
    }

    fn slow(&self) -> bool {
        self.slow
    }
}

/// One line of a `key: value kB` file, in MiB.
pub(super) fn field_mib(text: &str, key: &str) -> Option<f64> {
    let line = text.lines().find(|l| l.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')))?;
    let kib: f64 = line[key.len() + 1..].split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

/// Fixture for sensors that take a root path: a directory tree with these files.
#[cfg(test)]
pub(crate) fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    dir
}
