//! From a worker's spool file and the ground truth to the record of one sequence. Runs in the parent after the worker
//! has gone, on all cores: while the worker runs, this would steal the bandwidth and heat that are being measured.

mod found;
mod paint;
mod picture;

pub use self::picture::{lost, switched};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jetbench_runners::panoptic::PanopticSpec;
use jetbench_runners::types::{FoundTracks, Mask, TakenTracks, TrackLabels};
use rayon::prelude::*;

use self::found::Tracks;
use self::paint::Painter;
use crate::dataset::mask_lines::MaskLinesWriter;
use crate::dataset::panoptic_files::{FRAMES, PanopticWriter};
use crate::dataset::track_files::{TrackForm, TrackWriter};
use crate::dataset::{DataError, Layout, MaskWriter, Object, RgbFrame, Sequence};
use crate::plan::mask_files::MaskFiles;
use crate::plan::overlays::Overlays;
use crate::report::movie::Movie;
use crate::results::record::{
    FrameRecord, FrameScoreRecord, LabelsRecord, LiveRecord, ObjectRecord, SequenceRecord, StallRecord, TakenRecord,
    TrackRecord, shown_label,
};
use crate::run::prompt::GivenPrompt;
use crate::run::spool::{Reader, SpooledFrame};
use crate::score::unprompted::Compared;
use crate::score::{BOUNDARY_THRESHOLD, FrameScore, FrameScorer, MoseFrame, MoseScore, Protocol};

/// A sequence that a worker finished.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Finished {
    /// Index in the plan.
    pub index: usize,
    /// Video name.
    pub video: String,
    /// Frames tracked.
    pub frames: usize,
    /// Wall time in the worker, decode included, milliseconds.
    pub wall_ms: f64,
    /// Begin and end on the monotonic clock, nanoseconds.
    #[serde(default)]
    pub span: (u64, u64),
    /// When the worker stood still.
    #[serde(default)]
    pub stalls: Vec<StallRecord>,
    /// The prompts that were given.
    #[serde(default)]
    pub prompts: Vec<GivenPrompt>,
    /// Its spool file.
    pub spool: PathBuf,
    /// As [`SequenceRecord::frames_sha256`].
    #[serde(default)]
    pub frames_sha256: String,
    /// As [`SequenceRecord::live`].
    #[serde(default)]
    pub live: Option<LiveRecord>,
    /// The tracks that a detector founded, their frames those of the video.
    #[serde(default)]
    pub found: Option<FoundTracks>,
    /// The tracks that prompted objects took, their frames those of the video.
    #[serde(default)]
    pub taken: Option<TakenTracks>,
    /// What its objects are called.
    #[serde(default)]
    pub labels: Option<TrackLabels>,
}

/// What stands beside an object in a picture, by its number in the runner.
type Names = BTreeMap<u32, String>;

fn names_of(said: Option<&TrackLabels>, extras: &Extras) -> Names {
    let objects = said.into_iter().flat_map(|labels| &labels.objects);
    objects.map(|of| (of.object, shown_label(of.best, &extras.labels))).collect()
}

/// One frame's share of the result.
struct GradedFrame {
    /// Index in the (possibly looped) video.
    index: u32,
    /// Its times; `None` when it was dropped.
    frame: Option<FrameRecord>,
    /// Per annotated object.
    scores: Vec<FrameObject>,
    /// Per tracked object where there is no truth, or a detector founded it: id, what was said of it.
    tracks: Vec<(u32, TrackRecord)>,
    /// Where a detector founded the tracks: an annotated frame, compared with its truth.
    compared: Option<Compared>,
    non_finite: Vec<String>,
    /// It with everything drawn on it, for the movie.
    drawn: Option<RgbFrame>,
    /// What could not be written of it, by output.
    unwritten: Vec<(Output, DataError)>,
}

/// Mask and object score by object.
type Predictions = BTreeMap<u32, (Mask, f32)>;

/// One annotated object on one frame.
struct FrameObject {
    /// Index in the sequence.
    index: usize,
    score: FrameScore,
    mosev2: MoseFrame,
    /// Object-score logit.
    logit: Option<f32>,
}

/// What may be written beside the scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Masks,
    Overlays,
}

