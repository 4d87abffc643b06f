//! What do spans of time and sizes mean, as flags and config files write them?

use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// A span of time: `90` (seconds), `90s`, `30m`, `1h 30m`, `1d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeSpan(pub Duration);

impl FromStr for TimeSpan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let span = match text.parse() {
            Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
            // To humantime `M` is a month, to whoever waits `30M` it is a slip.
            Err(_) => humantime::parse_duration(text).ok().filter(|_| !text.contains('M')),
        };
        span.filter(|span| span.as_secs_f64() < 1e9)
            .map(TimeSpan)
            .ok_or_else(|| format!("`{text}` is no span of time; expected a number with s, m, h or d, such as 30m"))
    }
}

impl From<TimeSpan> for String {
    fn from(span: TimeSpan) -> String {
        humantime::format_duration(span.0).to_string()
    }
}

/// A size in bytes: `900MiB`, `1.5GiB`, `2GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteCount(pub u64);

impl FromStr for ByteCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        // A number alone would be bytes, which nobody means.
        let size = text.parse::<ByteSize>().ok().filter(|_| text.ends_with(|c: char| c.is_ascii_alphabetic()));
        size.map(|size| size.as_u64())
            .filter(|bytes| (1..1_000_000_000_000_000).contains(bytes))
            .map(ByteCount)
            .ok_or_else(|| format!("`{text}` is no size; a number with a unit is needed, e.g. 900MiB or 1.5GiB"))
    }
}

impl From<ByteCount> for String {
    fn from(size: ByteCount) -> String {
        format!("{}B", size.0)
    }
}

impl TryFrom<String> for TimeSpan {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<String> for ByteCount {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_are_read() {
        let seconds = |text: &str| text.parse::<TimeSpan>().map(|span| span.0.as_secs_f64());
        for (text, expected) in [
            ("90", 90.0),
            ("90s", 90.0),
            ("30m", 1800.0),
            ("30min", 1800.0),
            (" 2h ", 7200.0),
            ("1.5h", 5400.0),
            ("0.5", 0.5),
            ("1h 30m", 5400.0),
            ("1d", 86400.0),
            ("3 weeks", 1_814_400.0),
            ("0", 0.0),
        ] {
            assert_eq!(seconds(text), Ok(expected));
            let again = String::from(text.parse::<TimeSpan>().unwrap());
            assert_eq!(seconds(&again), Ok(expected), "{again} is what {text} was");
        }
        for bad in ["", "m", "-1s", "-1", "soon", "30M", "1e99", "99999999999s", "NaN", "inf"] {
            assert!(seconds(bad).unwrap_err().contains("such as 30m"), "{bad}");
        }
    }

    #[test]
    fn sizes_have_units() {
        let bytes = |text: &str| text.parse::<ByteCount>().map(|size| size.0);
        for (text, expected) in
            [("900MiB", 900 << 20), (" 1.5 gib ", 3 << 29), ("2GB", 2_000_000_000), ("5kb", 5_000), ("1TiB", 1 << 40)]
        {
            assert_eq!(bytes(text), Ok(expected));
            assert_eq!(bytes(&String::from(text.parse::<ByteCount>().unwrap())), Ok(expected));
        }
        for bad in ["", "900", "9.", "GiB", "-1GiB", "infGiB", "0MiB", "nanMB", "5PB", "1e99GB"] {
            assert!(bytes(bad).unwrap_err().contains("900MiB"), "{bad}");
        }
    }
}
