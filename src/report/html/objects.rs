//! How did each video and each object fare? Worst first, so that what needs a look stands on top.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::shell::{folded, grid};
use crate::judge::stats;
use crate::results::record::{CellRecord, SequenceRecord, TakenRecord};
use crate::score;
use crate::text::{plural, show};

/// Both tables of a cell, folded; nothing where no video was finished.
pub(super) fn tables(cell: &CellRecord) -> Markup {
    if cell.sequences.is_empty() {
        return Markup::default();
    }
    let objects: usize = cell.sequences.iter().map(|s| s.objects.len()).sum();
    html! {
        (folded(&format!("By video ({})", plural(cell.sequences.len(), "video", "videos")), &videos(cell)))
        @if objects > 0 && cell.detector.is_none() {
            (folded(&format!("By object ({})", plural(objects, "object", "objects")), &by_object(cell)))
        }
    }
}

fn one_decimal(score: Option<f64>) -> String {
    score.map_or_else(|| "–".to_string(), |v| format!("{v:.1}"))
}

/// J&F over the objects of a video; where a detector found them, of the unsupervised task.
fn jf(sequence: &SequenceRecord) -> Option<f64> {
    if let Some(scores) = sequence.found.as_ref().and_then(|found| found.scores.as_ref()) {
        return score::mean(&scores.proposals.iter().map(|p| (p.j + p.f) * 50.0).collect::<Vec<_>>());
    }
    score::mean(&sequence.objects.iter().filter_map(|o| o.jf).collect::<Vec<_>>())
}

/// Rows by their scores, worst first; those without one last.
fn worst_first(mut rows: Vec<(Option<f64>, Vec<String>)>) -> Vec<Vec<String>> {
    rows.sort_by(|a, b| a.0.is_none().cmp(&b.0.is_none()).then(a.0.unwrap_or(0.0).total_cmp(&b.0.unwrap_or(0.0))));
    rows.into_iter().map(|row| row.1).collect()
}

fn videos(cell: &CellRecord) -> Markup {
    let mut repeats: BTreeMap<&str, Vec<&SequenceRecord>> = BTreeMap::new();
    for sequence in cell.runs().flat_map(|(_, sequences)| sequences) {
        repeats.entry(&sequence.video).or_default().push(sequence);
    }
    let row = |first: &SequenceRecord| {
        let all = repeats.get(first.video.as_str()).map_or(&[][..], Vec::as_slice);
        let fps = |s: &&SequenceRecord| (s.wall_ms > 0.0).then(|| s.frames.len() as f64 * 1000.0 / s.wall_ms);
        let fps = stats::median(&all.iter().filter_map(fps).collect::<Vec<_>>());
        let latencies = all.iter().flat_map(|s| &s.frames).map(|f| f.latency_ms).collect::<Vec<_>>();
        let latency = stats::latency(&latencies);
        let counts = [first.objects.len(), first.frames.len()].map(|n| n.to_string());
        let figures =
            [one_decimal(jf(first)), show(fps), show(latency.map(|l| l.p50_ms)), show(latency.map(|l| l.max_ms))];
        (jf(first), [first.video.clone()].into_iter().chain(counts).chain(figures).collect())
    };
    let caption = match cell.repeats.len() {
        0 => "Worst J&F first".to_string(),
        n => format!("Worst J&F first; FPS is the median over {n} repeats, p50 and max are over their frames together"),
    };
    let jf = if cell.detector.is_some() { "J&F unsup" } else { "J&F" };
    let titles = ["video", "objects", "frames", jf, "FPS wall", "p50, ms", "max, ms"];
    grid(&caption, &titles, 1, worst_first(cell.sequences.iter().map(row).collect()))
}

/// The track that an object took.
fn track(taken: Option<TakenRecord>) -> String {
    let Some(taken) = taken else { return "–".to_string() };
    let Some(track) = taken.track else { return "none".to_string() };
    let iou = taken.iou.map_or_else(String::new, |iou| format!(", IoU {iou:.2}"));
    let end = taken.end.map_or_else(String::new, |end| format!(", to frame {}", end.saturating_sub(1)));
    format!("{track}{iou}{end}")
}

fn by_object(cell: &CellRecord) -> Markup {
    let objects = cell.sequences.iter().flat_map(|s| s.objects.iter().map(move |o| (s, o)));
    let finds = cell.summary.as_ref().is_some_and(|s| s.taken.is_some());
    let rows = objects.map(|(sequence, object)| {
        let lowest = object.per_frame.iter().filter(|f| f.counted).min_by(|a, b| a.j.total_cmp(&b.j));
        let lowest = lowest.map_or_else(|| "–".to_string(), |f| format!("{:.1} (frame {})", f.j, f.frame));
        let names = [sequence.video.clone(), object.object.clone()];
        let figures = [object.jf, object.j, object.f].map(one_decimal);
        let row = names.into_iter().chain([object.frames_scored.to_string()]).chain(figures).chain([lowest]);
        (object.jf, row.chain(finds.then(|| track(object.taken))).collect())
    });
    let mut titles = vec!["video", "object", "frames scored", "J&F", "J", "F", "lowest J"];
    titles.extend(finds.then_some("track"));
    grid("Worst J&F first; a dash: the protocol counts no frame of it", &titles, 2, worst_first(rows.collect()))
}
