//! What may be asked of a run in which a detector founds the tracks? Nobody says how many objects there are, or where.

use crate::dataset::{Dataset, Layout, Sequence, SequenceSegments, has_masks};
use crate::exit::Error;
use crate::plan::budget::Labels;
use crate::plan::resolve::Cell;
use crate::plan::settings::Settings;
use crate::score::MOST_OBJECTS;
use crate::score::panoptic::LONGEST_OF_PAPERS;
use jetbench_runners::contract::DVIS_DAQ;
use jetbench_runners::options::MAX_TRACKS;

/// Most tracks at once, where no option says so.
const MOST_TRACKS: usize = 20;

/// Do the settings go with the cells whose tracks a detector founds, and is everything there that the others need?
///
/// # Errors
/// Prompts of the user's own, or a limit of objects, beside such a cell; files of found tracks beside a prompted one; a live source without prompts for a cell that needs them.
pub(super) fn check(settings: &Settings, cells: &[Cell]) -> Result<(), Error> {
    let refuse = |what: &str, model: &str, why: &str| Err(Error::Usage(format!("{what} and model `{model}`: {why}")));
    let given = settings.prompts.as_ref().is_some_and(|prompts| !prompts.is_empty());
    if let Some(Cell { model, .. }) = cells.iter().find(|cell| cell.finds()) {
        if given {
            let why = "there a detector says where the objects are, and prompts of your own would go unused; leave the prompts out, or \
                       name a model with its prompt (NAME_points, NAME_bbox, NAME_mask)";
            return refuse("your own prompts", model, why);
        }
        if settings.backward {
            let why = "what a detector finds on the way back are other tracks, which cannot be compared one by one; leave out --backward";
            return refuse("--backward", model, why);
        }
        if settings.limits.objects.is_some() {
            let why =
                "it looks for every object, and finding those left out would count as wrong; leave out --limit-objects";
            return refuse("--limit-objects", model, why);
        }
    }
    if settings.save_masks.of_tracks()
        && let Some(Cell { model, .. }) = cells.iter().find(|cell| !cell.finds())
    {
        let flag = format!("--save-masks={}", settings.save_masks);
        return refuse(&flag, model, "these files hold found tracks, and its objects are prompted; say png or rle");
    }
    if settings.live.is_some()
        && !given
        && let Some(Cell { model, .. }) = cells.iter().find(|cell| !cell.finds())
    {
        return refuse(
            "a live source",
            model,
            "it has no masks to make prompts from; say where the objects are with --clicks",
        );
    }
    Ok(())
}

/// What a reader of the scores should know of the truth that found tracks are held against.
pub(super) fn notes(dataset: &Dataset, cells: &[Cell], settings: &Settings) -> Vec<String> {
    let mut notes = Vec::new();
    if !cells.iter().any(|cell| cell.finds()) {
        return notes;
    }
    if matches!(dataset.kind, Layout::Davis2016 | Layout::Davis2017) {
        notes.push(
            "found tracks are scored against Annotations; DAVIS's unsupervised task has annotations of its own (Annotations_unsupervised), so \
             J&F unsup is not the figure of that benchmark: for that, score masks saved with --save-masks"
                .to_string(),
        );
    }
    if let Some(segments) = dataset.sequences.iter().find_map(Sequence::segments) {
        let names = || segments.categories.iter().map(|category| category.name.as_str());
        for cell in cells.iter().filter(|cell| cell.finds() && !cell.has_class_among(names())) {
            notes.push(format!(
                "{}: no class is a category of the data set, so there is no VPQ and STQ; classes and categories are compared by name",
                cell.model
            ));
        }
        notes.extend(blank_scores(dataset, settings.loop_frames));
    }
    // Objects of folders and of panoptic truth are numbered.
    let wide = |s: &&Sequence| (s.wide_ids() && s.segments().is_none()) || s.objects.len() > MOST_OBJECTS;
    let wide: Vec<&str> = dataset.sequences.iter().filter(wide).map(|s| s.name.as_str()).collect();
    if !wide.is_empty() {
        let videos = some_of(&wide);
        notes.push(format!(
            "{videos}: where the first annotation has ids above {MOST_OBJECTS}, which DAVIS's label maps have not, a video has no J&F \
             unsup; HOTA, AP and the others count its objects"
        ));
    }
    notes
}

/// Why scores of panoptic segments stay blank, or are not what they seem. `played`: frames of a video that a run plays, where it says.
fn blank_scores(dataset: &Dataset, played: Option<usize>) -> Vec<String> {
    let mut notes = Vec::new();
    let longest = dataset.sequences.iter().map(|s| s.frames.len().min(played.unwrap_or(usize::MAX))).max().unwrap_or(0);
    if longest < LONGEST_OF_PAPERS {
        notes.push(format!(
            "no video has {LONGEST_OF_PAPERS} frames, so VPQ stays blank: it is a mean over windows of up to {LONGEST_OF_PAPERS} frames"
        ));
    }
    let odd = |s: &&Sequence| s.segments().is_some_and(SequenceSegments::first_is_thing);
    let odd: Vec<&str> = dataset.sequences.iter().filter(odd).map(|s| s.name.as_str()).collect();
    if !odd.is_empty() {
        notes.push(format!(
            "{}: the first segment of the truth is a thing, which STQ takes for a crowd, as VIPSeg's evaluator does",
            some_of(&odd)
        ));
    }
    notes
}

/// `video a`, or `videos a and 3 more`.
fn some_of(videos: &[&str]) -> String {
    match videos {
        [one] => format!("video {one}"),
        [first, more @ ..] => format!("videos {first} and {} more", more.len()),
        [] => String::new(),
    }
}

/// Is the data footage of which nobody says anything, neither masks nor prompts? Only runs without a prompted cell can do with that.
pub(super) fn is_footage(settings: &Settings, cells: &[Cell]) -> bool {
    let found = cells.iter().all(|cell| cell.finds());
    found && settings.prompts.is_none() && (settings.live.is_some() || !has_masks(&settings.data))
}

/// What a cell's label pack may be asked to name; `objects`: most of any video, where the data says how many there are. A detector founds
/// tracks without end, and so does DVIS-DAQ, so that only the labels' own bound holds for them.
pub(super) fn labelled(cell: &Cell, objects: usize, longest: u32) -> Option<Labels<'_>> {
    let pack = cell.labels.as_ref()?.dir.as_path();
    let queries = cell.pack.capabilities.max_objects.map_or(usize::MAX, |most| most as usize);
    let tracks = match (cell.finds(), &cell.detector) {
        (false, _) => objects,
        // Its slots hold so many at a time; over a video there may be more.
        (true, None) if cell.pack.family == DVIS_DAQ => usize::MAX,
        (true, None) => queries,
        (true, Some(_)) => usize::MAX,
    };
    Some(Labels { pack, tracks, longest })
}

/// Most objects at once of a cell that finds them itself; `None`: the data says how many there are.
pub(super) fn objects(settings: &Settings, cell: &Cell) -> Option<usize> {
    if cell.detector.is_none() {
        return cell.pack.capabilities.max_objects.filter(|_| cell.segments()).map(|most| most as usize);
    }
    let asked = settings.options.extra.get(MAX_TRACKS).and_then(|most| most.parse().ok());
    Some(asked.unwrap_or(MOST_TRACKS))
}
