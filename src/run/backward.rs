//! Does a track come back to where it began? When everything is measured, each valid cell tracks its videos once more, from the last frame to
//! the first, prompted with its own last masks. What comes out is agreement, not accuracy, and nothing of it is timed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jetbench_runners::files;
use jetbench_runners::types::{PromptKind, PromptShape};

use crate::dataset::{FrameName, Sequence, UserPrompt, UserPrompts};
use crate::plan::Plan;
use crate::plan::resolve::Cell;
use crate::plan::scenario::Scenario;
use crate::plan::settings::Limits;
use crate::report;
use crate::results::note::{Note, NoteKind};
use crate::results::record::{AgreementRecord, CellRecord, Verdict};
use crate::results::store::RunDir;
use crate::run::event::Job;
use crate::run::progress::Progress;
use crate::run::supervise;
use crate::score::agreement::{self, LastSeen};
use crate::text::plural;

/// What the second name of such a figure ends with.
const BACKWARD: &str = "backward in time";

/// Agreement of every valid cell's tracks with those of the way back. `before`: what was told before an interruption stands where masks are
/// gone since. A cell of which something is not known has a note that says why.
pub(super) fn measure(
    plan: &Plan,
    dir: &RunDir,
    cells: &mut [CellRecord],
    before: &[AgreementRecord],
    progress: &Progress,
    interrupt: &AtomicBool,
) -> Vec<AgreementRecord> {
    let root = dir.path.join("spool").join("backward");
    let turned = root.join("frames");
    let mut told = Vec::new();
    let mut ready = None;
    for (at, record) in cells.iter_mut().enumerate().filter(|(_, cell)| cell.verdict == Verdict::Valid) {
        progress.doing(&format!("{} {BACKWARD}", record.label()));
        let way =
            Way { plan, dir, cell: &plan.cells[at], at, turned: &turned, spool: root.join(at.to_string()), interrupt };
        let ready = ready.get_or_insert_with(|| turn(&plan.dataset.sequences, &turned, interrupt));
        let (records, why) = match ready.clone().and_then(|()| way.back(&record.label(), before)) {
            Ok(found) => found,
            Err(why) => (Vec::new(), Some(why)),
        };
        told.extend(records);
        let note = |why| Note::new(NoteKind::Agreement, format!("agreement {BACKWARD} is not known: {why}"));
        record.notes.extend(why.map(note));
    }
    // Frames of whole videos lie there. Where they cannot be removed, the spool is, when the run is done.
    let _ = std::fs::remove_dir_all(&root);
    told
}

/// Writes the frames of every video in reverse order, with the same pixels: `<index of the video>/<number>`.
fn turn(sequences: &[Sequence], to: &Path, interrupt: &AtomicBool) -> Result<(), String> {
    for (index, sequence) in sequences.iter().enumerate() {
        if interrupt.load(Ordering::SeqCst) {
            return Err("interrupted".to_string());
        }
        let folder = to.join(name(index));
        let said = |e: std::io::Error| format!("frames of {}: {e}", sequence.name);
        std::fs::create_dir_all(&folder).map_err(said)?;
        let place =
            |frame: usize, ending: &str| folder.join(format!("{}.{ending}", name(sequence.frames.len() - 1 - frame)));
        if sequence.video.is_some() {
            for decoded in sequence.reader(2) {
                let decoded = decoded.map_err(|e| e.to_string())?;
                report::png::write(&place(decoded.index, "png"), &decoded.frame).map_err(said)?;
            }
            continue;
        }
        for (frame, file) in sequence.frames.iter().enumerate() {
            let ending = file.path.extension().and_then(|e| e.to_str()).unwrap_or("png");
            let bytes = files::read(&file.path, files::LARGE).map_err(said)?;
            std::fs::write(place(frame, ending), bytes).map_err(said)?;
        }
    }
    Ok(())
}

