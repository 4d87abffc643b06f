//! Frames with what was graded on them drawn over them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jetbench_runners::types::{Mask, PromptShape};

use super::found::Tracks;
use super::{Extras, FrameObject, Names, Predictions};
use crate::dataset::{DataError, Object, RgbFrame, Sequence};
use crate::plan::overlays::Overlays;
use crate::report;
use crate::report::movie;
use crate::report::overlay::{self, Layer};
use crate::run::prompt::GivenPrompt;

/// Draws the frames of one sequence.
pub(super) struct Painter<'a> {
    /// Directory of pictures.
    dir: PathBuf,
    /// The movie, where it is one.
    pub(super) movie: Option<PathBuf>,
    prompts: &'a [GivenPrompt],
    /// What stands beside each object, in the order of the sequence.
    titles: Vec<String>,
}

impl<'a> Painter<'a> {
    pub(super) fn new(
        extras: &Extras,
        sequence: &Sequence,
        prompts: &'a [GivenPrompt],
        names: &Names,
    ) -> Result<Option<Self>, DataError> {
        let (root, name) = (&extras.overlays_root, &sequence.name);
        let (dir, movie) = match extras.overlays {
            Overlays::Off => return Ok(None),
            Overlays::Mp4 => (root.clone(), Some(root.join(movie::file_name(name)))),
            Overlays::Png | Overlays::Any => (root.join(name), None),
        };
        std::fs::create_dir_all(&dir).map_err(|e| DataError(format!("cannot write {}: {e}", dir.display())))?;
        let title = |object: &Object| match names.get(&object.id) {
            Some(name) => format!("{} {name}", object.name),
            None => object.name.clone(),
        };
        let titles = sequence.objects.iter().map(title).collect();
        Ok(Some(Painter { dir, movie, prompts, titles }))
    }

    /// Writes the picture of a frame, or hands it on to the movie.
    pub(super) fn keep(&self, frame: &str, image: RgbFrame) -> Result<Option<RgbFrame>, DataError> {
        if self.movie.is_some() {
            return Ok(Some(image));
        }
        report::png::write(&self.dir.join(format!("{frame}.png")), &image).map_err(|e| DataError(e.to_string()))?;
        Ok(None)
    }

    /// What the model was given on this frame, if anything; a mask is the frame's annotation or the user's.
    fn prompt(
        &self,
        sequence: &Sequence,
        object: &Object,
        frame: usize,
        truth: Option<&Mask>,
    ) -> Result<Option<PromptShape>, DataError> {
        let given = self.prompts.iter().find(|p| p.object == object.id && p.frame as usize == frame);
        let own = match sequence.given(object) {
            Some(PromptShape::Mask(mask)) => Some(mask),
            _ => None,
        };
        let truth = truth.or(own);
        let shape = |given: &GivenPrompt| {
            given.prompt.shape(truth).ok_or_else(|| {
                let name = &object.name;
                DataError(format!("object {name}, frame {frame}: the annotation has changed since it was the prompt"))
            })
        };
        given.map(shape).transpose()
    }

    pub(super) fn draw(
        &self,
        sequence: &Sequence,
        index: usize,
        frame: &RgbFrame,
        predicted: &Predictions,
        truths: &BTreeMap<usize, &Mask>,
        scores: &[FrameObject],
    ) -> Result<RgbFrame, DataError> {
        let truth = |i: usize| truths.get(&i).copied();
        let prompts = sequence.objects.iter().enumerate().map(|(i, o)| self.prompt(sequence, o, index, truth(i)));
        let prompts = prompts.collect::<Result<Vec<_>, _>>()?;
        let layers: Vec<Layer> = sequence
            .objects
            .iter()
            .enumerate()
            .map(|(i, object)| Layer {
                name: &self.titles[i],
                object: object.id,
                predicted: predicted.get(&object.id).map(|(mask, _)| mask),
                truth: truths.get(&i).copied(),
                prompt: prompts[i].as_ref(),
                j: scores.iter().find(|s| s.index == i && object.prompt_frame <= index).map(|s| s.score.j * 100.0),
            })
            .collect();
        overlay::render(frame, &layers).map_err(|e| DataError(e.to_string()))
    }
}

/// Draws the tracks that a detector founded, each with its number, label and score.
pub(super) fn found(tracks: &Tracks<'_>, frame: &RgbFrame, predicted: &Predictions) -> Result<RgbFrame, DataError> {
    let layer = |(object, name): (&Object, &'_ String)| {
        let (mask, _) = predicted.get(&object.id)?;
        Some((object.id, name.clone(), mask))
    };
    let live: Vec<(u32, String, &Mask)> = tracks.shown.objects.iter().zip(&tracks.titles).filter_map(layer).collect();
    let layers: Vec<Layer> = live
        .iter()
        .map(|(object, name, mask)| Layer { name, object: *object, predicted: Some(mask), ..Layer::default() })
        .collect();
    overlay::render(frame, &layers).map_err(|e| DataError(e.to_string()))
}