/// What is written beside the scores; the default: nothing.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// Predicted masks, in which files.
    pub masks: MaskFiles,
    /// Number of the video, from 1, among those of all parts.
    pub number: usize,
    /// Their root: `<video>/…` in the dataset's own layout, `<video>.rle.jsonl`, or files of tracks.
    pub masks_root: PathBuf,
    /// Frames with everything drawn on them, in which files.
    pub overlays: Overlays,
    /// Their root: `<video>/<frame>.png`, or `<video>.mp4`.
    pub overlays_root: PathBuf,
    /// Names of a detector's classes.
    pub classes: Vec<String>,
    /// Names of a label pack's classes.
    pub labels: Vec<String>,
    /// What the model's classes are in panoptic files.
    pub panoptic: PanopticSpec,
    /// Categories of the video's objects, by their names in the dataset; `None`: nothing is scored by class.
    pub categories: Option<BTreeMap<String, String>>,
    /// Do found tracks keep pixels that several claim where the figure or file knows no label maps?
    pub overlaps: bool,
}

/// A graded sequence.
#[derive(Clone, Debug)]
pub struct Graded {
    /// Its record.
    pub record: SequenceRecord,
    /// Outputs that are missing or incomplete, each as a sentence; they take nothing from the scores.
    pub missing: Vec<String>,
}

/// Scores a finished sequence, and writes masks and overlays where wanted; calls `graded` after each frame, from any thread.
///
/// # Errors
/// An annotation or the spool file cannot be read: names the file.
pub fn grade(
    sequence: &Sequence,
    finished: &Finished,
    layout: Layout,
    extras: &Extras,
    graded: &(dyn Fn() + Sync),
) -> Result<Graded, DataError> {
    let reader = Reader::open(&finished.spool).map_err(|e| DataError(e.to_string()))?;
    fits(&reader, sequence, &finished.spool)?;
    let tracks = finished.found.as_ref();
    let said = finished.labels.as_ref();
    let names = names_of(said, extras);
    let tracks = tracks.map(|found| Tracks::new(sequence, found, said, extras, layout)).transpose()?;
    let mut unwritten = Vec::new();
    let shown = tracks.as_ref().map_or(sequence, |tracks| &tracks.shown);
    let writer = Writer::new(extras, layout, shown, finished.frames, tracks.as_ref()).unwrap_or_else(|e| {
        unwritten.push((Output::Masks, e));
        None
    });
    let painter = Painter::new(extras, sequence, &finished.prompts, &names).unwrap_or_else(|e| {
        unwritten.push((Output::Overlays, e));
        None
    });
    let movie = painter.as_ref().and_then(|painter| painter.movie.clone());
    let movie = movie.map(|path| Movie::create(&path, sequence.fps));
    let (writer_of, painter_of) = (writer.as_ref(), painter.as_ref());
    let named = |id: u32| shown.objects.iter().find(|object| object.id == id).map(|object| object.name.clone());
    let labels = finished.labels.as_ref().map(|said| LabelsRecord::of(said, &extras.labels, named));
    let grading = Grading {
        sequence,
        tracks: tracks.as_ref(),
        writer: writer_of,
        painter: painter_of,
        overlaps: extras.overlaps,
    };
    let mut frames = graded_frames(&grading, reader, movie, graded)?;
    if frames.len() != finished.frames {
        return Err(DataError(format!(
            "{}: {} frames, the worker counted {}",
            finished.spool.display(),
            frames.len(),
            finished.frames
        )));
    }
    unwritten.extend(frames.iter_mut().flat_map(|f| std::mem::take(&mut f.unwritten)));
    unwritten.extend(writer.and_then(|writer| writer.finish().err()).map(|e| (Output::Masks, e)));
    let missing = missing(&unwritten, &sequence.name);
    let non_finite = frames.iter_mut().flat_map(|f| std::mem::take(&mut f.non_finite)).collect();
    let found = tracks.map(|tracks| {
        let mut said: BTreeMap<u32, Vec<TrackRecord>> = BTreeMap::new();
        for (id, track) in frames.iter_mut().flat_map(|f| std::mem::take(&mut f.tracks)) {
            said.entry(id).or_default().push(track);
        }
        let compared = frames.iter_mut().filter_map(|f| f.compared.take()).collect();
        tracks.record(&sequence.name, compared, said)
    });
    let found = found.transpose()?;
    let objects = sequence.objects.iter().enumerate().map(|(i, object)| {
        let prompt = finished.prompts.iter().find(|p| p.object == object.id);
        let taken = finished.taken.iter().flat_map(|taken| &taken.objects).find(|taken| taken.object == object.id);
        ObjectRecord {
            taken: taken.map(TakenRecord::from),
            ..object_record(i, object, prompt, &frames, layout.protocol())
        }
    });
    let record = SequenceRecord {
        video: sequence.name.clone(),
        width: sequence.width,
        height: sequence.height,
        wall_ms: finished.wall_ms,
        stalls: finished.stalls.clone(),
        dropped: frames.iter().filter(|f| f.frame.is_none()).map(|f| f.index).collect(),
        objects: objects.collect(),
        frames: frames.into_iter().filter_map(|f| f.frame).collect(),
        non_finite,
        frames_sha256: finished.frames_sha256.clone(),
        live: finished.live.clone(),
        found,
        dropped_births: finished.taken.as_ref().map(|taken| taken.dropped),
        labels,
        ..SequenceRecord::default()
    };
    Ok(Graded { record, missing })
}

