//! How is a flag read that is a switch or a word? `true` and `false` stand for words, as in records and config files from before
//! the words were there.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Reads such a flag; `expected` says in an error what it can be.
pub(super) fn read<'de, D, T>(deserializer: D, expected: &str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        Switch(bool),
        Word(String),
    }
    let word = match Said::deserialize(deserializer).map_err(|_| D::Error::custom(format!("expected {expected}")))? {
        Said::Switch(on) => on.to_string(),
        Said::Word(word) => word,
    };
    word.parse().map_err(D::Error::custom)
}
