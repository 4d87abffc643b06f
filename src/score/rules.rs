//! By whose rules? The words that `--protocol` takes: protocols that score masks object by object, and those for tracks, instances
//! and panoptic segments that nobody prompted.

use std::str::FromStr;

use super::protocol::Protocol;
use super::tubes::TubeProtocol;

/// What `--protocol` chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// J and F of objects ([`super::score`]).
    Masks(Protocol),
    /// HOTA, CLEAR MOT, identity ([`super::tracking`]).
    Tracks,
    /// Average precision of instances ([`super::tubes`]).
    Tubes(TubeProtocol),
    /// VPQ and STQ ([`super::panoptic`]).
    Panoptic,
}

impl Rules {
    /// Every word, in the order in which help texts list them.
    pub fn words() -> impl Iterator<Item = &'static str> {
        Protocol::ALL.into_iter().map(Protocol::as_str).chain(["hota", "ytvis", "ovis", "vipseg"])
    }
}

/// A word that is no protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown protocol `{0}`; known: {known}", known = Rules::words().collect::<Vec<_>>().join(", "))]
pub struct UnknownRules(String);

impl FromStr for Rules {
    type Err = UnknownRules;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word.trim().to_ascii_lowercase().as_str() {
            "hota" => Ok(Rules::Tracks),
            "ytvis" => Ok(Rules::Tubes(TubeProtocol::YtVis)),
            "ovis" => Ok(Rules::Tubes(TubeProtocol::Ovis)),
            "vipseg" => Ok(Rules::Panoptic),
            other => other.parse().map(Rules::Masks).map_err(|_| UnknownRules(word.to_string())),
        }
    }
}
