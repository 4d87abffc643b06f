//! The frame before the measurement: does the model run at all, and are its masks what masks can be?

use std::borrow::Cow;
use std::time::Instant;

use jetbench_runners::types::{FrameMasks, Prompt};
use jetbench_runners::{Runner, RunnerError, packs};

use super::{EventWriter, Fault, view};
use crate::dataset::{Dataset, RgbFrame};
use crate::results::record::WarmupRecord;
use crate::run::event::{Event, FaultClass, Job, Phase};
use crate::run::prompt;
use crate::run::spool::ms;

/// One frame (of a live source its `first`), twice: with its prompts, then once more as a tracked frame, so that every graph has run (and every lazy
/// initialisation happened) before anything is timed. Says whether to go on.
pub(super) fn warm_up(
    job: &Job,
    dataset: &Dataset,
    first: Option<&RgbFrame>,
    runner: &mut Box<dyn Runner>,
    events: &mut EventWriter,
    began: Instant,
) -> Result<bool, Fault> {
    events.enter(Phase::Warmup);
    let sequence = &dataset.sequences[0];
    let at = sequence.objects.iter().map(|o| o.prompt_frame).min().unwrap_or(0);
    let image = match first {
        Some(image) => Cow::Borrowed(image),
        None => Cow::Owned(sequence.picker().frame(at)?),
    };
    let planned = prompt::plan(sequence, job.prompt, job.clicks)?;
    let (prompts, full): (Vec<_>, Vec<_>) =
        planned.into_iter().filter(|p| p.frame == at).map(|p| (p.prompt, p.full)).unzip();
    let mut record = WarmupRecord::default();
    let started = Instant::now();
    let result = step(runner.as_mut(), &image, &prompts).and_then(|first| {
        record.first_mask_ms = (!first.objects.is_empty()).then(|| ms(began.elapsed()));
        let second = step(runner.as_mut(), &image, &[])?;
        // A detector may find nothing on this frame, and an object none of the tracks that the model found itself.
        let may_be_empty = job.finds() || runner.taken_tracks().is_some();
        for (masks, pass) in [(&first, "prompted"), (&second, "tracked")] {
            record.faults.extend(match may_be_empty {
                true => non_finite(masks, pass).collect(),
                false => mask_faults(masks, &full, pass),
            });
        }
        Ok(())
    });
    match result {
        Ok(()) => {
            record.frame_ok = true;
            record.warmup_ms = Some(ms(started.elapsed()));
            runner.reset();
            let _ = runner.take_stage_times();
            let go_on = record.faults.is_empty() || job.keep_going;
            events.send(&Event::Warmup { record });
            events.enter(Phase::Warmed);
            Ok(go_on)
        }
        Err(error) => {
            record.frame_error = Some(error.to_string());
            // Does the model load at all, without a frame? A fresh opening tells a broken graph from a broken frame.
            let again = packs::open(&job.request()).map(drop);
            record.load_only_ok = Some(again.is_ok());
            record.load_only_error = again.as_ref().err().map(ToString::to_string);
            events.send(&Event::Warmup { record });
            let outcome = match again {
                Ok(()) => "opening it without a frame works".to_string(),
                Err(e) => format!("opening it again without a frame fails too: {e}"),
            };
            Err(Fault { class: FaultClass::from(&error), error: format!("{error}; {outcome}") })
        }
    }
}

fn step(runner: &mut dyn Runner, image: &RgbFrame, prompts: &[Prompt]) -> Result<FrameMasks, RunnerError> {
    runner.step(view(image), prompts)
}

/// What is wrong with warm-up masks: nothing there, everything there (although the object does not fill the frame),
/// values that are no numbers, objects without a result.
fn mask_faults(masks: &FrameMasks, full: &[bool], pass: &str) -> Vec<String> {
    let mut faults: Vec<String> = non_finite(masks, pass).collect();
    if masks.objects.len() != full.len() {
        faults.push(format!("{} masks for {} objects ({pass} frame)", masks.objects.len(), full.len()));
    }
    for (object, &full) in masks.objects.iter().zip(full) {
        let fault = match &object.mask {
            _ if !object.finite => continue,
            // Not the mask itself: another object may have taken all of it.
            _ if !object.claimed => "empty mask",
            mask if mask.is_full() && !full => "full mask",
            _ => continue,
        };
        faults.push(format!("{fault} for object {} ({pass} frame)", object.object));
    }
    faults
}

fn non_finite<'a>(masks: &'a FrameMasks, pass: &'a str) -> impl Iterator<Item = String> + 'a {
    let objects = masks.objects.iter().filter(|object| !object.finite);
    objects.map(move |object| format!("non-finite output for object {} ({pass} frame)", object.object))
}
