//! How is a provider called that ONNX Runtime does not bring along itself?

use std::fmt;

/// Name of a provider that a plugin library offers, as its devices are called: `[a-z][a-z0-9]*`, at most
/// [`ProviderName::MOST`] characters. It lies in the value itself, so that a device stays a plain value.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProviderName {
    bytes: [u8; ProviderName::MOST],
    length: u8,
}

impl ProviderName {
    /// Longest name.
    pub const MOST: usize = 31;

    /// A word that is such a name; `None` for every other.
    pub fn new(word: &str) -> Option<ProviderName> {
        let plain = word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let fits = (1..=ProviderName::MOST).contains(&word.len());
        if !fits || !plain || !word.starts_with(|c: char| c.is_ascii_lowercase()) {
            return None;
        }
        let mut bytes = [0; ProviderName::MOST];
        bytes[..word.len()].copy_from_slice(word.as_bytes());
        Some(ProviderName { bytes, length: word.len() as u8 })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl fmt::Display for ProviderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for ProviderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Device, UnknownDevice};

    #[test]
    fn words_that_are_no_names_are_none() {
        for word in ["", "7up", "a b", "Toy", "a:b", "a-b", "ä", &"a".repeat(32)] {
            assert_eq!(ProviderName::new(word), None, "{word}");
        }
        assert_eq!(ProviderName::new(&"a".repeat(31)).unwrap().as_str(), "a".repeat(31));
    }

    #[test]
    fn devices_of_plugins_are_read_and_written() {
        let device: Device = "Toy2:3".parse().unwrap();
        assert_eq!(device, Device::Plugin(ProviderName::new("toy2").unwrap(), 3));
        assert_eq!(device.to_string(), "toy2:3");
        // Without a number it is taken for a slip of the pen, and so is what is no name.
        for word in ["toy", "toy:", "toy:x", "cpu:0", "to-y:0", ":0"] {
            assert_eq!(word.parse::<Device>(), Err(UnknownDevice(word.to_string())));
        }
    }
}
