//! The first half of a frame, apart from the rest of the loop: resize, normalise, image encoder. It needs nothing but the
//! pixels, so that where throughput counts the next frame can go through it on another thread while this frame's memories
//! are read and written. What was encoded ahead waits in tensors of its own and is copied over when its turn comes.

use std::hash::Hasher;

use crate::frame::Preprocess;
use crate::host::session::GraphSession;
use crate::runner::RunnerError;
use crate::sam::wiring::Features;
use crate::types::{Frame, Stage, StageClock, StageTimes};

/// The image encoder and what goes before it. Fields are dropped in order: bindings go before the session.
pub struct Encoder {
    /// Where there is a pipeline: tensors for the next frame.
    ahead: Option<Ahead>,
    /// The session.
    pub graph: GraphSession,
    preprocess: Preprocess,
}

/// A frame that was encoded before its turn.
struct Ahead {
    features: Features,
    /// Which frame; `None`: nothing waits here.
    holds: Option<u64>,
    times: StageTimes,
}

impl Encoder {
    /// With a second set of tensors it can work ahead.
    pub fn new(graph: GraphSession, preprocess: Preprocess, ahead: Option<Features>) -> Encoder {
        let ahead = ahead.map(|features| Ahead { features, holds: None, times: StageTimes::default() });
        Encoder { ahead, graph, preprocess }
    }

    /// Can it work ahead?
    pub fn works_ahead(&self) -> bool {
        self.ahead.is_some()
    }

    /// Forgets what was encoded ahead.
    pub fn forget(&mut self) {
        if let Some(ahead) = &mut self.ahead {
            ahead.holds = None;
        }
    }

    /// The features of `frame`: encoded now, or copied if they were encoded ahead. `times` then holds what that took.
    ///
    /// # Errors
    /// [`RunnerError::Usage`] when another frame was encoded ahead; [`RunnerError::Inference`] when the model fails.
    pub fn encode(
        &mut self,
        frame: Frame<'_>,
        features: &mut Features,
        on_gpu: bool,
        clock: &mut StageClock,
        times: &mut StageTimes,
    ) -> Result<(), RunnerError> {
        if let Some(ahead) = &mut self.ahead
            && let Some(held) = ahead.holds.take()
        {
            if held != fingerprint(frame) {
                return Err(RunnerError::Usage("this is not the frame that was announced as the next one".to_string()));
            }
            features.copy_from(&ahead.features);
            clock.lap(times, Stage::ImageEncoder);
            ahead.times.iter().for_each(|(stage, time)| times.add(stage, time));
            return Ok(());
        }
        features.image.fill(&mut self.preprocess, frame)?;
        if on_gpu {
            features.image.bind(&mut features.encode)?;
        }
        clock.lap(times, Stage::Preprocess);
        self.graph.run(&features.encode)?;
        clock.lap(times, Stage::ImageEncoder);
        Ok(())
    }

    /// Encodes a frame before its turn.
    ///
    /// # Errors
    /// [`RunnerError::Usage`] for a frame whose bytes do not fit its size; [`RunnerError::Inference`] when the model fails.
    pub fn encode_ahead(&mut self, frame: Frame<'_>, mut clock: StageClock) -> Result<(), RunnerError> {
        let Some(ahead) = &mut self.ahead else { return Ok(()) };
        ahead.times = StageTimes::default();
        ahead.features.image.fill(&mut self.preprocess, frame)?;
        clock.lap(&mut ahead.times, Stage::Preprocess);
        self.graph.run(&ahead.features.encode)?;
        clock.lap(&mut ahead.times, Stage::ImageEncoder);
        ahead.holds = Some(fingerprint(frame));
        Ok(())
    }
}

/// A number that tells a frame from its neighbours in a video, from its size and some thousand of its bytes: enough to
/// notice a caller that mixes frames up.
fn fingerprint(frame: Frame<'_>) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write_u32(frame.width);
    hasher.write_u32(frame.height);
    let step = (frame.rgb.len() / 1021).max(1);
    frame.rgb.iter().step_by(step).for_each(|&byte| hasher.write_u8(byte));
    hasher.finish()
}
