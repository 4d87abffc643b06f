//! Which objects of a frame share its pixels among them, where panoptic segments are asked for?

use std::collections::BTreeMap;

use crate::frame::{Candidate, Contest, Way};
use crate::host::settings::SessionSettings;
use crate::manifest::panoptic::PanopticSpec;
use crate::pack::Pack;
use crate::runner::RunnerError;
use crate::types::{Mask, OpenReport, OpenRequest};

/// Refuses panoptic segments where there can be none: `why`.
///
/// # Errors
/// [`RunnerError::Usage`] where they are asked for, or an option cannot be read.
pub fn refuse(request: &OpenRequest, why: &str) -> Result<(), RunnerError> {
    match SessionSettings::of(request)?.panoptic() {
        true => Err(RunnerError::Usage(format!("option panoptic=on: {why}"))),
        false => Ok(()),
    }
}

/// The rules of a pack's panoptic segments, and what shares frames out.
pub struct Panoptic {
    rules: PanopticSpec,
    contest: Contest,
}

impl Panoptic {
    /// By the rules of a manifest.
    pub fn new(rules: PanopticSpec) -> Panoptic {
        Panoptic { rules, contest: Contest::default() }
    }

    /// Of a pack, where its settings ask for panoptic segments; the report then says by which rules they are made, with `score_of`, what an
    /// object's score is.
    pub fn of(pack: &Pack, settings: &SessionSettings, score_of: &str, report: &mut OpenReport) -> Option<Panoptic> {
        let rules = pack.manifest.segmenter.as_ref().filter(|_| settings.panoptic())?.panoptic.clone();
        report.notes.push(format!(
            "panoptic segments: a pixel is that of the object with the largest product of score and mask probability, where that probability \
             is 0.5 or more; objects with a score above {} take part ({score_of}), and one that wins less than {} of its own mask's pixels has none",
            rules.score, rules.overlap
        ));
        Some(Panoptic::new(rules))
    }

    /// The score above which an object takes part.
    pub fn limit(&self) -> f64 {
        self.rules.score
    }

    /// Does an object with these class logits, "no object" last, and this score, the probability of its best class, take part?
    pub fn takes(&self, logits: impl Iterator<Item = f64>, score: f64) -> bool {
        let logits: Vec<f64> = logits.collect();
        let object = logits.split_last().is_some_and(|(none, classes)| classes.iter().any(|logit| logit >= none));
        object && score > self.rules.score
    }

