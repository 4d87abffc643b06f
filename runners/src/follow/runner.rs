//! The segmenter as a runner: a mask per live track, tracks at the end.

use super::Follower;
use crate::prompted::Finds;
use crate::runner::{Runner, RunnerError, check_unprompted};
use crate::types::{Capabilities, FoundTracks, Frame, FrameMasks, OpenReport, Prompt, StagePrecision, StageTimes};

impl Runner for Follower {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn precision(&self) -> Vec<StagePrecision> {
        self.graphs.iter().map(|graph| graph.precision.clone()).collect()
    }

    fn open_report(&self) -> &OpenReport {
        &self.report
    }

    fn reset(&mut self) {
        self.restart();
    }

    fn step(&mut self, frame: Frame<'_>, prompts: &[Prompt]) -> Result<FrameMasks, RunnerError> {
        check_unprompted(prompts, "a video segmenter finds its objects itself")?;
        self.find(frame, None)
    }

    fn recycle(&mut self, masks: FrameMasks) {
        self.spare.extend(masks.objects.into_iter().map(|object| object.mask));
        self.spare.truncate(self.sizes.slots());
    }

    fn take_tracks(&mut self) -> Option<FoundTracks> {
        let found = self.tracks();
        self.restart();
        Some(found)
    }

    fn take_stage_times(&mut self) -> StageTimes {
        std::mem::take(&mut self.times)
    }
}

impl Finds for Follower {
    fn find(&mut self, frame: Frame<'_>, of: Option<&[u32]>) -> Result<FrameMasks, RunnerError> {
        self.look(frame)?;
        Ok(self.objects(frame, of))
    }
}
