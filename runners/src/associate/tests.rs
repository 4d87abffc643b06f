//! Whole sequences against a scripted tracker: cases computed by an independent implementation of the rules (in Python, with
//! scipy's assignment), and hostile detections. `JETBENCH_TEST_ASSOCIATION` names another file of cases.

use std::collections::BTreeMap;
use std::convert::Infallible;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::detect::Detection;
use crate::frame::tight;
use crate::types::{FoundTracks, Mask};

type Rectangle = Option<[u32; 4]>;

#[derive(Deserialize)]
struct Cases {
    defaults: BTreeMap<String, f64>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    frames: u32,
    height: u32,
    width: u32,
    params: BTreeMap<String, f64>,
    objects: Vec<Vec<Entry>>,
    detections: BTreeMap<u32, Vec<Given>>,
    expected: Expected,
}

/// Where an object is on so many frames, or on one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Run(u32, Rectangle),
    One(Rectangle),
}

/// Box, score, class, and the object whose mask a track founded here has; `None`: the box's own pixels, standing still.
#[derive(Deserialize)]
#[serde(untagged)]
enum Given {
    Row(f64, f64, f64, f64, f64, u32, Option<usize>),
    Named {
        #[serde(rename = "box")]
        bbox: [f64; 4],
        score: f64,
        label: u32,
        follow: Option<usize>,
    },
}

#[derive(Deserialize)]
struct Expected {
    tracks: Vec<Track>,
    counts: BTreeMap<String, u32>,
}

/// Id, birth, end, confirmed, hits, score, class.
#[derive(Deserialize)]
#[serde(untagged)]
enum Track {
    Row(u32, u32, u32, bool, u32, f64, u32),
    Named { id: u32, birth: u32, end: u32, confirmed: bool, hits: u32, score: f64, label: u32 },
}

impl Given {
    fn parts(&self) -> (Detection, Option<usize>) {
        match *self {
            Given::Row(x0, y0, x1, y1, score, label, follow) => {
                (Detection { bbox: [x0, y0, x1, y1], score, label }, follow)
            }
            Given::Named { bbox, score, label, follow } => (Detection { bbox, score, label }, follow),
        }
    }
}

impl Track {
    fn parts(&self) -> (u32, u32, u32, bool, u32, f64, u32) {
        match *self {
            Track::Row(id, birth, end, confirmed, hits, score, label) => {
                (id, birth, end, confirmed, hits, score, label)
            }
            Track::Named { id, birth, end, confirmed, hits, score, label } => {
                (id, birth, end, confirmed, hits, score, label)
            }
        }
    }
}

/// A tracker whose masks are rectangles that a script names.
#[derive(Default)]
struct Script {
    size: (u32, u32),
    /// Per object and frame.
    objects: Vec<Vec<Rectangle>>,
    /// On this frame: what a box founds.
    here: Vec<([f64; 4], Option<usize>)>,
    frame: usize,
    /// Live tracks with what they follow and their mask on this frame.
    live: Vec<(u32, Result<usize, Rectangle>, Mask)>,
    /// Every id that was kept.
    ids: Vec<u32>,
    pending: Option<u32>,
}

impl Script {
    fn draw(&self, follows: Result<usize, Rectangle>) -> Mask {
        let rectangle = follows.map_or_else(|still| still, |object| self.objects[object][self.frame]);
        let mut mask = Mask::empty(self.size.0, self.size.1);
        if let Some([x0, y0, x1, y1]) = rectangle {
            (y0..y1).for_each(|y| (x0..x1).for_each(|x| mask.set(x, y)));
        }
        mask
    }

    fn follow(&mut self, frame: usize) {
        self.frame = frame;
        let drawn: Vec<Mask> = self.live.iter().map(|(_, follows, _)| self.draw(*follows)).collect();
        self.live.iter_mut().zip(drawn).for_each(|(track, mask)| track.2 = mask);
    }
}

impl Carrier for Script {
    type Error = Infallible;

    fn mask(&self, id: u32) -> &Mask {
        &self.live.iter().find(|track| track.0 == id).expect("only live tracks are asked for").2
    }

    fn bbox(&self, id: u32) -> Option<[f64; 4]> {
        tight(self.mask(id))
    }

    fn found(&mut self, id: u32, bbox: [f64; 4]) -> Result<(), Infallible> {
        assert!(self.pending.is_none() && !self.ids.contains(&id), "an id is given once");
        let (width, height) = self.size;
        assert!(bbox[0] >= 0.0 && bbox[1] >= 0.0 && bbox[2] <= width.into() && bbox[3] <= height.into());
        let follows = self.here.iter().find(|(at, _)| *at == bbox).and_then(|(_, follows)| *follows);
        let follows = follows.ok_or(Some(bbox.map(|edge| edge as u32)));
        let mask = self.draw(follows);
        self.live.push((id, follows, mask));
        self.pending = Some(id);
        Ok(())
    }

    fn keep(&mut self, id: u32) -> Result<(), Infallible> {
        assert_eq!(self.pending.take(), Some(id));
        self.ids.push(id);
        Ok(())
    }

    fn refuse(&mut self, id: u32) {
        assert_eq!(self.pending.take(), Some(id));
        self.live.pop();
    }

    fn end(&mut self, id: u32, _taken_back: bool) {
        assert!(self.pending.is_none());
        let before = self.live.len();
        self.live.retain(|track| track.0 != id);
        assert_eq!(self.live.len(), before - 1, "a track ends once");
    }
}

