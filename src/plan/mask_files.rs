//! In which files are predicted masks kept?

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::plan::switch;

/// The files of predicted masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaskFiles {
    /// None.
    #[default]
    Off,
    /// PNG files in the dataset's own layout.
    Png,
    /// One file of run lengths per video.
    Rle,
    /// Found tracks as MOTS text, one file per video.
    Mots,
    /// Found tracks as YouTube-VIS result JSON, one file for all videos.
    YoutubeVis,
    /// Found tracks as panoptic segments, in VIPSeg's files.
    Vipseg,
}

impl MaskFiles {
    /// Words of the flag and of a config file.
    pub const WORDS: [&str; 7] = ["true", "png", "rle", "mots", "ytvis", "vipseg", "false"];

    /// Do these files hold found tracks alone?
    pub fn of_tracks(self) -> bool {
        matches!(self, MaskFiles::Mots | MaskFiles::YoutubeVis | MaskFiles::Vipseg)
    }
}

impl fmt::Display for MaskFiles {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            MaskFiles::Off => "false",
            MaskFiles::Png => "true",
            MaskFiles::Rle => "rle",
            MaskFiles::Mots => "mots",
            MaskFiles::YoutubeVis => "ytvis",
            MaskFiles::Vipseg => "vipseg",
        })
    }
}

impl FromStr for MaskFiles {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "false" => Ok(MaskFiles::Off),
            "true" | "png" => Ok(MaskFiles::Png),
            "rle" => Ok(MaskFiles::Rle),
            "mots" => Ok(MaskFiles::Mots),
            "ytvis" => Ok(MaskFiles::YoutubeVis),
            "vipseg" => Ok(MaskFiles::Vipseg),
            _ => Err(format!("unknown files `{word}`; choose png, rle, mots, ytvis or vipseg, or true or false")),
        }
    }
}

/// `true` and `false` stay what they were before there were other files than PNG.
impl Serialize for MaskFiles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            MaskFiles::Off | MaskFiles::Png => serializer.serialize_bool(*self == MaskFiles::Png),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for MaskFiles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        switch::read(deserializer, "true, false, \"png\", \"rle\", \"mots\", \"ytvis\" or \"vipseg\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_or_a_word() {
        for (json, files) in [
            ("true", MaskFiles::Png),
            ("false", MaskFiles::Off),
            ("\"png\"", MaskFiles::Png),
            ("\"rle\"", MaskFiles::Rle),
        ] {
            let read: MaskFiles = serde_json::from_str(json).unwrap();
            assert_eq!(read, files);
            assert_eq!(serde_json::from_str::<MaskFiles>(&serde_json::to_string(&read).unwrap()).unwrap(), files);
        }
        assert_eq!(serde_json::to_string(&MaskFiles::Png).unwrap(), "true", "as in earlier records");
        assert!(
            serde_json::from_str::<MaskFiles>("\"gif\"")
                .unwrap_err()
                .to_string()
                .contains("choose png, rle, mots, ytvis or vipseg")
        );
        assert!(MaskFiles::WORDS.iter().all(|word| word.parse::<MaskFiles>().is_ok()));
    }
}
