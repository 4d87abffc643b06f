//! Was all done that was planned? The one place that compares what a cell was to do with what it did: for a run, for one that is
//! taken up again, and for parts that are joined. A cell that did less is never `valid`, whatever its worker said.

use crate::dataset::{Dataset, LIVE};
use crate::results::note::{Reason, ReasonKind};
use crate::results::record::{CellRecord, RunRecord, SequenceRecord, Verdict};
use crate::text::plural;

/// What every cell of a run was to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    videos: Vec<PlannedVideo>,
    /// Over all videos, where their own numbers are not known.
    totals: Option<Size>,
}

/// One video of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PlannedVideo {
    name: String,
    size: Option<Size>,
}

/// Objects and frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    objects: usize,
    frames: usize,
}

impl Size {
    /// Of a video that was tracked; dropped frames were offered, too.
    fn of(sequence: &SequenceRecord) -> Size {
        Size { objects: sequence.objects.len(), frames: sequence.frames.len() + sequence.dropped.len() }
    }
}

impl Planned {
    /// The dataset of a plan; `looped`: frames per video where clips are looped.
    pub fn of_dataset(dataset: &Dataset, looped: Option<usize>) -> Planned {
        let videos = dataset.sequences.iter().map(|s| {
            let size = Size { objects: s.objects.len(), frames: looped.unwrap_or(s.frames.len()) };
            // How many frames a live source brings is known afterwards.
            PlannedVideo { name: s.name.clone(), size: Some(size).filter(|_| dataset.layout != LIVE) }
        });
        Planned { videos: videos.collect(), totals: None }
    }

    /// What a record says that its run was to do: the videos of its part by name, their objects and frames in all.
    pub fn of_record(record: &RunRecord) -> Planned {
        let data = &record.data;
        let own = |position: usize| record.origin.shard.is_none_or(|s| s.count > 0 && s.holds(position));
        let names = data.list.iter().enumerate().filter(|(position, _)| own(*position)).map(|(_, name)| name);
        let looped = record.settings.get("loop_frames").and_then(serde_json::Value::as_u64);
        let frames = looped.map_or(data.frames, |n| data.videos.saturating_mul(n as usize));
        let totals = Some(Size { objects: data.objects, frames }).filter(|_| !data.is_live());
        Planned { totals, ..Planned::of_names(names) }
    }

    /// Videos of which only the names are known.
    pub fn of_names<'a>(names: impl Iterator<Item = &'a String>) -> Planned {
        let videos = names.map(|name| PlannedVideo { name: name.clone(), size: None }).collect();
        Planned { videos, totals: None }
    }

    /// Frames that this video was to have, where that is known.
    pub fn frames(&self, video: &str) -> Option<usize> {
        self.videos.iter().find(|v| v.name == video)?.size.map(|size| size.frames)
    }

    /// Is this a planned video, whole?
    pub fn is_whole(&self, sequence: &SequenceRecord) -> bool {
        let planned = self.videos.iter().find(|v| v.name == sequence.video);
        planned.is_some_and(|v| v.size.is_none_or(|size| size == Size::of(sequence)))
    }

    /// What was done otherwise than planned; `None`: nothing.
    pub fn shortfall(&self, done: &[SequenceRecord]) -> Option<Reason> {
        let mut faults = Vec::new();
        let times = |name: &str| done.iter().filter(|s| s.video == name).count();
        let missing: Vec<&str> = self.videos.iter().map(|v| v.name.as_str()).filter(|n| times(n) == 0).collect();
        if !missing.is_empty() {
            let (all, shown) = (self.videos.len(), missing[..missing.len().min(3)].join(", "));
            let more = if missing.len() > 3 { ", …" } else { "" };
            faults.push(format!("{} of {} finished, without {shown}{more}", all - missing.len(), videos(all)));
        }
        for video in &self.videos {
            let Some(sequence) = done.iter().find(|s| s.video == video.name) else { continue };
            if times(&video.name) > 1 {
                faults.push(format!("video {} is there {} times", video.name, times(&video.name)));
            }
            if let Some(size) = video.size {
                faults.extend(less(&format!("video {}: ", video.name), size, Size::of(sequence)));
            }
            faults.extend(sequence.live.as_ref().and_then(|live| live.cut.clone()));
        }
        // Records from before lists were kept have no names.
        let unplanned = done.iter().find(|s| !self.videos.is_empty() && !self.videos.iter().any(|v| v.name == s.video));
        faults.extend(unplanned.map(|s| format!("video {} was not planned", s.video)));
        if let Some(totals) = self.totals.filter(|_| missing.is_empty()) {
            let sum = done
                .iter()
                .map(Size::of)
                .fold(Size::default(), |a, b| Size { objects: a.objects + b.objects, frames: a.frames + b.frames });
            faults.extend(less("", totals, sum));
        }
        let more = faults.len().saturating_sub(3);
        faults.truncate(3);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let text = format!("incomplete: {}{more}", faults.join("; "));
        (!faults.is_empty()).then(|| Reason::new(ReasonKind::Incomplete, text))
    }

    /// The verdict of a cell in the light of what it did: one that did not do all is not valid. A cell that was stopped in its
    /// warm-up says so itself.
    pub fn judge(&self, verdict: Verdict, done: &[SequenceRecord]) -> Verdict {
        let stopped = |reasons: &[Reason]| done.is_empty() && reasons.iter().any(|r| r.kind == ReasonKind::WarmUp);
        match (verdict, self.shortfall(done)) {
            (Verdict::Valid, Some(reason)) => Verdict::Invalid { reasons: vec![reason] },
            (Verdict::Invalid { mut reasons }, Some(reason)) if !stopped(&reasons) => {
                if !reasons.contains(&reason) {
                    reasons.insert(0, reason);
                }
                Verdict::Invalid { reasons }
            }
            (verdict, _) => verdict,
        }
    }

    /// [`Planned::judge`] on a cell as it is, with its repeats as far as their sequences are kept.
    pub fn judged(&self, cell: &CellRecord) -> Verdict {
        let others = cell.repeats.iter().map(|r| &r.sequences).filter(|sequences| !sequences.is_empty());
        others.fold(self.judge(cell.verdict.clone(), &cell.sequences), |verdict, done| self.judge(verdict, done))
    }
}

