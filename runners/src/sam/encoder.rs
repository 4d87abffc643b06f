//! The first half of a frame, apart from the rest of the loop: resize, normalise, image encoder. It needs nothing but the
//! pixels, so that where throughput counts the next frame can go through it on another thread while this frame's memories
//! are read and written. On a CPU it is encoded: the features wait in tensors of their own and are copied over when their turn comes. On a
//! device, where graphs run one after the other, only the image is made ready, and changes places with that of the frame before.

use std::hash::Hasher;

use ort::session::IoBinding;

use crate::frame::Preprocess;
use crate::host::session::GraphSession;
use crate::runner::RunnerError;
use crate::sam::image::Image;
use crate::sam::wiring::Features;
use crate::types::{Frame, Stage, StageClock, StageTimes};

/// The image encoder and what goes before it. Fields are dropped in order: bindings go before the session.
pub struct Encoder {
    /// Where there is a pipeline: the next frame.
    ahead: Option<Ahead>,
    /// The session.
    pub graph: GraphSession,
    preprocess: Preprocess,
}

/// How far the next frame is taken before its turn.
pub enum Place {
    /// To its features.
    Features(Features),
    /// To an image beside the one of [`Features`]; with a binding, which has the same features, also to the device.
    Image(Image, Option<IoBinding>),
}

/// A frame that was begun before its turn.
struct Ahead {
    place: Place,
    /// Which frame; `None`: nothing waits here.
    holds: Option<u64>,
    times: StageTimes,
}

impl Encoder {
    /// With a place for the next frame it can work ahead.
    pub fn new(graph: GraphSession, preprocess: Preprocess, ahead: Option<Place>) -> Encoder {
        let ahead = ahead.map(|place| Ahead { place, holds: None, times: StageTimes::default() });
        Encoder { ahead, graph, preprocess }
    }

    /// Has the next frame wait elsewhere.
    #[cfg(test)]
    pub fn set_place(&mut self, place: Place) {
        self.ahead = Some(Ahead { place, holds: None, times: StageTimes::default() });
    }

    /// Can it work ahead?
    pub fn works_ahead(&self) -> bool {
        self.ahead.is_some()
    }

    /// Forgets what was begun ahead.
    pub fn forget(&mut self) {
        if let Some(ahead) = &mut self.ahead {
            ahead.holds = None;
        }
    }

    /// The features of `frame`: what was not done ahead is done now, and `times` holds all of it.
    ///
    /// # Errors
    /// [`RunnerError::Usage`] when another frame was announced as the next; [`RunnerError::Inference`] when the model fails.
    pub fn encode(
        &mut self,
        frame: Frame<'_>,
        features: &mut Features,
        on_gpu: bool,
        clock: &mut StageClock,
        times: &mut StageTimes,
    ) -> Result<(), RunnerError> {
        // A session on a device copies an image when it is bound; elsewhere its tensor stays bound.
        let (mut filled, mut bound) = (false, !on_gpu);
        if let Some(ahead) = &mut self.ahead
            && let Some(held) = ahead.holds.take()
        {
            if held != fingerprint(frame) {
                return Err(RunnerError::Usage("this is not the frame that was announced as the next one".to_string()));
            }
            ahead.times.iter().for_each(|(stage, time)| times.add(stage, time));
            match &mut ahead.place {
                Place::Features(encoded) => {
                    features.copy_from(encoded);
                    clock.lap(times, Stage::ImageEncoder);
                    return Ok(());
                }
                Place::Image(image, binding) => {
                    std::mem::swap(&mut features.image, image);
                    // Without a binding of its own the image is bound in its turn.
                    (filled, bound) = (true, binding.is_some());
                    binding.iter_mut().for_each(|binding| std::mem::swap(&mut features.encode, binding));
                }
            }
        }
        if !filled {
            features.image.fill(&mut self.preprocess, frame)?;
        }
        if !bound {
            features.image.bind(&mut features.encode)?;
        }
        clock.lap(times, Stage::Preprocess);
        self.graph.run(&features.encode)?;
        clock.lap(times, Stage::ImageEncoder);
        Ok(())
    }

    /// Takes a frame as far as its place is, before its turn.
    ///
    /// # Errors
    /// [`RunnerError::Usage`] for a frame whose bytes do not fit its size; [`RunnerError::Inference`] when the model fails.
    pub fn begin(&mut self, frame: Frame<'_>, mut clock: StageClock) -> Result<(), RunnerError> {
        let Some(ahead) = &mut self.ahead else { return Ok(()) };
        ahead.times = StageTimes::default();
        match &mut ahead.place {
            Place::Features(features) => {
                features.image.fill(&mut self.preprocess, frame)?;
                clock.lap(&mut ahead.times, Stage::Preprocess);
                self.graph.run(&features.encode)?;
                clock.lap(&mut ahead.times, Stage::ImageEncoder);
            }
            Place::Image(image, binding) => {
                image.fill(&mut self.preprocess, frame)?;
                if let Some(binding) = binding {
                    image.bind(binding)?;
                }
                clock.lap(&mut ahead.times, Stage::Preprocess);
            }
        }
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