/// Are the masks of the size of the video's frames?
fn fits(masks: &Reader, sequence: &Sequence, spool: &Path) -> Result<(), DataError> {
    if (masks.width, masks.height) == (sequence.width, sequence.height) {
        return Ok(());
    }
    Err(DataError(format!(
        "{}: masks of {}x{} pixels, the frames of video {} are {}x{}",
        spool.display(),
        masks.width,
        masks.height,
        sequence.name,
        sequence.width,
        sequence.height
    )))
}

/// One sentence for each output of which something could not be written, with the first reason.
fn missing(unwritten: &[(Output, DataError)], video: &str) -> Vec<String> {
    let outputs = [(Output::Masks, "masks"), (Output::Overlays, "overlays")];
    let sentences = outputs.into_iter().filter_map(|(output, name)| {
        let (_, first) = unwritten.iter().find(|(which, _)| *which == output)?;
        Some(format!("the {name} of video {video} are missing or incomplete: {first}"))
    });
    sentences.collect()
}

/// Writes the predicted masks of one sequence.
enum Writer {
    Png(MaskWriter),
    Rle(MaskLinesWriter),
    Tracks(TrackWriter),
    Panoptic(PanopticWriter),
}

impl Writer {
    /// `None`: they are not wanted.
    fn new(
        extras: &Extras,
        layout: Layout,
        sequence: &Sequence,
        frames: usize,
        tracks: Option<&Tracks<'_>>,
    ) -> Result<Option<Writer>, DataError> {
        let root = &extras.masks_root;
        Ok(match extras.masks {
            MaskFiles::Off => None,
            MaskFiles::Png => Some(Writer::Png(MaskWriter::new(root, layout, sequence)?)),
            MaskFiles::Rle => Some(Writer::Rle(MaskLinesWriter::new(root, sequence, frames)?)),
            MaskFiles::Mots => Some(Writer::Tracks(TrackWriter::new(root, sequence, TrackForm::Mots)?)),
            MaskFiles::YoutubeVis => {
                let form = TrackForm::YoutubeVis(extras.number, tracks.map(Tracks::instances).unwrap_or_default());
                Some(Writer::Tracks(TrackWriter::new(root, sequence, form)?))
            }
            MaskFiles::Vipseg => {
                let tracks = tracks.map(|tracks| tracks.segments(&extras.panoptic)).unwrap_or_default();
                Some(Writer::Panoptic(PanopticWriter::new(root, FRAMES, sequence, &tracks)?))
            }
        })
    }

    fn write(&self, name: &str, masks: &[Option<&Mask>]) -> Result<(), DataError> {
        match self {
            Writer::Png(writer) => writer.write(name, masks),
            Writer::Rle(writer) => writer.write(name, masks),
            Writer::Tracks(writer) => writer.write(name, masks),
            Writer::Panoptic(writer) => writer.write(name, masks),
        }
    }

    /// May the masks of two found tracks have a pixel in common in its files?
    fn takes_overlaps(&self) -> bool {
        matches!(self, Writer::Tracks(writer) if writer.takes_overlaps())
    }

    fn finish(self) -> Result<(), DataError> {
        match self {
            Writer::Png(_) => Ok(()),
            Writer::Rle(writer) => writer.finish(),
            Writer::Tracks(writer) => writer.finish(),
            Writer::Panoptic(writer) => writer.finish(),
        }
    }
}

/// What every frame of a sequence is graded with.
struct Grading<'a> {
    sequence: &'a Sequence,
    /// Where a detector founded them.
    tracks: Option<&'a Tracks<'a>>,
    writer: Option<&'a Writer>,
    painter: Option<&'a Painter<'a>>,
    /// As [`Extras::overlaps`].
    overlaps: bool,
}