fn rules(params: &BTreeMap<String, f64>) -> Rules {
    let mut rules = Rules::default();
    for (name, &value) in params {
        let whole = value as u32;
        match name.as_str() {
            "detect_every" => rules.detect_every = whole,
            "score" => rules.detect_score = value,
            "new_score" => rules.new_score = value,
            "nms_iou" => rules.nms_iou = value,
            "match_iou" => rules.match_iou = value,
            "dup_iou" => rules.dup_iou = value,
            "probation" => rules.probation = whole,
            "keep_alive" => rules.keep_alive = whole,
            "max_absent" => rules.max_absent = whole,
            "max_tracks" => rules.max_tracks = whole,
            other => panic!("no rule has a number {other}"),
        }
    }
    rules
}

fn track(association: &mut Association, case: &Case) -> FoundTracks {
    let size = (case.width, case.height);
    let objects = case.objects.iter().map(|entries| {
        let spread = entries.iter().flat_map(|entry| match *entry {
            Entry::Run(frames, rectangle) => std::iter::repeat_n(rectangle, frames as usize),
            Entry::One(rectangle) => std::iter::repeat_n(rectangle, 1),
        });
        spread.collect()
    });
    let mut script = Script { size, objects: objects.collect(), ..Script::default() };
    for frame in 0..case.frames {
        script.follow(frame as usize);
        let given: Vec<_> = case.detections.get(&frame).into_iter().flatten().map(Given::parts).collect();
        let limits = [size.0, size.1, size.0, size.1].map(f64::from);
        let clipped = |bbox: [f64; 4]| std::array::from_fn(|i| bbox[i].clamp(0.0, limits[i]));
        script.here = given.iter().map(|(detection, follows)| (clipped(detection.bbox), *follows)).collect();
        let mut detections = given.into_iter().map(|(detection, _)| detection).collect();
        association.step(&mut script, &mut detections, size).unwrap();
    }
    association.finish()
}

#[test]
fn every_case_comes_out_as_by_the_reference() {
    let text = match std::env::var_os("JETBENCH_TEST_ASSOCIATION") {
        Some(path) => std::fs::read_to_string(path).unwrap(),
        None => include_str!("cases.json").to_string(),
    };
    let Cases { defaults, cases } = serde_json::from_str(&text).unwrap();
    assert!(!cases.is_empty());
    assert_eq!(rules(&defaults), Rules::default());
    for case in &cases {
        let mut association = Association::new(rules(&case.params));
        // The second time shows that nothing is left over from the first.
        for run in 0..2 {
            let FoundTracks { tracks, counts } = track(&mut association, case);
            let found: Vec<_> =
                tracks.iter().map(|t| (t.id, t.birth, t.end, t.confirmed, t.hits, t.score, t.label)).collect();
            let expected: Vec<_> = case.expected.tracks.iter().map(Track::parts).collect();
            assert_eq!(found, expected, "{}, run {run}", case.name);
            let count = |name: &str| case.expected.counts[name];
            assert_eq!(
                [counts.dropped, counts.refused, counts.unconfirmed, counts.ended_unsupported, counts.ended_absent],
                ["dropped", "refused", "unconfirmed", "ended_missed", "ended_absent"].map(count),
                "{}, run {run}",
                case.name
            );
            assert_eq!(counts.non_finite, 0, "{}", case.name);
        }
    }
}

/// Numbers as a broken detector gives them.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => -30.0..130.0,
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(0.0), Just(1e300)],
    ]
}

fn hostile() -> impl Strategy<Value = Vec<Detection>> {
    let score = prop_oneof![8 => 0.0..1.0, 1 => number()];
    let one = ((number(), number(), number(), 0.0..60.0), score, 0u32..3, any::<bool>());
    let detection = one.prop_map(|((x0, y0, x1, side), score, label, plain)| Detection {
        bbox: if plain { [x0, y0, x0 + side, y0 + side] } else { [x0, y0, x1, side] },
        score,
        label,
    });
    let many = prop_oneof![0usize..12, Just(300)];
    let detection = std::rc::Rc::new(detection);
    many.prop_flat_map(move |n| prop::collection::vec(detection.clone(), n))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn hostile_detections_break_no_rule(
        frames in prop::collection::vec(hostile(), 1..9),
        every in 0u32..4,
        most in 0u32..7,
        probation in 0u32..5,
    ) {
        let size = (100, 80);
        let rules = Rules { detect_every: every, max_tracks: most, probation, keep_alive: 3, ..Rules::default() };
        let run = || {
            let mut association = Association::new(rules);
            let mut script = Script { size, ..Script::default() };
            let mut broken = 0;
            for (frame, given) in frames.iter().enumerate() {
                script.follow(frame);
                let finite = |d: &&Detection| d.score.is_finite() && d.bbox.iter().all(|edge| edge.is_finite());
                broken += if association.looks() { given.len() - given.iter().filter(finite).count() } else { 0 };
                association.step(&mut script, &mut given.clone(), size).unwrap();
                assert!(script.live.len() <= most as usize);
            }
            let found = association.finish();
            assert_eq!(found.counts.non_finite as usize, broken);
            assert_eq!(found.tracks.iter().map(|t| t.id).collect::<Vec<_>>(), (1..=script.ids.len() as u32).collect::<Vec<_>>());
            for t in &found.tracks {
                assert!(t.birth <= t.end && t.end <= frames.len() as u32 && t.hits >= 1);
                assert!(t.score >= 0.5 && !(t.confirmed && t.birth == t.end), "{t:?}");
            }
            found
        };
        prop_assert_eq!(run(), run());
    }
}
