//! How much does a comparison with a reference show? Constants agree whatever a graph computes: the mask and pointer of an
//! object that counts as absent are such, and two prompts that both start so give one track. So what was compared is
//! counted, and a comparison without enough of it is weak, not passed.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::types::PromptKind;

/// Tracked frames with the object that every kind of prompt must have.
pub const LEAST_WITH: usize = 4;
/// Tracked frames without it.
pub const LEAST_WITHOUT: usize = 2;

/// What was compared, all forms together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Compared {
    /// Tracks: one object from one kind of prompt, in one form of the graphs.
    pub tracks: usize,
    /// Frames of all tracks.
    pub frames: usize,
    /// Tracked frames (behind the prompted one) on which the reference has the object: only there is anything but a
    /// constant compared.
    pub with_object: usize,
    /// Tracked frames without it.
    pub without_object: usize,
    /// Mask logits.
    pub logits: u64,
    /// Mask pixels.
    pub pixels: u64,
    /// Graphs that ran, each with the forms in which it did.
    pub graphs: BTreeMap<String, Vec<String>>,
}

impl Compared {
    /// In words.
    pub fn words(&self) -> String {
        let graphs: Vec<String> =
            self.graphs.iter().map(|(graph, forms)| format!("{graph} ({})", forms.join(", "))).collect();
        format!(
            "{} tracks, {} frames ({} tracked with the object, {} without), {} logits, {} mask pixels; graphs: {}",
            self.tracks,
            self.frames,
            self.with_object,
            self.without_object,
            self.logits,
            self.pixels,
            graphs.join(", ")
        )
    }
}

/// What the tracks of one kind of prompt show.
#[derive(Clone, Debug, Default)]
struct OfKind {
    with_object: usize,
    without_object: usize,
    /// Tracks whose prompted frame has no object.
    absent_at_once: Vec<String>,
}

/// One track of the reference, as far as it was compared.
pub(super) struct Track<'a> {
    pub(super) place: String,
    pub(super) kind: PromptKind,
    /// Object scores of the frames that were compared.
    pub(super) scores: &'a [f64],
    /// How many of those frames, from the first on, the reference has mask logits of.
    pub(super) frames: usize,
    /// Their mask logits, without those of the prompted frame.
    pub(super) tracked: &'a [f32],
}

/// Collects what a reference shows.
#[derive(Default)]
pub(super) struct Evidence {
    kinds: BTreeMap<PromptKind, OfKind>,
    /// Clip and object with two kinds that give one track.
    same: Vec<String>,
}

impl Evidence {
    /// Adds all tracks of one object of one clip.
    pub(super) fn add(&mut self, tracks: &[Track<'_>]) {
        for track in tracks {
            let of = self.kinds.entry(track.kind).or_default();
            let tracked = track.scores.get(1..).unwrap_or_default();
            // A frame with the object shows something by its logits, one without it by its score.
            let with = |scores: &[f64]| scores.iter().filter(|score| **score > 0.0).count();
            of.with_object += with(&tracked[..track.frames.saturating_sub(1).min(tracked.len())]);
            of.without_object += tracked.len() - with(tracked);
            if track.scores.first().is_none_or(|score| *score <= 0.0) {
                of.absent_at_once.push(track.place.clone());
            }
        }
        for (i, a) in tracks.iter().enumerate() {
            for b in &tracks[i + 1..] {
                if a.kind != b.kind && alike(a.tracked, b.tracked) {
                    self.same.push(format!("{} and {}", a.place, b.kind));
                }
            }
        }
    }

    /// What is missing, in words, for a pack that takes `kinds`; nothing when the reference is enough.
    pub(super) fn missing(&self, kinds: &[PromptKind]) -> Vec<String> {
        let mut missing = Vec::new();
        for kind in kinds {
            let Some(of) = self.kinds.get(kind) else {
                missing.push(format!("no track from a prompt of kind {kind}, which the pack takes"));
                continue;
            };
            for (name, found, least) in
                [("with", of.with_object, LEAST_WITH), ("without", of.without_object, LEAST_WITHOUT)]
            {
                if found < least {
                    missing
                        .push(format!("{kind}: {found} tracked frames {name} the object, at least {least} are needed"));
                }
            }
            for place in &of.absent_at_once {
                missing
                    .push(format!("{place}: the object is absent on the prompted frame, whose outputs are constants"));
            }
        }
        missing.extend(self.same.iter().map(|pair| format!("{pair}: one track, so the prompt has no part in it")));
        missing
    }
}

/// Are the logits of the frames that both have the same?
fn alike(a: &[f32], b: &[f32]) -> bool {
    let both = a.len().min(b.len());
    a[..both] == b[..both]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [PromptKind; 2] = [PromptKind::Points, PromptKind::Bbox];

    fn missing(points: &[f64], bbox: &[f64], same: bool) -> Vec<String> {
        missing_with_logits(points, bbox, bbox.len(), same)
    }

    /// `frames`: of the box's track that have logits.
    fn missing_with_logits(points: &[f64], bbox: &[f64], frames: usize, same: bool) -> Vec<String> {
        let logits = |n: usize, value: f32| vec![value; 2 * n];
        let (a, b) = (logits(points.len() - 1, 1.0), logits(frames - 1, if same { 1.0 } else { 2.0 }));
        let track = |kind: PromptKind, scores, frames, tracked| Track {
            place: format!("c {kind}"),
            kind,
            scores,
            frames,
            tracked,
        };
        let mut evidence = Evidence::default();
        evidence.add(&[track(PromptKind::Points, points, points.len(), &a), track(PromptKind::Bbox, bbox, frames, &b)]);
        evidence.missing(&KINDS)
    }

    #[test]
    fn too_little_is_named() {
        let good = [1.0, 1.0, 1.0, 1.0, 1.0, -1.0, -1.0];
        assert_eq!(missing(&good, &good, false), Vec::<String>::new());
        for (points, bbox, same, said) in [
            (
                &[-1.0, 1.0, 1.0, 1.0, 1.0, -1.0, -1.0][..],
                &good[..],
                false,
                "c points: the object is absent on the prompted",
            ),
            (
                &[1.0, 1.0, -1.0, 1.0, 1.0, -1.0, -1.0],
                &good,
                false,
                "points: 3 tracked frames with the object, at least 4",
            ),
            (
                &good,
                &[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0],
                false,
                "bbox: 1 tracked frames without the object, at least 2",
            ),
            (&good, &good, true, "c points and bbox: one track"),
        ] {
            let found = missing(points, bbox, same);
            assert!(found.len() == 1 && found[0].starts_with(said), "{found:?} does not say {said:?}");
        }
        assert_eq!(missing_with_logits(&good, &good, 5, false), Vec::<String>::new());
        for (frames, same, said) in [
            (4, false, "bbox: 3 tracked frames with the object, at least 4"),
            (5, true, "c points and bbox: one track"),
        ] {
            let found = missing_with_logits(&good, &good, frames, same);
            assert!(found.len() == 1 && found[0].starts_with(said), "{found:?} does not say {said:?}");
        }
        let found = Evidence::default().missing(&KINDS);
        assert!(found.len() == 2 && found[1].contains("no track from a prompt of kind bbox"), "{found:?}");
    }
}