/// Names that sort as their numbers.
fn name(number: usize) -> String {
    format!("{number:08}")
}

/// One cell's way back.
struct Way<'a> {
    plan: &'a Plan,
    dir: &'a RunDir,
    cell: &'a Cell,
    /// Its place in the plan, which is that of its first repeat's spool, too.
    at: usize,
    turned: &'a Path,
    spool: PathBuf,
    interrupt: &'a AtomicBool,
}

impl Way<'_> {
    /// What is known, and of the rest why it is not.
    fn back(&self, label: &str, before: &[AgreementRecord]) -> Result<(Vec<AgreementRecord>, Option<String>), String> {
        if !self.cell.pack.capabilities.prompts.contains(&PromptKind::Mask) {
            return Err(
                "the pack takes no masks as prompts, and its own last masks are what it is prompted with".into()
            );
        }
        let second = format!("{label}, {BACKWARD}");
        let sequences = &self.plan.dataset.sequences;
        let (mut told, mut missing) = (Vec::new(), Vec::new());
        let (mut prompts, mut seen) = (Vec::new(), Vec::new());
        for (index, sequence) in sequences.iter().enumerate() {
            match agreement::last_seen(sequence, &self.dir.spool_file(self.at, index)) {
                // Without a frame between prompt and last mask there is no way back.
                Ok(last) if last.is_empty() => {}
                Ok(last) => {
                    prompts.extend(last.iter().map(|object| given(index, sequence, object)));
                    seen.push((index, last));
                }
                Err(why) => {
                    let same = |r: &&AgreementRecord| (&r.second, &r.video) == (&second, &sequence.name);
                    let earlier: Vec<_> = before.iter().filter(same).cloned().collect();
                    if earlier.is_empty() {
                        missing.push(format!("{}: {why}", sequence.name));
                    }
                    told.extend(earlier);
                }
            }
        }
        if !seen.is_empty() {
            self.track(UserPrompts::from(prompts))?;
        }
        for (rank, (index, last)) in seen.iter().enumerate() {
            let sequence = &sequences[*index];
            let forward = self.dir.spool_file(self.at, *index);
            match agreement::with_backward(sequence, &forward, &self.spool.join(format!("{rank}.spool")), last) {
                Ok(found) => told.extend(
                    found
                        .into_iter()
                        .filter_map(|(object, ious)| agreement::record((label, &second), sequence, object, &ious)),
                ),
                Err(why) => missing.push(format!("{}: {why}", sequence.name)),
            }
        }
        let why = missing.first().map(|first| format!("{} ({first})", plural(missing.len(), "video", "videos")));
        Ok((told, why))
    }

    /// Has a worker track the turned videos; it leaves a spool for each that has a prompt.
    fn track(&self, prompts: UserPrompts) -> Result<(), String> {
        std::fs::create_dir_all(&self.spool).map_err(|e| e.to_string())?;
        let settings = &self.plan.settings;
        let job = Job {
            prompt: PromptKind::Mask,
            labels: None,
            data: self.turned.to_path_buf(),
            layout: None,
            prompts: Some(prompts),
            limits: Limits::default(),
            keep_going: true,
            loop_frames: None,
            scenario: Scenario::SingleStream,
            fps: None,
            ..Job::new(self.plan, self.cell, self.spool.clone(), Vec::new())
        };
        let patience = Duration::from_secs_f64(settings.load_timeout_s.max(settings.event_timeout_s));
        supervise::see_through(&job, &self.dir.log(), patience, self.interrupt, &mut |_| {})
    }
}

/// The prompt of the way back: the object's last mask, on that frame.
fn given(index: usize, sequence: &Sequence, object: &LastSeen) -> UserPrompt {
    UserPrompt {
        video: Some(name(index)),
        object: name(object.index),
        frame: FrameName::Index(sequence.frames.len() - 1 - object.frame),
        shape: PromptShape::Mask(object.mask.clone()),
    }
}
