//! What did a detector found, and what is it worth?

use maud::{Markup, html};

use super::shell::{folded, grid};
use crate::results::record::{CellRecord, FoundSummary, FoundTrackRecord, SequenceRecord};
use crate::text::plural;

/// Figures of a cell whose objects were found, by name.
pub(super) fn facts(found: &FoundSummary) -> Vec<(&'static str, String)> {
    let uncovered = found.unmatched.map_or_else(String::new, |n| format!(", {n} of these cover no object"));
    let tracks = format!(
        "{} founded, {} taken back, {} confirmed{uncovered}",
        plural(found.founded, "track", "tracks"),
        found.taken_back,
        found.confirmed
    );
    let mut facts = vec![("tracks", tracks)];
    let Some(s) = &found.scores else { return facts };
    let number = |v: Option<f64>| v.map_or_else(|| "–".to_string(), |v| format!("{v:.2}"));
    let [jf, j, f, ap, ap50, ar10, hota, det_a, ass_a, idf1] =
        [s.jf, s.j, s.f, s.ap, s.ap50, s.ar10, s.hota, s.det_a, s.ass_a, s.idf1].map(number);
    let objects = plural(s.objects, "object", "objects");
    facts.push((
        "J&F unsupervised",
        format!("{jf} (J {j}, F {f}) over {objects} of the first annotations, each with the track that suits it best"),
    ));
    let masks = match s.whole_masks {
        Some(true) => ", whole masks",
        Some(false) => ", each pixel with one track",
        None => "",
    };
    facts.push(("instances", format!("AP {ap}, AP50 {ap50}, AR10 {ar10}, classes left aside{masks}")));
    if let Some(categories) = s.categories {
        let [ap, ap50] = [s.class_ap, s.class_ap50].map(number);
        let categories = plural(categories, "category", "categories");
        facts.push((
            "instances by class",
            format!("AP {ap}, AP50 {ap50}, mean over {categories} of the objects{masks}"),
        ));
    }
    if let Some(p) = &s.panoptic {
        let [vpq, things, stuff, stq, aq, sq] = [p.vpq, p.vpq_things, p.vpq_stuff, p.stq, p.aq, p.sq].map(number);
        let unknown = match p.left_out {
            0 => String::new(),
            n => format!("; {} left out: class not in the dataset", plural(n, "track", "tracks")),
        };
        let categories = plural(p.categories, "category", "categories");
        facts.push((
            "panoptic segments",
            format!("VPQ {vpq} (things {things}, stuff {stuff}), STQ {stq} (AQ {aq}, SQ {sq}), {categories}{unknown}"),
        ));
    }
    let switches = s.id_switches.map_or_else(|| "–".to_string(), |n| plural(n, "id switch", "id switches"));
    facts.push(("tracking", format!("HOTA {hota} (DetA {det_a}, AssA {ass_a}), IDF1 {idf1}, {switches}")));
    facts
}

/// Every track of a cell, folded, video by video; nothing where objects are prompted.
pub(super) fn tracks(cell: &CellRecord) -> Markup {
    let found = |s: &'_ SequenceRecord| s.found.as_ref().map(|f| f.tracks.len()).unwrap_or_default();
    let count: usize = cell.sequences.iter().map(found).sum();
    if count == 0 {
        return Markup::default();
    }
    let row = |video: &str, t: &FoundTrackRecord| {
        let number = t.number.map_or_else(|| "taken back".to_string(), |n| n.to_string());
        let best = t.best_iou.map_or_else(|| "–".to_string(), |iou| format!("{iou:.2}"));
        let frames = if t.number.is_some() {
            format!("{} to {}", t.birth, t.end.saturating_sub(1))
        } else {
            t.birth.to_string()
        };
        vec![video.to_string(), number, t.label.clone(), frames, t.hits.to_string(), format!("{:.2}", t.score), best]
    };
    let rows = cell.sequences.iter().flat_map(|s| {
        let tracks = s.found.iter().flat_map(|f| &f.tracks);
        tracks.map(move |t| row(&s.video, t))
    });
    let titles = ["video", "track", "label", "frames", "detections", "score", "best IoU"];
    let table = grid("Best IoU: the largest with any object on any frame", &titles, 4, rows.collect::<Vec<_>>());
    html! { (folded(&format!("By track ({})", plural(count, "track", "tracks")), &table)) }
}
