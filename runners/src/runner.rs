//! What is a runner? The trait behind which every family of models stands, its errors, and what every runner refuses.

use crate::types::{
    Capabilities, Device, Dtype, FoundTracks, Frame, FrameMasks, OpenReport, OpenRequest, Prompt, PromptShape,
    StagePrecision, StageTimes, TakenTracks, TrackLabels,
};

/// Why a runner could not be opened or could not go on. The class decides the exit code.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The pack or its files are wrong: names the file, what was expected, what was found. Exit code 2.
    #[error("{0}")]
    Pack(String),
    /// Device, driver or runtime is missing or too old, or the device was lost: says where it was looked for and what to do. Exit code 3.
    #[error("{0}")]
    Environment(String),
    /// The caller asked for something this runner cannot do (too many clicks, unknown object). Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The model failed while running: graph, frame, cause. The cell is `Failed`.
    #[error("{0}")]
    Inference(String),
}

/// A model that tracks objects through the frames of a sequence, one frame at a time.
pub trait Runner {
    /// What this runner can do.
    fn capabilities(&self) -> &Capabilities;
    /// Requested and effective precision per graph, with evidence.
    fn precision(&self) -> Vec<StagePrecision>;
    /// What opening showed.
    fn open_report(&self) -> &OpenReport;
    /// Forgets all objects: the next frame is the first of a sequence. Device memory is kept for re-use.
    fn reset(&mut self);
    /// Tracks every live object on `frame`; objects in `prompts` start on it. Device idle on return.
    ///
    /// # Errors
    /// [`RunnerError::Usage`] for a frame or prompt it cannot take: nothing has happened, the runner can go on.
    /// [`RunnerError::Inference`] when the model fails: the sequence is lost, [`Runner::reset`] comes next.
    /// [`RunnerError::Environment`] when the device has no room, or was lost; then nothing goes on in this process.
    fn step(&mut self, frame: Frame<'_>, prompts: &[Prompt]) -> Result<FrameMasks, RunnerError>;
    /// As [`Runner::step`], with a frame that comes next, if there is one: a runner that can do so begins with it while it
    /// works on this one (on a thread of its own, which is done on return), and gives the same masks. The next step must
    /// then be given that frame.
    ///
    /// # Errors
    /// As [`Runner::step`]; [`RunnerError::Usage`] when `frame` is not the one that was announced.
    fn step_ahead(
        &mut self,
        frame: Frame<'_>,
        prompts: &[Prompt],
        _next: Option<Frame<'_>>,
    ) -> Result<FrameMasks, RunnerError> {
        self.step(frame, prompts)
    }
    /// Does [`Runner::step_ahead`] begin with the next frame?
    fn works_ahead(&self) -> bool {
        false
    }
    /// Takes masks back that are no longer needed, so that the next frame need not allocate any.
    fn recycle(&mut self, _masks: FrameMasks) {}
    /// After the last frame of a sequence: the tracks that the runner founded by itself since [`Runner::reset`], settled.
    /// The masks of those that are not confirmed, and those outside a track's frames, are no part of the result. `None`
    /// for a runner that is prompted.
    fn take_tracks(&mut self) -> Option<FoundTracks> {
        None
    }
    /// After the last frame of a sequence: the tracks that the prompted objects took since [`Runner::reset`]. `None` for a runner that
    /// finds no tracks, or whose objects are not prompted.
    fn taken_tracks(&mut self) -> Option<TakenTracks> {
        None
    }
    /// After [`Runner::take_tracks`]: what the objects since [`Runner::reset`] are called. `None` for a runner without labels. This may
    /// take minutes; `alive` is called after each picture.
    ///
    /// # Errors
    /// [`RunnerError::Inference`] when the model fails.
    fn take_labels(&mut self, _alive: &mut dyn FnMut()) -> Result<Option<TrackLabels>, RunnerError> {
        Ok(None)
    }
    /// Stage times of the last [`Runner::step`], drained.
    fn take_stage_times(&mut self) -> StageTimes;
}

/// Opens a runner.
pub type Open = fn(&OpenRequest) -> Result<Box<dyn Runner>, RunnerError>;

/// One family of models; the registry is the single source for `--models`, `jetbench models`, completions and docs.
pub struct Entry {
    /// Family name, as in a pack's `family` field.
    pub family: &'static str,
    /// Model names (before `_<prompt>`) that mean a default pack: `(alias, pack id)`.
    pub aliases: &'static [(&'static str, &'static str)],
    /// One line for help and docs.
    pub summary: &'static str,
    /// Hidden from listings (test runners).
    pub hidden: bool,
    /// Does it find objects on single frames, instead of tracking them?
    pub detects: bool,
    /// What the pack says it can do on a device, without opening any graph file.
    pub describe: fn(&std::path::Path, Device) -> Result<Capabilities, RunnerError>,
    /// Compares the pack's files with its manifest for one precision, without loading a runtime.
    pub check: fn(&std::path::Path, Dtype) -> Result<(), RunnerError>,
    /// Opens the runner.
    pub open: Open,
    /// Opens the runner with the detector of the request, which founds the tracks; `None`: it cannot be prompted by one.
    pub compose: Option<Open>,
}

/// A frame whose bytes match its size and which has at least one pixel.
///
/// # Errors
/// [`RunnerError::Usage`] with the sizes.
pub(crate) fn check_frame(frame: Frame<'_>) -> Result<(), RunnerError> {
    let expected = frame.width as usize * frame.height as usize * 3;
    if expected == 0 || frame.rgb.len() != expected {
        return Err(RunnerError::Usage(format!(
            "frame of {}x{} pixels with {} bytes: {expected} bytes of RGB expected, at least one pixel",
            frame.width,
            frame.height,
            frame.rgb.len()
        )));
    }
    Ok(())
}

/// Refuses prompts of a runner whose objects are found without: `finder` says by what.
pub(crate) fn check_unprompted(prompts: &[Prompt], finder: &str) -> Result<(), RunnerError> {
    match prompts.first() {
        None => Ok(()),
        Some(Prompt { object, .. }) => {
            Err(RunnerError::Usage(format!("prompt for object {object}: {finder}, nobody prompts them")))
        }
    }
}

/// The prompts of one frame fit the runner, the frame and the objects already tracked (`live`).
///
/// # Errors
/// [`RunnerError::Usage`] naming the object and the limit.
pub(crate) fn check_prompts(
    capabilities: &Capabilities,
    frame: Frame<'_>,
    prompts: &[Prompt],
    live: &[u32],
) -> Result<(), RunnerError> {
    let usage = |object: u32, text: String| Err(RunnerError::Usage(format!("prompt for object {object}: {text}")));
    for (i, prompt) in prompts.iter().enumerate() {
        let object = prompt.object;
        if live.contains(&object) || prompts[..i].iter().any(|other| other.object == object) {
            return usage(
                object,
                "it is already tracked; corrections of a running track are not supported".to_string(),
            );
        }
        let kind = prompt.shape.kind();
        if !capabilities.prompts.contains(&kind) {
            return usage(object, format!("kind `{kind}` is not supported by this pack"));
        }
        let inside = |x: f32, y: f32| {
            (-0.5..=frame.width as f32 + 0.5).contains(&x) && (-0.5..=frame.height as f32 + 0.5).contains(&y)
        };
        match &prompt.shape {
            PromptShape::Points(clicks) => {
                if clicks.is_empty() || clicks.len() > capabilities.max_points as usize {
                    return usage(
                        object,
                        format!("{} clicks; 1 to {} expected", clicks.len(), capabilities.max_points),
                    );
                }
                if let Some(click) = clicks.iter().find(|c| !inside(c.x, c.y)) {
                    return usage(object, format!("click ({}, {}) is outside the frame", click.x, click.y));
                }
            }
            PromptShape::Bbox([x0, y0, x1, y1]) => {
                if !(inside(*x0, *y0) && inside(*x1, *y1) && x0 <= x1 && y0 <= y1) {
                    return usage(object, format!("box ({x0}, {y0}, {x1}, {y1}) is not a box inside the frame"));
                }
            }
            PromptShape::Mask(mask) => {
                if (mask.width(), mask.height()) != (frame.width, frame.height) {
                    return usage(
                        object,
                        format!(
                            "mask of {}x{} pixels on a frame of {}x{}",
                            mask.width(),
                            mask.height(),
                            frame.width,
                            frame.height
                        ),
                    );
                }
            }
        }
    }
    let objects = live.len() + prompts.len();
    match capabilities.max_objects {
        Some(most) if objects > most as usize => {
            Err(RunnerError::Usage(format!("{objects} objects at once; this runner tracks at most {most}")))
        }
        _ => Ok(()),
    }
}