/// All frames in order, each graded on one of all cores, and `graded` called after each; drawn ones go into the movie.
fn graded_frames(
    grading: &Grading<'_>,
    reader: Reader,
    movie: Option<Movie>,
    graded: &(dyn Fn() + Sync),
) -> Result<Vec<GradedFrame>, DataError> {
    let Grading { sequence, painter, .. } = grading;
    // A video file is decoded forwards, so its frames are taken before the work is spread over threads.
    let mut video = sequence.video.as_ref().filter(|_| painter.is_some()).map(|_| sequence.picker());
    let mut taken = reader.map(|frame| {
        let frame = frame.map_err(|e| DataError(e.to_string()))?;
        let index = frame.times.frame as usize;
        let first_pass = index < sequence.frames.len();
        let image = video.as_mut().filter(|_| first_pass).map(|v| v.frame(index));
        Ok((frame, image))
    });
    let grade = |taken: Result<_, DataError>| {
        let (frame, image) = taken?;
        let done = grade_frame(grading, &frame, image);
        graded();
        done
    };
    let Some(mut movie) = movie else {
        let mut frames: Vec<GradedFrame> = taken.par_bridge().map(grade).collect::<Result<_, _>>()?;
        frames.sort_by_key(|f| f.index);
        return Ok(frames);
    };
    // A movie takes frames in order; so many are in memory at once.
    let at_once = 2 * rayon::current_num_threads();
    let mut frames: Vec<GradedFrame> = Vec::new();
    let mut whole = Ok(());
    loop {
        let part: Vec<_> = taken.by_ref().take(at_once).collect();
        if part.is_empty() {
            break;
        }
        let mut part: Vec<GradedFrame> = part.into_par_iter().map(grade).collect::<Result<_, _>>()?;
        for drawn in part.iter_mut().filter_map(|frame| frame.drawn.take()) {
            whole = whole.and_then(|()| movie.push(&drawn));
        }
        frames.extend(part);
    }
    let whole = whole.and_then(|()| movie.finish().map(|_| ()));
    if let (Err(e), Some(last)) = (whole, frames.last_mut()) {
        last.unwritten.push((Output::Overlays, DataError(e.to_string())));
    }
    Ok(frames)
}

/// What was predicted of a frame.
struct Predicted {
    /// The masks with their object scores: where the truth is a label map or tracks were found, a pixel belongs to one at most.
    masks: Predictions,
    /// The same before pixels that several found tracks claim were given to one; `None`: no two claim the same, or they may not keep them.
    whole: Option<Predictions>,
    /// Where outputs were not finite.
    non_finite: Vec<String>,
}

fn predictions(grading: &Grading<'_>, spooled: &SpooledFrame) -> Result<Predicted, DataError> {
    let Grading { sequence, tracks, .. } = grading;
    let index = spooled.times.frame as usize;
    let (width, height) = (sequence.width, sequence.height);
    let mut masks = Predictions::new();
    let mut non_finite = Vec::new();
    for object in &spooled.objects {
        let mask = Reader::mask(width, height, object)
            .map_err(|e| DataError(format!("video {}, frame {index}: {e}", sequence.name)))?;
        masks.insert(object.object, (mask, object.object_score));
        if !object.finite {
            non_finite.push(format!("video {}, frame {index}, object {}", sequence.name, object.object));
        }
    }
    if let Some(tracks) = tracks {
        masks.retain(|id, _| tracks.holds(*id, index));
    }
    let mut whole = (tracks.is_some() && grading.overlaps).then(|| masks.clone());
    if sequence.exclusive() || tracks.is_some() {
        // What is scored is what a label map can hold. Runners that know the option `overlaps` have settled this.
        let mut taken = Mask::empty(width, height);
        for (mask, _) in masks.values_mut() {
            mask.subtract(&taken);
            taken.unite(mask);
        }
    }
    let areas = |masks: &Predictions| masks.values().map(|(mask, _)| mask.area()).sum::<u64>();
    whole = whole.filter(|whole| areas(whole) > areas(&masks));
    Ok(Predicted { masks, whole, non_finite })
}

