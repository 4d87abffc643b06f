//! What may be asked of a live source? Its frames come once, so whatever would need them again is refused, with the reason.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use jetbench_runners::types::PromptKind;

use crate::cli::RunArgs;
use crate::dataset::live::{Address, Live, LiveKind, PipeFormat, piped, probe};
use crate::dataset::{FFMPEG, MAX_PIXELS, MAX_SIDE};
use crate::exit::Error;
use crate::plan::overlays::Overlays;
use crate::plan::scenario::Scenario;
use crate::plan::settings::Settings;

/// Longest wait for the first frame, seconds.
const FIRST: f64 = 30.0;
/// Longest silence of a running source, seconds.
const SILENCE: f64 = 10.0;

/// Raw frames on a pipe: interleaved RGB, 8 bits per channel, of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawFrames {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

impl fmt::Display for RawFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rgb24:{}x{}", self.width, self.height)
    }
}

impl FromStr for RawFrames {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let size = word.strip_prefix("rgb24:").and_then(|size| size.split_once('x'));
        let size = size.and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
        let (width, height) =
            size.ok_or_else(|| format!("`{word}`: rgb24:WIDTHxHEIGHT is needed, as in rgb24:640x360"))?;
        fits(width, height)
            .then_some(RawFrames { width, height })
            .ok_or_else(|| format!("frames of {width}x{height} are not read"))
    }
}

fn fits(width: u32, height: u32) -> bool {
    let side = 1..=MAX_SIDE;
    side.contains(&width) && side.contains(&height) && u64::from(width) * u64::from(height) <= MAX_PIXELS
}

/// How long a run with these settings waits for the first frame, and then for another, seconds; its own time limits may be shorter.
pub(crate) fn patience_s(settings: &Settings) -> (f64, f64) {
    (FIRST.min(settings.load_timeout_s), SILENCE.min(settings.event_timeout_s))
}

/// The live source that the flags name, and what is known of it once its first frame or header is there; `None`: they name none.
///
/// # Errors
/// A flag that does not go with it; a source that does not start.
pub(super) fn find(args: &RunArgs, sharded: bool) -> Result<Option<Live>, Error> {
    let address = match args.data.as_deref().and_then(Address::of) {
        Some(address) => address.map_err(|what| Error::Usage(format!("--data {what}")))?,
        None => return only_live(args).map(|()| None),
    };
    let kind = address.kind;
    let shown = address.shown();
    allowed(args, kind, sharded).map_err(|what| Error::Usage(format!("--data {shown}: {what}")))?;
    let seconds = args.seconds;
    let patience = Duration::from_secs_f64(FIRST.min(args.load_timeout.unwrap_or(FIRST).max(0.0)));
    let (format, (width, height)) = match kind {
        LiveKind::Pipe => {
            let found = piped(args.raw.map(|raw| (raw.width, raw.height)), patience)?;
            (found.format, found.size)
        }
        _ => (PipeFormat::Ppm, probe(Path::new(FFMPEG), &address, args.fps, patience)?),
    };
    Ok(Some(Live { kind, format, width, height, seconds, address: address.whole }))
}

/// Flags that only a live source has.
fn only_live(args: &RunArgs) -> Result<(), Error> {
    let said = [("--seconds", args.seconds.is_some()), ("--raw", args.raw.is_some())];
    match said.iter().find(|(_, said)| *said) {
        Some((flag, _)) => Err(Error::Usage(format!(
            "{flag} is for live sources: --data rtsp://…, udp://…, /dev/videoN or `-`; videos end by themselves, or with --limit-frames"
        ))),
        None => Ok(()),
    }
}

/// Do these flags go with a live source?
fn allowed(args: &RunArgs, kind: LiveKind, sharded: bool) -> Result<(), String> {
    const ONCE: &str = "a live source gives its frames once";
    let several = |list: usize| list > 1;
    let prompted =
        args.prompts.is_some() || !args.corners.is_empty() || args.clicks.iter().any(|c| c.parse::<i128>().is_err());
    let overlays = args.overlays.is_some_and(|overlays| overlays != Overlays::Off);
    let scenario = args.scenario.is_some_and(|scenario| scenario != Scenario::Realtime);
    // A tag that names no kind of prompt may name a detector.
    let kinds = PromptKind::ALL.map(|kind| format!("_{kind}"));
    let named = tags(args).any(|tag| kinds.iter().any(|kind| tag.ends_with(kind)));
    let models = tags(args).count();
    let refused = [
        (
            several(models) || several(args.dtype.len()) || several(args.device.len()),
            format!("{ONCE}, so only one cell can have them; name one model, one precision and one device"),
        ),
        (args.repeat.is_some_and(|n| n.get() > 1), format!("{ONCE}, so a cell cannot be repeated on them; leave out --repeat")),
        (args.if_changed == Some(true), format!("{ONCE}, so no earlier run has measured them; leave out --if-changed")),
        (sharded, "a live source has no parts; leave out --shard (and JETBENCH_SHARDS)".to_string()),
        (args.layout.is_some(), "a live source has no layout; leave out --layout".to_string()),
        (
            args.limit_frames.is_some() || args.limit_videos.is_some() || args.loop_frames.is_some(),
            "a live source ends with --seconds; leave out --limit-frames, --limit-videos and --loop-frames".to_string(),
        ),
        (
            overlays,
            "overlays are drawn on the frames after tracking, and a live source's frames are not kept; leave out --overlays \
             (--save-masks keeps the masks)"
                .to_string(),
        ),
        (args.backward == Some(true), format!("{ONCE}, so they cannot be tracked backward; leave out --backward")),
        (scenario, "a live source is tracked as its frames come, which is --scenario realtime; leave out --scenario".to_string()),
        (
            !prompted && named,
            "a live source has no masks to make prompts from; say where the objects are with --clicks \"1 320,180\", --box or --prompts"
                .to_string(),
        ),
        (args.raw.is_some() && kind != LiveKind::Pipe, "--raw is for frames on a pipe (--data -)".to_string()),
        (
            args.seconds.is_none() && kind != LiveKind::Pipe,
            "this source does not end by itself; say --seconds N".to_string(),
        ),
    ];
    refused.into_iter().find(|(refused, _)| *refused).map_or(Ok(()), |(_, what)| Err(what))
}

fn tags(args: &RunArgs) -> impl Iterator<Item = &str> {
    args.models.iter().flat_map(|word| word.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

/// Is this, out of a record, something that flags could have said?
pub(super) fn check(live: &Live) -> Result<(), Error> {
    let seconds = live.seconds.is_none_or(|s| s > 0.0 && s < 1e6);
    match seconds && fits(live.width, live.height) {
        true => Ok(()),
        false => Err(Error::Usage("--seconds: a positive number of seconds below 1,000,000 is needed".to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_raw_frames_is_read_and_bounded() {
        assert_eq!("rgb24:640x360".parse(), Ok(RawFrames { width: 640, height: 360 }));
        for word in ["rgb24", "640x360", "rgb24:640", "rgb24:-1x3", "yuv420p:640x360", "rgb24:0x9", "rgb24:9x99999999"]
        {
            assert!(word.parse::<RawFrames>().is_err(), "{word}");
        }
    }
}
