//! Which of the plugin libraries that the user named offers which device?

use std::fmt;
use std::path::{Path, PathBuf};

use jetbench_runners::plugin::{self, PluginDevice, PluginFacts};
use jetbench_runners::types::Device;

use crate::exit::Error;

/// The plugin libraries of `--ep-library`, and what they offer on this machine.
#[derive(Debug, Default)]
pub(crate) struct Plugins {
    /// Each with what was found in it.
    pub libraries: Vec<(PathBuf, PluginFacts)>,
}

/// The device of a cell, as a plugin library offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The library.
    pub library: PathBuf,
    /// What was found of the device.
    pub device: PluginDevice,
}

impl fmt::Display for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PluginDevice { provider, version, hardware, .. } = &self.device;
        let version = version.as_ref().map_or(String::new(), |version| format!(" {version}"));
        write!(f, "{provider}{version} of {}, on {hardware}", self.library.display())
    }
}

/// Are they files at all? Asked even where no cell needs a runtime.
///
/// # Errors
/// One is missing: exit 3.
pub(super) fn are_files(libraries: &[PathBuf]) -> Result<(), Error> {
    match libraries.iter().find(|library| !library.is_file()) {
        Some(library) => Err(Error::Environment(format!("--ep-library {}: no such file", library.display()))),
        None => Ok(()),
    }
}

impl Plugins {
    /// Looks at each with a runtime.
    ///
    /// # Errors
    /// As [`Plugins::add`].
    pub fn find(runtime: &Path, version: &str, libraries: &[PathBuf]) -> Result<Plugins, Error> {
        let mut plugins = Plugins::default();
        libraries.iter().try_for_each(|library| plugins.add(runtime, version, library))?;
        Ok(plugins)
    }

    /// Looks at one with a runtime, in a process of its own.
    ///
    /// # Errors
    /// It cannot be used, with the reason, or it offers a device that another offers: exit 3.
    pub fn add(&mut self, runtime: &Path, version: &str, library: &Path) -> Result<(), Error> {
        let facts = plugin::look(runtime, version, library)?;
        if let Some((device, other)) = facts.devices.iter().find_map(|d| Some((d.device?, self.offering(d.device?)?))) {
            return Err(Error::Environment(format!(
                "--ep-library {}: it offers {device}, and so does {}; name one of them",
                library.display(),
                other.library.display()
            )));
        }
        self.libraries.push((library.to_path_buf(), facts));
        Ok(())
    }

    /// A device as a library offers it.
    pub fn offering(&self, device: Device) -> Option<Offered> {
        let mut found = self.libraries.iter().filter_map(|(library, facts)| Some((library, facts.of(device)?)));
        found.next().map(|(library, device)| Offered { library: library.clone(), device: device.clone() })
    }

    /// What is wrong with a device that neither they nor the runtime have; `text`: what is wrong with the runtime.
    pub fn lacking(&self, device: Device, text: String) -> String {
        let offered: Vec<String> = self.libraries.iter().map(|(_, facts)| facts.names()).collect();
        let offered = offered.join(", ");
        match device {
            _ if self.libraries.is_empty() => plugin::needs_library(device).unwrap_or(text),
            Device::Plugin(..) => {
                format!("device {device}: no library given with --ep-library offers it; they offer: {offered}")
            }
            _ => format!("{text}. The libraries given with --ep-library offer: {offered}"),
        }
    }

    /// A remark on each library that none of the devices comes from.
    pub fn idle(&self, devices: &[Device]) -> Vec<String> {
        let unused = |facts: &PluginFacts| !devices.iter().any(|&device| facts.of(device).is_some());
        let idle = self.libraries.iter().filter(|(_, facts)| unused(facts));
        idle.map(|(library, facts)| {
            format!("--ep-library {}: no cell uses it; it offers: {}", library.display(), facts.names())
        })
        .collect()
    }
}
