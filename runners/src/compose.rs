//! How do a detector and a tracker run as one? The detector looks at every n-th frame, the association says what its boxes mean, and
//! the tracker founds, carries and ends the tracks. Nobody prompts.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::associate::{Association, Carrier, Rules};
use crate::detect::{Detection, Detector, Keep};
use crate::host::options::OF_ASSOCIATION;
use crate::host::settings::SessionSettings;
use crate::runner::{Runner, RunnerError, check_unprompted};
use crate::sam::copies::Copied;
use crate::sam::tracker::{Followed, Tracker};
use crate::types::{
    Capabilities, FoundTracks, Frame, FrameMasks, OpenReport, OpenRequest, Prompt, PromptKind, Stage, StagePrecision,
    StageTimes,
};

/// A frame on which a tracker has followed all tracks.
pub trait Passing: Carrier<Error = RunnerError> {
    /// The time since the last lap was this stage's.
    fn lap(&mut self, stage: Stage);
}

/// What is done on such a frame.
pub type Work<'a> = dyn FnMut(&mut dyn Passing) -> Result<(), RunnerError> + 'a;

/// A tracker that founds and ends tracks within a frame.
pub trait Tracks: Runner {
    /// As [`Runner::step_ahead`], with work in place of prompts.
    fn carry(
        &mut self,
        frame: Frame<'_>,
        next: Option<Frame<'_>>,
        work: &mut Work<'_>,
    ) -> Result<FrameMasks, RunnerError>;
}

impl Passing for Followed<'_, '_, '_> {
    fn lap(&mut self, stage: Stage) {
        Followed::lap(self, stage);
    }
}

impl Tracks for Tracker {
    fn carry(
        &mut self,
        frame: Frame<'_>,
        next: Option<Frame<'_>>,
        work: &mut Work<'_>,
    ) -> Result<FrameMasks, RunnerError> {
        Tracker::carry(self, frame, next, &mut |followed| work(followed))
    }
}

/// What finds objects on single frames.
pub trait Detects {
    /// What is on the frame, in place of what `found` held.
    fn detect(&mut self, frame: Frame<'_>, found: &mut Vec<Detection>) -> Result<(), RunnerError>;
}

impl Detects for Detector {
    fn detect(&mut self, frame: Frame<'_>, found: &mut Vec<Detection>) -> Result<(), RunnerError> {
        Detector::detect(self, frame, found)
    }
}

/// Opens the tracker of a request with the request's detector.
///
/// # Errors
/// As those of both; [`RunnerError::Usage`] when the tracker takes no boxes, or no detector is named.
pub fn open(request: &OpenRequest) -> Result<Box<dyn Runner>, RunnerError> {
    Ok(Box::new(open_with(request, None)?))
}

/// As [`open`]; with a directory, ONNX Runtime profiles every graph into it and copies are counted, which costs time.
///
/// # Errors
/// As [`open`].
pub fn open_with(request: &OpenRequest, profile: Option<&Path>) -> Result<Composed<Tracker, Detector>, RunnerError> {
    let Some(dir) = &request.detector else {
        return Err(RunnerError::Usage(format!("{}: no detector is named", request.pack.display())));
    };
    let rules = *SessionSettings::of(request)?.association();
    let mut tracker = Tracker::open_with(request, profile)?;
    if !tracker.capabilities().prompts.contains(&PromptKind::Bbox) {
        return Err(RunnerError::Usage(format!("{}: this pack takes no boxes", request.pack.display())));
    }
    tracker.found_tracks()?;
    let keep = Keep { score: rules.detect_score, rows: rules.max_tracks as usize };
    let detector = Detector::open(dir, request, Some(keep), profile)?;
    let (precision, report) = (detector.precision().clone(), detector.open_report().clone());
    Ok(Composed::new(tracker, detector, precision, &report, rules))
}

/// A detector and a tracker.
pub struct Composed<T, D> {
    tracker: T,
    detector: D,
    detector_precision: StagePrecision,
    association: Association,
    detections: Vec<Detection>,
    capabilities: Capabilities,
    report: OpenReport,
}

impl<T: Tracks, D: Detects> Composed<T, D> {
    fn new(
        tracker: T,
        detector: D,
        detector_precision: StagePrecision,
        of_detector: &OpenReport,
        rules: Rules,
    ) -> Self {
        let mut capabilities = tracker.capabilities().clone();
        capabilities.prompts = vec![PromptKind::Detector];
        capabilities.options.extend(OF_ASSOCIATION.map(String::from));
        let mut report = joined(tracker.open_report(), of_detector);
        report.notes.push(rules.note());
        Composed {
            tracker,
            detector,
            detector_precision,
            association: Association::new(rules),
            detections: Vec::new(),
            capabilities,
            report,
        }
    }
}

impl Composed<Tracker, Detector> {
    /// Copies between host and device that both have made since opening, where they are counted.
    pub fn copies(&self) -> Vec<Copied> {
        [self.tracker.copies(), self.detector.copies()].concat()
    }

    /// Ends profiling: graph name and file of every graph.
    ///
    /// # Errors
    /// As [`Tracker::end_profiles`].
    pub fn end_profiles(&mut self) -> Result<Vec<(String, PathBuf)>, RunnerError> {
        let mut files = self.tracker.end_profiles()?;
        files.extend(self.detector.end_profiles()?);
        Ok(files)
    }
}

/// What opening both showed; what both say stands there once.
pub(crate) fn joined(tracker: &OpenReport, detector: &OpenReport) -> OpenReport {
    let mut report = tracker.clone();
    report.graph_load_ms.extend(detector.graph_load_ms.iter().cloned());
    if let Some(built) = &detector.graph_build_ms {
        report.graph_build_ms.get_or_insert_default().extend(built.iter().cloned());
    }
    let new = detector.dropped.iter().filter(|option| !tracker.dropped.contains(option));
    report.dropped.extend(new.cloned());
    report.notes.extend(detector.notes.iter().filter(|note| !tracker.notes.contains(note)).cloned());
    report.fallbacks.extend(detector.fallbacks.iter().cloned());
    report
}

impl<T: Tracks, D: Detects> Runner for Composed<T, D> {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn precision(&self) -> Vec<StagePrecision> {
        let mut stages = self.tracker.precision();
        stages.push(self.detector_precision.clone());
        stages
    }

    fn open_report(&self) -> &OpenReport {
        &self.report
    }

    fn reset(&mut self) {
        self.tracker.reset();
        self.association.reset();
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
        check_unprompted(prompts, "the detector founds the tracks")?;
        let Composed { tracker, detector, association, detections, .. } = self;
        tracker.carry(frame, next, &mut |followed| {
            detections.clear();
            if association.looks() {
                detector.detect(frame, detections).map_err(|e| match e {
                    // The tracker has taken the frame already.
                    RunnerError::Usage(text) => RunnerError::Inference(format!("detector: {text}")),
                    other => other,
                })?;
                followed.lap(Stage::Detector);
            }
            association.step(followed, detections, (frame.width, frame.height))?;
            followed.lap(Stage::Association);
            Ok(())
        })
    }

    fn works_ahead(&self) -> bool {
        self.tracker.works_ahead()
    }

    fn recycle(&mut self, masks: FrameMasks) {
        self.tracker.recycle(masks);
    }

    fn take_tracks(&mut self) -> Option<FoundTracks> {
        let found = self.association.finish();
        self.reset();
        Some(found)
    }

    fn take_stage_times(&mut self) -> StageTimes {
        self.tracker.take_stage_times()
    }
}
