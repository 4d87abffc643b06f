//! In which files are overlays drawn?

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::exit::Error;
use crate::plan::switch;
use crate::report::movie;

/// The files of overlays, as asked for or as decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlays {
    /// None.
    #[default]
    Off,
    /// A movie per video where ffmpeg can make one, else pictures; the plan decides, and says so.
    Any,
    /// A picture per frame.
    Png,
    /// A movie per video.
    Mp4,
}

impl Overlays {
    /// Words of the flag and of a config file.
    pub const WORDS: [&str; 4] = ["true", "mp4", "png", "false"];

    /// Decides between movies and pictures: what it is, and what the user should know.
    ///
    /// # Errors
    /// Movies were asked for, and ffmpeg cannot make any: exit 3.
    pub(super) fn decide(self) -> Result<(Overlays, Option<String>), Error> {
        match (self, matches!(self, Overlays::Any | Overlays::Mp4).then(movie::proof)) {
            (Overlays::Any, Some(Ok(()))) => {
                let said =
                    "overlays become one MP4 file per video (by ffmpeg); --overlays=png writes a picture per frame";
                Ok((Overlays::Mp4, Some(said.to_string())))
            }
            (Overlays::Any, Some(Err(why))) => Ok((
                Overlays::Png,
                Some(format!("overlays become one PNG file per frame, for there are no movies: {why}")),
            )),
            (Overlays::Mp4, Some(Err(why))) => {
                Err(Error::Environment(format!("--overlays=mp4: {why}; --overlays=png needs no ffmpeg")))
            }
            _ => Ok((self, None)),
        }
    }

    /// As a record holds it. Earlier versions wrote pictures, and `true`.
    pub(super) fn recorded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Overlays, D::Error> {
        let any = |overlays| if overlays == Overlays::Any { Overlays::Png } else { overlays };
        Overlays::deserialize(deserializer).map(any)
    }
}

impl fmt::Display for Overlays {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Overlays::Off => "false",
            Overlays::Any => "true",
            Overlays::Png => "png",
            Overlays::Mp4 => "mp4",
        })
    }
}

impl FromStr for Overlays {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let all = [Overlays::Off, Overlays::Any, Overlays::Png, Overlays::Mp4];
        let known = all.into_iter().find(|overlays| overlays.to_string() == word);
        known.ok_or_else(|| format!("unknown files `{word}`; choose mp4 or png, or true or false"))
    }
}

impl Serialize for Overlays {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Overlays::Off | Overlays::Any => serializer.serialize_bool(*self == Overlays::Any),
            Overlays::Png | Overlays::Mp4 => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Overlays {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        switch::read(deserializer, "true, false, \"mp4\" or \"png\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_or_a_word_and_what_old_records_say() {
        for (json, overlays) in
            [("true", Overlays::Any), ("false", Overlays::Off), ("\"mp4\"", Overlays::Mp4), ("\"png\"", Overlays::Png)]
        {
            assert_eq!(serde_json::from_str::<Overlays>(json).unwrap(), overlays);
            assert_eq!(serde_json::to_string(&overlays).unwrap(), json);
            let recorded = Overlays::recorded(&mut serde_json::Deserializer::from_str(json)).unwrap();
            assert_eq!(recorded, if overlays == Overlays::Any { Overlays::Png } else { overlays });
        }
        let error = serde_json::from_str::<Overlays>("\"gif\"").unwrap_err().to_string();
        assert!(error.contains("unknown files `gif`; choose mp4 or png"), "{error}");
        assert!(serde_json::from_str::<Overlays>("3").unwrap_err().to_string().contains("\"mp4\" or \"png\""));
        assert_eq!(Overlays::WORDS.map(|w| w.parse::<Overlays>().unwrap().to_string()), Overlays::WORDS);
    }
}