fn grade_frame(
    grading: &Grading<'_>,
    spooled: &SpooledFrame,
    image: Option<Result<RgbFrame, DataError>>,
) -> Result<GradedFrame, DataError> {
    let Grading { sequence, tracks: founded, writer, painter, .. } = grading;
    let index = spooled.times.frame as usize;
    let (width, height) = (sequence.width, sequence.height);
    let Predicted { masks: predicted, whole, non_finite } = predictions(grading, spooled)?;
    // A looped clip is longer than its annotations; only the first pass is scored and written.
    let first_pass = sequence.frames.get(index);
    let annotated: Vec<(usize, &Object)> = match first_pass {
        Some(_) if founded.is_none() => {
            sequence.objects.iter().enumerate().filter(|(_, o)| o.annotated.binary_search(&index).is_ok()).collect()
        }
        _ => Vec::new(),
    };
    let wanted: Vec<Object> = annotated.iter().map(|(_, o)| (*o).clone()).collect();
    let truths = if wanted.is_empty() { Vec::new() } else { sequence.truths(&wanted, index)? };
    let absent = Mask::empty(width, height);
    let mut scorer = FrameScorer::new(width, height, BOUNDARY_THRESHOLD);
    let scores: Vec<FrameObject> = annotated
        .iter()
        .zip(&truths)
        .map(|(&(i, object), truth)| {
            let live = predicted.get(&object.id);
            let (counts, mosev2) = scorer.mosev2(live.map_or(&absent, |(mask, _)| mask), truth);
            let logit = live.map(|(_, logit)| *logit).filter(|logit| logit.is_finite());
            FrameObject { index: i, score: counts.score(), mosev2, logit }
        })
        .collect();
    let compared = match (founded, first_pass) {
        (Some(tracks), Some(_)) => tracks.compare(sequence, index, &predicted, whole.as_ref(), scorer)?,
        _ => None,
    };
    let untold = (sequence.truth_source().is_none() || founded.is_some()) && first_pass.is_some() && !spooled.dropped;
    let track = |(object, (mask, logit)): (&u32, &(Mask, f32))| {
        let object_score = Some(*logit).filter(|logit| logit.is_finite());
        (*object, TrackRecord { frame: spooled.times.frame, object_score, area: mask.area() })
    };
    let tracks = predicted.iter().filter(|_| untold).map(track).collect();
    let mut unwritten = Vec::new();
    let shown = founded.map_or(*sequence, |tracks| &tracks.shown);
    if let (Some(writer), Some(file)) = (writer, first_pass) {
        let written = whole.as_ref().filter(|_| writer.takes_overlaps()).unwrap_or(&predicted);
        let masks: Vec<Option<&Mask>> =
            shown.objects.iter().map(|o| written.get(&o.id).map(|(mask, _)| mask)).collect();
        unwritten.extend(writer.write(&file.name, &masks).err().map(|e| (Output::Masks, e)));
    }
    let mut drawn = None;
    if let (Some(painter), Some(file)) = (painter, first_pass) {
        let truths: BTreeMap<usize, &Mask> = annotated.iter().map(|(i, _)| *i).zip(&truths).collect();
        let image = image.unwrap_or_else(|| sequence.picker().frame(index));
        let painted = image.and_then(|image| match founded {
            Some(tracks) => paint::found(tracks, &image, &predicted),
            None => painter.draw(sequence, index, &image, &predicted, &truths, &scores),
        });
        match painted.and_then(|image| painter.keep(&file.name, image)) {
            Ok(image) => drawn = image,
            Err(e) => unwritten.push((Output::Overlays, e)),
        }
    }
    Ok(GradedFrame {
        index: spooled.times.frame,
        frame: (!spooled.dropped).then(|| spooled.times.record(spooled.objects.len() as u32)),
        scores,
        tracks,
        compared,
        non_finite,
        drawn,
        unwritten,
    })
}

fn object_record(
    index: usize,
    object: &Object,
    prompt: Option<&GivenPrompt>,
    frames: &[GradedFrame],
    protocol: Protocol,
) -> ObjectRecord {
    let scored: Vec<(u32, &FrameObject)> =
        frames.iter().flat_map(|f| f.scores.iter().filter(|s| s.index == index).map(|s| (f.index, s))).collect();
    let scores: Vec<FrameScore> = scored.iter().map(|s| s.1.score).collect();
    let mosev2: Vec<MoseFrame> = scored.iter().map(|s| s.1.mosev2).collect();
    let tracks = frames.iter().flat_map(|f| f.tracks.iter().filter(|t| t.0 == object.id).map(|t| t.1));
    let counted = protocol.counted(&scores, false);
    let total = protocol.aggregate(&scores);
    ObjectRecord {
        object: object.name.clone(),
        prompt_frame: prompt.map_or(object.prompt_frame as u32, |p| p.frame),
        prompt: prompt.map(|p| p.prompt.clone()),
        frames_scored: total.map_or(0, |t| t.counted as u32),
        j: total.map(|t| t.j),
        f: total.map(|t| t.f),
        jf: total.map(|t| t.jf()),
        // Its first and last frame are never evaluated.
        mosev2: mosev2.get(1..mosev2.len().saturating_sub(1)).and_then(MoseScore::of),
        per_frame: scored
            .into_iter()
            .zip(counted)
            .map(|((frame, FrameObject { score, logit, .. }), counted)| FrameScoreRecord {
                frame,
                j: score.j * 100.0,
                f: score.f * 100.0,
                counted,
                visible: !score.truth_empty,
                object_score: *logit,
            })
            .collect(),
        track: tracks.collect(),
        taken: None,
    }
}
