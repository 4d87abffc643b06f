//! Prompted objects over tracks that a script says, on frames of 20 x 4 pixels.

use super::*;
use crate::types::{AssociationCounts, Click, Dtype, FoundTracks};

const FRAME: Frame<'static> = Frame { width: 20, height: 4, rgb: &[0; 240] };

/// Per frame the tracks with their columns; a track that is not named lives no more.
struct Script {
    frames: Vec<Vec<(u32, std::ops::Range<u32>)>>,
    at: usize,
    capabilities: Capabilities,
    report: OpenReport,
    /// The tracks whose masks were asked for, frame by frame; `None`: all.
    asked: std::rc::Rc<std::cell::RefCell<Vec<Option<Vec<u32>>>>>,
    /// This track gives no numbers.
    broken: Option<u32>,
}

impl Runner for Script {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
    fn precision(&self) -> Vec<StagePrecision> {
        Vec::new()
    }
    fn open_report(&self) -> &OpenReport {
        &self.report
    }
    fn reset(&mut self) {
        self.at = 0;
    }
    fn step(&mut self, frame: Frame<'_>, _: &[Prompt]) -> Result<FrameMasks, RunnerError> {
        self.find(frame, None)
    }
    fn take_tracks(&mut self) -> Option<FoundTracks> {
        let counts = AssociationCounts { dropped: 3, ..AssociationCounts::default() };
        Some(FoundTracks { tracks: Vec::new(), counts })
    }
    fn take_stage_times(&mut self) -> StageTimes {
        StageTimes::default()
    }
}

impl Finds for Script {
    fn find(&mut self, frame: Frame<'_>, of: Option<&[u32]>) -> Result<FrameMasks, RunnerError> {
        self.asked.borrow_mut().push(of.map(<[u32]>::to_vec));
        let there = self.frames.get(self.at).cloned().unwrap_or_default();
        self.at += 1;
        let wanted = there.into_iter().filter(|(track, _)| of.is_none_or(|of| of.contains(track)));
        let object = |(track, columns): (u32, std::ops::Range<u32>)| {
            let mask = Mask::from_fn(frame.width, frame.height, |x, _| columns.contains(&x));
            let (claimed, finite) = (!mask.is_empty(), self.broken != Some(track));
            ObjectMask { object: track, mask, claimed, object_score: 1.0, predicted_iou: f32::NAN, finite }
        };
        Ok(FrameMasks { objects: wanted.map(object).collect() })
    }
}

/// A frame's tracks: number, first column, and one behind the last.
type Tracks<'a> = &'a [(u32, u32, u32)];