    /// As [`Contest::share_out`], by the pack's rules, among numbered candidates, in masks that are taken from `spare` as long as it has some.
    pub fn segments<'a>(
        &mut self,
        way: Way,
        candidates: impl Iterator<Item = (u32, Candidate<'a>)>,
        spare: &mut Vec<Mask>,
    ) -> BTreeMap<u32, Mask> {
        let (numbers, candidates): (Vec<u32>, Vec<Candidate<'a>>) = candidates.unzip();
        let mut masks: Vec<Mask> = numbers.iter().map(|_| spare.pop().unwrap_or_default()).collect();
        self.contest.share_out(way, self.rules.overlap, &candidates, &mut masks);
        numbers.into_iter().zip(masks).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::follow::sureness;
    use crate::segment::answer::Answers;
    use crate::segment::contract::Sizes;
    use crate::types::Frame;

    #[test]
    fn what_is_likelier_no_object_or_too_unsure_takes_no_part() {
        let takes = |score: f64, logits: &[f64]| {
            let rules = PanopticSpec { score: 0.3, ..PanopticSpec::default() };
            Panoptic::new(rules).takes(logits.iter().copied(), score)
        };
        assert!(takes(0.31, &[1.0, 2.0, 1.5]));
        assert!(!takes(0.3, &[1.0, 2.0, 1.5]), "above means above");
        assert!(takes(0.4, &[1.0, 2.0, 2.0]), "the first of equals is a class");
        assert!(!takes(0.4, &[1.0, 2.0, 2.1]));
    }
    /// Logits of a case, which are in hundredths.
    fn hundredths(rows: &Value) -> Vec<f32> {
        let row = |row: &Value| {
            row.as_array().unwrap().iter().map(|v| v.as_i64().unwrap() as f32 / 100.0).collect::<Vec<_>>()
        };
        rows.as_array().unwrap().iter().flat_map(row).collect()
    }

    fn pair(value: &Value) -> [u32; 2] {
        [0, 1].map(|i| value[i].as_u64().unwrap() as u32)
    }

    /// Are these the pixels of the runs, those that are not kept first?
    fn assert_kept(mask: &Mask, runs: &Value, what: &str) {
        let runs: Vec<u64> = runs.as_array().unwrap().iter().map(|run| run.as_u64().unwrap()).collect();
        let kept = runs.iter().zip([false, true].into_iter().cycle());
        let wanted: Vec<bool> = kept.flat_map(|(run, kept)| std::iter::repeat_n(kept, *run as usize)).collect();
        for (y, x) in (0..mask.height()).flat_map(|y| (0..mask.width()).map(move |x| (y, x))) {
            let at = (y * mask.width() + x) as usize;
            assert_eq!(mask.get(x, y), wanted.get(at).is_some_and(|kept| *kept), "{what}: column {x}, row {y}");
        }
    }

    /// scripts/panoptic_cases.py has run the published functions on the same logits.
    #[test]
    fn segments_are_those_of_the_published_post_processing() {
        let cases: Value = serde_json::from_str(include_str!("panoptic_cases.json")).unwrap();
        let rules = PanopticSpec::default();
        assert_eq!((cases["score"].as_f64(), cases["overlap"].as_f64()), (Some(rules.score), Some(rules.overlap)));
        let mut kept = [0; 2];
        for (number, case) in cases["cases"].as_array().unwrap().iter().enumerate() {
            let what = |object: usize| format!("case {number}, query {object}");
            let (classes, masks) = (hundredths(&case["classes"]), hundredths(&case["masks"]));
            let (logits, frame) = (pair(&case["logits"]).map(|side| side as usize), pair(&case["frame"]));
            let wanted = case["kept"].as_array().unwrap();
            kept[usize::from(case["of"] == "videomt")] += wanted.iter().filter(|runs| **runs != json!([])).count();
            let count = wanted.len();
            let wide = classes.len() / count;
            if case["of"] == "videomt" {
                let sizes = Sizes { image: 32, queries: count, channels: 1, classes: wide - 1, side: logits[0] };
                let mut answers = Answers::new(sizes, 0.5, false, Some(Panoptic::new(rules.clone())));
                let found =
                    answers.frame(&classes, &masks, Frame { width: frame[0], height: frame[1], rgb: &[] }, None);
                let shown: Vec<usize> = found.objects.iter().map(|o| o.object as usize - 1).collect();
                assert_eq!(shown, (0..count).filter(|q| wanted[*q] != json!([])).collect::<Vec<_>>(), "case {number}");
                found.objects.iter().zip(&shown).for_each(|(o, q)| assert_kept(&o.mask, &wanted[*q], &what(*q)));
                continue;
            }
            let mut panoptic = Panoptic::new(rules.clone());
            let way = Way { logits, input: pair(&case["input"]), taken: pair(&case["taken"]), frame };
            let mut candidates = Vec::new();
            for (track, (row, logits)) in
                classes.chunks_exact(wide).zip(masks.chunks_exact(logits[0] * logits[1])).enumerate()
            {
                let score = sureness(row);
                if panoptic.takes(row.iter().map(|v| f64::from(*v)), score) {
                    candidates.push((track as u32, Candidate { score: score as f32, logits }));
                }
            }
            let segments = panoptic.segments(way, candidates.into_iter(), &mut Vec::new());
            for (track, runs) in wanted.iter().enumerate() {
                match segments.get(&(track as u32)) {
                    Some(segment) => assert_kept(segment, runs, &what(track)),
                    None => assert_eq!(*runs, json!([]), "{}", what(track)),
                }
            }
        }
        assert!(kept.iter().all(|kept| *kept >= 6), "{kept:?}");
    }
}
