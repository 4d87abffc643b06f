//! How is a prompted object followed by a model that finds its objects itself? No prompt reaches the model. On the frame of its prompt, an object
//! takes the track that suits it best (`associate::prompts`), and from then on the track's mask is the object's.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::associate::prompts::take;
use crate::frame::logit;
use crate::host::options::OVERLAPS;
use crate::host::settings::SessionSettings;
use crate::runner::{Runner, RunnerError, check_prompts};
use crate::segment::panoptic::refuse;
use crate::types::{
    Capabilities, Frame, FrameMasks, Mask, ObjectMask, OpenReport, OpenRequest, Prompt, PromptKind, PromptShape, Stage,
    StageClock, StagePrecision, StageTimes, TakenTrack, TakenTracks,
};

/// Most clicks of an object; any number would do.
const MOST_CLICKS: u32 = 64;

/// A model that finds objects and tracks them by itself.
pub trait Finds: Runner {
    /// As [`Runner::step`] without prompts. With a list the masks are those of these tracks alone, as far as they live, and what the others would
    /// take is saved.
    ///
    /// # Errors
    /// As [`Runner::step`].
    fn find(&mut self, frame: Frame<'_>, of: Option<&[u32]>) -> Result<FrameMasks, RunnerError>;
}

/// The capabilities of a pack that finds its objects itself: alone, and with objects that are prompted.
pub fn also_prompted(of: Capabilities) -> Capabilities {
    let prompts = [PromptKind::Detector].into_iter().chain(PromptKind::ALL).collect();
    Capabilities { prompts, max_points: MOST_CLICKS, ..of }
}

/// Opens the runner of a pack that finds its objects itself; where the request says so, for objects that are prompted.
///
/// # Errors
/// As those of `open`.
pub fn open<F: Finds + 'static>(
    request: &OpenRequest,
    open: impl Fn(&OpenRequest) -> Result<F, RunnerError>,
) -> Result<Box<dyn Runner>, RunnerError> {
    if !request.prompted {
        return Ok(Box::new(open(request)?));
    }
    let settings = SessionSettings::of(request)?;
    refuse(
        request,
        "objects that are prompted take tracks with whole masks; leave it out, or name the pack without a prompt",
    )?;
    // Tracks that are no object's take no pixel from those that are.
    let mut kept = request.clone();
    kept.options.extra.insert(OVERLAPS.to_string(), "keep".to_string());
    Ok(Box::new(Prompted::new(open(&kept)?, settings.exclusive(), settings.stage_times())))
}

/// A model that finds its objects itself, and the objects that took some of its tracks.
struct Prompted<F> {
    finder: F,
    capabilities: Capabilities,
    report: OpenReport,
    /// Does a pixel belong to one object at most?
    exclusive: bool,
    stage_times: bool,
    times: StageTimes,
    /// In the order of their prompts.
    objects: Vec<TakenTrack>,
    /// Frames since the last reset.
    steps: u32,
}

impl<F: Finds> Prompted<F> {
    fn new(finder: F, exclusive: bool, stage_times: bool) -> Self {
        let capabilities = Capabilities { max_objects: None, ..finder.capabilities().clone() };
        let mut report = finder.open_report().clone();
        report.notes.push(
            "no prompt reaches the model: on the frame of its prompt, an object takes the live track that suits it best (IoU of masks or boxes; of \
             those that have the clicks the likeliest), and has its masks from then on; an object without a track has empty ones"
                .to_string(),
        );
        let (times, objects) = Default::default();
        Prompted { finder, capabilities, report, exclusive, stage_times, times, objects, steps: 0 }
    }