fn script(frames: &[Tracks<'_>]) -> Script {
    let of = |frame: &Tracks<'_>| frame.iter().map(|(track, from, to)| (*track, *from..*to)).collect();
    Script {
        frames: frames.iter().map(of).collect(),
        at: 0,
        capabilities: also_prompted(Capabilities {
            prompts: Vec::new(),
            dtypes: vec![Dtype::Fp32],
            options: Vec::new(),
            max_objects: Some(2),
            max_points: 0,
            works_ahead: false,
            refused: Default::default(),
        }),
        report: OpenReport::default(),
        asked: Default::default(),
        broken: None,
    }
}

fn prompted(frames: &[Tracks<'_>]) -> Prompted<Script> {
    Prompted::new(script(frames), false, true)
}

fn mask(object: u32, from: u32, to: u32) -> Prompt {
    Prompt { object, shape: PromptShape::Mask(Mask::from_fn(20, 4, |x, _| (from..to).contains(&x))) }
}

/// The columns of every object's mask: first, and one behind the last.
fn step(runner: &mut Prompted<Script>, prompts: &[Prompt]) -> Vec<(u32, Option<(u32, u32)>)> {
    let given = runner.step(FRAME, prompts).unwrap();
    let columns = |of: &ObjectMask| of.mask.corners().map(|[left, _, right, _]| (left, right + 1));
    given.objects.iter().map(|of| (of.object, columns(of))).collect()
}

/// Object, its track, their IoU, and where the track ended.
type Taken = (u32, Option<u32>, Option<f64>, Option<u32>);

fn taken(runner: &mut Prompted<Script>) -> Vec<Taken> {
    let said = runner.taken_tracks().unwrap();
    assert_eq!(said.dropped, 3, "births without a slot are handed on");
    said.objects.iter().map(|of| (of.object, of.track, of.iou, of.end)).collect()
}

#[test]
fn an_object_has_the_masks_of_its_track_until_that_ends() {
    let mut runner = prompted(&[
        &[(1, 0, 4), (2, 10, 14), (3, 16, 18)],
        &[(1, 1, 5), (2, 0, 0), (3, 16, 18)],
        &[(2, 11, 15), (4, 1, 5)],
        &[(1, 6, 9), (2, 11, 15), (4, 1, 5)],
    ]);
    assert_eq!(step(&mut runner, &[mask(7, 10, 14), mask(5, 0, 3)]), [(7, Some((10, 14))), (5, Some((0, 4)))]);
    assert_eq!(step(&mut runner, &[]), [(7, None), (5, Some((1, 5)))], "a track that is not seen has an empty mask");
    assert_eq!(
        step(&mut runner, &[]),
        [(7, Some((11, 15))), (5, None)],
        "another track in its place is another object"
    );
    assert_eq!(step(&mut runner, &[]), [(7, Some((11, 15))), (5, None)], "a track that ended has ended");
    let both = || Some(vec![2, 1]);
    assert_eq!(runner.finder.asked.borrow()[..], [None, both(), both(), both()], "no other masks are made");
    assert!(runner.take_stage_times().iter().any(|(stage, _)| stage == Stage::Association));
    assert_eq!(taken(&mut runner), [(7, Some(2), Some(1.0), None), (5, Some(1), Some(0.75), Some(2))]);
    // The next video knows nothing of this one.
    assert_eq!(step(&mut runner, &[mask(5, 10, 14)]), [(5, Some((10, 14)))]);
    assert_eq!(taken(&mut runner), [(5, Some(2), Some(1.0), None)]);
}

#[test]
fn late_prompts_take_what_is_left_and_an_object_without_a_track_stays_so() {
    let mut runner = prompted(&[&[(1, 0, 4)], &[(1, 0, 4), (2, 10, 14)], &[(1, 0, 4), (2, 10, 14), (3, 6, 8)]]);
    assert_eq!(step(&mut runner, &[mask(1, 0, 4), mask(2, 10, 14)]), [(1, Some((0, 4))), (2, None)], "fewer tracks");
    // Track 1 would suit the third object better, but is the first's; the second has no second chance.
    let second = step(&mut runner, &[mask(3, 0, 11)]);
    assert_eq!(second, [(1, Some((0, 4))), (2, None), (3, Some((10, 14)))]);
    assert_eq!(step(&mut runner, &[mask(4, 0, 4)]), [(1, Some((0, 4))), (2, None), (3, Some((10, 14))), (4, None)]);
    let iou = 1.0 / 14.0;
    let all =
        [(1, Some(1), Some(1.0), None), (2, None, None, None), (3, Some(2), Some(iou), None), (4, None, None, None)];
    assert_eq!(taken(&mut runner), all);
}

#[test]
fn clicks_tell_no_overlap_and_broken_prompts_change_nothing() {
    let mut runner = prompted(&[&[(1, 0, 4), (2, 0, 20)]]);
    let click = |x: f32, y: f32| PromptShape::Points(vec![Click { x, y, positive: true }]);
    for wrong in [click(40.0, 1.0), PromptShape::Bbox([3.0, 0.0, 2.0, 1.0]), PromptShape::Mask(Mask::empty(9, 9))] {
        let prompt = Prompt { object: 1, shape: wrong };
        assert!(matches!(runner.step(FRAME, &[prompt]), Err(RunnerError::Usage(_))));
    }
    assert!(runner.finder.asked.borrow().is_empty(), "the frame has not been seen");
    // More than the model has slots for: some go without.
    let prompts = [Prompt { object: 1, shape: click(12.0, 1.0) }, mask(2, 0, 4), mask(3, 0, 4)];
    assert_eq!(step(&mut runner, &prompts), [(1, Some((0, 20))), (2, Some((0, 4))), (3, None)]);
    let again = runner.step(FRAME, &[mask(2, 0, 4)]).unwrap_err().to_string();
    assert!(again.contains("it is already tracked"), "{again}");
    assert_eq!(taken(&mut runner)[0], (1, Some(2), None, None));
}

#[test]
fn a_pixel_is_that_of_the_smallest_number() {
    let tracks: &[Tracks<'_>] = &[&[(1, 0, 8), (2, 4, 12), (3, 0, 20)]];
    let mut runner = Prompted::new(script(tracks), true, false);
    let given = runner.step(FRAME, &[mask(9, 0, 8), mask(2, 4, 12)]).unwrap();
    let columns: Vec<_> = given.objects.iter().map(|of| (of.object, of.mask.corners().unwrap(), of.claimed)).collect();
    // The third track is nobody's and takes nothing.
    assert_eq!(columns, [(9, [0, 0, 3, 3], true), (2, [4, 0, 11, 3], true)]);
}

#[test]
fn a_track_without_numbers_is_said_where_an_object_finds_none() {
    let frames: &[Tracks<'_>] = &[&[(1, 0, 4), (2, 10, 14)], &[(1, 0, 4), (2, 10, 14)]];
    let mut broken = script(frames);
    broken.broken = Some(2);
    let mut runner = Prompted::new(broken, false, false);
    let finite = |given: FrameMasks| given.objects.iter().map(|of| (of.object, of.finite)).collect::<Vec<_>>();
    assert_eq!(finite(runner.step(FRAME, &[mask(1, 0, 4), mask(2, 10, 14)]).unwrap()), [(1, true), (2, false)]);
    assert_eq!(finite(runner.step(FRAME, &[]).unwrap()), [(1, true), (2, true)], "said once");
}
