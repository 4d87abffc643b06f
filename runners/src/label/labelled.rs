//! A runner whose tracks get names. Crops are cut on each frame, for the tracks whose mask is among the largest of its span; the tower
//! runs after the last frame, on at most [`slots::MOST`] crops per track, when it is known which tracks are part of the result.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use super::contract::VISION;
use super::crop;
use super::labeller::Labeller;
use super::slots::{self, Kept, Slots};
use super::vectors::{best, unit};
use crate::compose::joined;
use crate::host::session::failed;
use crate::host::settings::SessionSettings;
use crate::runner::{Runner, RunnerError};
use crate::types::{
    Capabilities, FoundTracks, Frame, FrameMasks, OpenReport, OpenRequest, Prompt, Stage, StageClock, StagePrecision,
    StageTimes, TakenTracks, TrackLabel, TrackLabels,
};

/// Objects of a sequence that are labelled; a bound on memory, as each keeps its crops.
pub const MOST_OBJECTS: usize = 256;

/// Opens the runner of a request with the label pack in `dir`.
///
/// # Errors
/// As those of both.
pub fn open(runner: Box<dyn Runner>, request: &OpenRequest, dir: &Path) -> Result<Box<dyn Runner>, RunnerError> {
    let labeller = Labeller::open(dir, request)?;
    let stage_times = SessionSettings::of(request)?.stage_times();
    let mut report = joined(runner.open_report(), labeller.open_report());
    report.notes.push(format!(
        "labels: crops are cut while tracking (stage labels), of each track the {} with the largest mask, spread over its life; the image tower \
         runs after the last frame of a sequence",
        slots::MOST
    ));
    Ok(Box::new(Labelled {
        runner,
        labeller,
        report,
        stage_times,
        times: StageTimes::default(),
        tracks: BTreeMap::new(),
        left_out: BTreeSet::new(),
        step: 0,
        found: None,
        lines: Default::default(),
        warm: false,
    }))
}

struct Labelled {
    runner: Box<dyn Runner>,
    labeller: Labeller,
    report: OpenReport,
    stage_times: bool,
    times: StageTimes,
    tracks: BTreeMap<u32, Slots>,
    left_out: BTreeSet<u32>,
    /// Steps since the last reset.
    step: u32,
    found: Option<FoundTracks>,
    /// Two rows of a crop, as they lie in the frame.
    lines: [Vec<u8>; 2],
    /// Has the tower run?
    warm: bool,
}

impl Labelled {
    /// Keeps the crops of a frame that are wanted.
    fn look(&mut self, frame: Frame<'_>, masks: &FrameMasks) {
        for object in &masks.objects {
            let area = object.mask.area();
            if area == 0 || !object.finite {
                continue;
            }
            if !self.tracks.contains_key(&object.object) && self.tracks.len() >= MOST_OBJECTS {
                self.left_out.insert(object.object);
                continue;
            }
            let slots = self.tracks.entry(object.object).or_insert_with(|| Slots::new(self.step));
            if !slots.wants(self.step, area) {
                continue;
            }
            let Some(crop) = crop::square(frame, &object.mask, self.labeller.fill, &mut self.lines) else { continue };
            let pixels = self.labeller.resize(crop);
            slots.keep(Kept { step: self.step, area, pixels });
        }
    }

    /// What an object is called by its crops of the steps in a range.
    fn name(
        &mut self,
        object: u32,
        steps: std::ops::Range<u32>,
        alive: &mut dyn FnMut(),
    ) -> Result<TrackLabel, RunnerError> {
        let (mut mean, mut crops) = (Vec::new(), 0);
        for kept in self.tracks.get(&object).into_iter().flat_map(|slots| slots.within(steps.clone())) {
            let embedding = self.labeller.embed(&kept.pixels)?;
            alive();
            // Left out without a word, a tower that overflows would look like objects that nothing showed.
            let unit = unit(embedding).ok_or_else(|| failed(VISION, "an embedding is zero or no number"))?;
            mean.resize(unit.len(), 0.0);
            mean.iter_mut().zip(unit).for_each(|(sum, value): (&mut f64, f64)| *sum += value);
            crops += 1;
        }
        let probabilities = self.labeller.vectors().probabilities(&mean).unwrap_or_default();
        let [best, second] = best(&probabilities);
        Ok(TrackLabel { object, crops, best, second })
    }
}

impl Runner for Labelled {
    fn capabilities(&self) -> &Capabilities {
        self.runner.capabilities()
    }

    fn precision(&self) -> Vec<StagePrecision> {
        let mut stages = self.runner.precision();
        stages.push(self.labeller.precision().clone());
        stages
    }

    fn open_report(&self) -> &OpenReport {
        &self.report
    }

    fn reset(&mut self) {
        self.runner.reset();
        self.tracks.clear();
        self.left_out.clear();
        (self.step, self.found) = (0, None);
    }

    fn step(&mut self, frame: Frame<'_>, prompts: &[Prompt]) -> Result<FrameMasks, RunnerError> {
        self.step_ahead(frame, prompts, None)
    }

    fn step_ahead(
        &mut self,
        frame: Frame<'_>,
        prompts: &[Prompt],
        next: Option<Frame<'_>>,
    ) -> Result<FrameMasks, RunnerError> {
        if !self.warm {
            self.labeller.warm_up()?;
            self.warm = true;
        }
        let masks = self.runner.step_ahead(frame, prompts, next)?;
        let mut clock = StageClock::start(self.stage_times);
        self.look(frame, &masks);
        clock.lap(&mut self.times, Stage::Labels);
        self.step += 1;
        Ok(masks)
    }

    fn works_ahead(&self) -> bool {
        self.runner.works_ahead()
    }

    fn recycle(&mut self, masks: FrameMasks) {
        self.runner.recycle(masks);
    }

    fn take_tracks(&mut self) -> Option<FoundTracks> {
        self.found = self.runner.take_tracks();
        self.found.clone()
    }

    fn taken_tracks(&mut self) -> Option<TakenTracks> {
        self.runner.taken_tracks()
    }

    fn take_labels(&mut self, alive: &mut dyn FnMut()) -> Result<Option<TrackLabels>, RunnerError> {
        let began = Instant::now();
        let (objects, left_out): (Vec<(u32, std::ops::Range<u32>)>, usize) = match &self.found {
            Some(found) => {
                let confirmed = found.tracks.iter().filter(|track| track.confirmed);
                let (left_out, named): (Vec<_>, Vec<_>) =
                    confirmed.partition(|track| self.left_out.contains(&track.id));
                (named.iter().map(|track| (track.id, track.birth..track.end)).collect(), left_out.len())
            }
            None => (self.tracks.keys().map(|object| (*object, 0..u32::MAX)).collect(), self.left_out.len()),
        };
        let objects =
            objects.into_iter().map(|(object, steps)| self.name(object, steps, alive)).collect::<Result<_, _>>()?;
        let time_ms = began.elapsed().as_secs_f64() * 1e3;
        Ok(Some(TrackLabels { objects, time_ms, left_out: left_out as u32 }))
    }

    fn take_stage_times(&mut self) -> StageTimes {
        let mut times = self.runner.take_stage_times();
        self.times.iter().for_each(|(stage, time)| times.add(stage, time));
        self.times = StageTimes::default();
        times
    }
}