    /// Gives the prompted objects their tracks; `held`: tracks that are somebody's already.
    fn start(&mut self, prompts: &[Prompt], found: &FrameMasks, held: &[u32]) {
        let free: Vec<&ObjectMask> = found.objects.iter().filter(|track| !held.contains(&track.object)).collect();
        let shapes: Vec<&PromptShape> = prompts.iter().map(|prompt| &prompt.shape).collect();
        for (prompt, taken) in prompts.iter().zip(take(&shapes, &free)) {
            let overlaps = prompt.shape.kind() != PromptKind::Points;
            self.objects.push(TakenTrack {
                object: prompt.object,
                track: taken.map(|(at, _)| free[at].object),
                iou: taken.map(|(_, worth)| worth).filter(|_| overlaps),
                end: None,
            });
        }
    }
}

/// The mask of an object without a track.
fn nothing(object: u32, frame: Frame<'_>, finite: bool) -> ObjectMask {
    let (claimed, predicted_iou) = (false, f32::NAN);
    let mask = Mask::empty(frame.width, frame.height);
    ObjectMask { object, mask, claimed, object_score: logit(0.0), predicted_iou, finite }
}

/// A pixel that several objects claim is that of the smallest number.
fn share_out(objects: &mut [ObjectMask], frame: Frame<'_>) {
    let mut in_turn: Vec<&mut ObjectMask> = objects.iter_mut().collect();
    in_turn.sort_by_key(|object| object.object);
    let mut taken = Mask::empty(frame.width, frame.height);
    for object in in_turn {
        object.mask.subtract(&taken);
        taken.unite(&object.mask);
    }
}

impl<F: Finds> Runner for Prompted<F> {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn precision(&self) -> Vec<StagePrecision> {
        self.finder.precision()
    }

    fn open_report(&self) -> &OpenReport {
        &self.report
    }

    fn reset(&mut self) {
        self.finder.reset();
        self.objects.clear();
        self.steps = 0;
    }

    fn step(&mut self, frame: Frame<'_>, prompts: &[Prompt]) -> Result<FrameMasks, RunnerError> {
        let known: Vec<u32> = self.objects.iter().map(|own| own.object).collect();
        check_prompts(&self.capabilities, frame, prompts, &known)?;
        let held: Vec<u32> = self.objects.iter().filter_map(|own| own.track).collect();
        let found = self.finder.find(frame, prompts.is_empty().then_some(&held))?;
        let mut clock = StageClock::start(self.stage_times);
        self.start(prompts, &found, &held);
        // A track that gives no numbers could have been that of an object which found none.
        let broken = found.objects.iter().any(|track| !track.finite);
        let mut tracks: BTreeMap<u32, ObjectMask> = found.objects.into_iter().map(|of| (of.object, of)).collect();
        let mut objects = Vec::with_capacity(self.objects.len());
        for own in &mut self.objects {
            let track = own.track.filter(|_| own.end.is_none());
            objects.push(match track.and_then(|track| tracks.remove(&track)) {
                Some(mask) => ObjectMask { object: own.object, ..mask },
                None => {
                    own.end = own.end.or(track.map(|_| self.steps));
                    let starts = prompts.iter().any(|prompt| prompt.object == own.object);
                    nothing(own.object, frame, !(broken && starts))
                }
            });
        }
        self.finder.recycle(FrameMasks { objects: tracks.into_values().collect() });
        if self.exclusive {
            share_out(&mut objects, frame);
        }
        self.steps += 1;
        clock.lap(&mut self.times, Stage::Association);
        Ok(FrameMasks { objects })
    }

    fn recycle(&mut self, masks: FrameMasks) {
        self.finder.recycle(masks);
    }

    fn taken_tracks(&mut self) -> Option<TakenTracks> {
        let found = self.finder.take_tracks().unwrap_or_default();
        let objects = std::mem::take(&mut self.objects);
        self.reset();
        Some(TakenTracks { objects, dropped: found.counts.dropped })
    }

    fn take_stage_times(&mut self) -> StageTimes {
        let mut times = self.finder.take_stage_times();
        self.times.iter().for_each(|(stage, time)| times.add(stage, time));
        self.times = StageTimes::default();
        times
    }
}