fn videos(n: usize) -> String {
    plural(n, "video", "videos")
}

/// Objects and frames that are not as many as planned.
fn less(of: &str, planned: Size, done: Size) -> Option<String> {
    let mut faults = Vec::new();
    if done.frames != planned.frames {
        faults.push(format!("{} of {}", done.frames, plural(planned.frames, "frame", "frames")));
    }
    if done.objects != planned.objects {
        faults.push(format!("{} of {}", done.objects, plural(planned.objects, "object", "objects")));
    }
    (!faults.is_empty()).then(|| format!("{of}{}", faults.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::record::{FrameRecord, LiveRecord};

    fn planned() -> Planned {
        let video = |name: &str| PlannedVideo { name: name.into(), size: Some(Size { objects: 0, frames: 3 }) };
        Planned { videos: vec![video("a"), video("b")], totals: None }
    }

    fn done(video: &str, frames: usize, dropped: usize) -> SequenceRecord {
        let dropped = (0..dropped as u32).collect();
        SequenceRecord {
            video: video.into(),
            frames: vec![FrameRecord::default(); frames],
            dropped,
            ..Default::default()
        }
    }

    #[test]
    fn less_than_planned_is_never_valid() {
        let judged = |done: &[SequenceRecord]| planned().judge(Verdict::Valid, done).reasons();
        assert_eq!(judged(&[done("a", 3, 0), done("b", 1, 2)]), "", "dropped frames were offered");
        assert_eq!(judged(&[done("a", 3, 0)]), "incomplete: 1 of 2 videos finished, without b");
        assert_eq!(judged(&[done("a", 3, 0), done("b", 2, 0)]), "incomplete: video b: 2 of 3 frames");
        assert_eq!(
            judged(&[done("a", 3, 0), done("b", 3, 0), done("a", 3, 0)]),
            "incomplete: video a is there 2 times"
        );
        assert_eq!(
            judged(&[done("a", 3, 0), done("c", 3, 0)]),
            "incomplete: 1 of 2 videos finished, without b; video c was not planned"
        );
        let mut with_object = done("b", 3, 0);
        with_object.objects = vec![];
        assert!(planned().is_whole(&with_object));
        let totals = Planned { totals: Some(Size { objects: 1, frames: 6 }), ..planned() };
        assert_eq!(
            totals.judge(Verdict::Valid, &[done("a", 3, 0), with_object]).reasons(),
            "incomplete: 0 of 1 object"
        );
    }

    #[test]
    fn a_live_source_that_was_cut_off_is_incomplete_however_many_frames_came() {
        let live = Planned::of_names([String::from("live")].iter());
        let came = |cut: Option<&str>| {
            let live = Some(LiveRecord { cut: cut.map(String::from), ..LiveRecord::default() });
            SequenceRecord { live, ..done("live", 90, 10) }
        };
        assert_eq!(live.judge(Verdict::Valid, &[came(None)]), Verdict::Valid);
        let cut = live.judge(Verdict::Valid, &[came(Some("the source was cut off after 3.0 of 20 s"))]);
        assert_eq!(cut.reasons(), "incomplete: the source was cut off after 3.0 of 20 s");
    }

    #[test]
    fn other_verdicts_keep_their_reasons() {
        let warm_up = Verdict::Invalid { reasons: vec![Reason::new(ReasonKind::WarmUp, "warm-up: empty mask")] };
        assert_eq!(planned().judge(warm_up.clone(), &[]), warm_up, "it was stopped");
        let judged = planned().judge(warm_up, &[done("a", 3, 0)]);
        assert_eq!(judged.reasons(), "incomplete: 1 of 2 videos finished, without b; warm-up: empty mask");
        assert!(!judged.is_final(), "the rest can be done");
        let failed = Verdict::Failed { error: "x".into(), phase: "track".into() };
        assert_eq!(planned().judge(failed.clone(), &[]), failed);
    }
}
