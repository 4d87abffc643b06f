//! `jetbench score GT PRED --protocol hota | ytvis | ovis`: tracks and instances that nobody prompted.

use std::path::Path;

use super::Exports;
use crate::cli::ScoreArgs;
use crate::exit::{Error, Outcome};
use crate::report::csv::{CsvTable, columns, value};
use crate::score::on_threads;
use crate::score::tracking::{self, Hota, TrackingOptions, TrackingReport, VideoTracking};
use crate::score::tubes::{self, Averages, TubeOptions, TubeProtocol, TubeReport};
use crate::text::plural;

/// The one folder or file of predictions, when no flag is there that means nothing here.
pub(super) fn one<'a>(args: &'a ScoreArgs, protocol: &str) -> Result<&'a Path, Error> {
    let given = [
        ("--lenient", args.lenient),
        ("--keep-first-last", args.keep_first_last),
        ("--boundary-threshold", args.boundary_threshold.is_some()),
        ("--unseen", args.unseen.is_some()),
        ("--per-frame", args.per_frame),
        ("--boundary-iou", args.boundary_iou),
        ("--compat", args.compat.is_some()),
    ];
    if let Some((flag, _)) = given.into_iter().find(|(_, given)| *given) {
        return Err(Error::Usage(format!("{flag} does not apply to --protocol {protocol}")));
    }
    match args.pred.as_slice() {
        [pred] => Ok(pred),
        _ => Err(Error::Usage(format!("--protocol {protocol} takes one PRED; score each by itself"))),
    }
}

/// HOTA, CLEAR MOT and identity.
pub(super) fn tracks(args: &ScoreArgs) -> Result<Outcome, Error> {
    let options = TrackingOptions {
        truth: args.gt.clone(),
        pred: one(args, "hota")?.to_path_buf(),
        list: args.list.clone(),
        remove_void: args.remove_void,
    };
    let report = on_threads(args.threads.map(Into::into), || tracking::track(&options))??;
    let csv = || String::from_utf8_lossy(&tracking_columns().file(report.videos.iter())).into_owned();
    Exports::of(args).written(args, &report, csv, || tracks_text(&report))
}

/// Average precision.
pub(super) fn instances(args: &ScoreArgs, protocol: TubeProtocol) -> Result<Outcome, Error> {
    let name = if protocol == TubeProtocol::Ovis { "ovis" } else { "ytvis" };
    let pred = one(args, name)?.to_path_buf();
    for (flag, given) in [("--list", args.list.is_some()), ("--remove-void", args.remove_void)] {
        if given {
            return Err(Error::Usage(format!("{flag} does not apply to --protocol {name}")));
        }
    }
    let report = tubes::score(&TubeOptions { truth: args.gt.clone(), pred, protocol })?;
    let rows: Vec<(&str, &Averages)> =
        vec![("per_class", &report.per_class), ("class_agnostic", &report.class_agnostic)];
    let csv = || String::from_utf8_lossy(&tube_columns().file(rows.iter().copied())).into_owned();
    Exports::of(args).written(args, &report, csv, || instances_text(&report, name))
}

fn tracks_text(report: &TrackingReport) -> String {
    let all = &report.combined;
    let (h, c, i) = (&all.hota, &all.clear, &all.identity);
    let mean = |values: &[f64]| Hota::mean(values) * 100.0;
    let mut text = format!(
        "hota protocol, {} and {} in {}\n\
         HOTA {:.2}  DetA {:.2}  AssA {:.2}  LocA {:.2}  (of 100, mean over 19 thresholds)\n\
         IDF1 {:.2}  MOTA {:.2}  at IoU 0.5: {}, {}\n\
         objects: {} mostly tracked, {} partly, {} mostly lost\n",
        plural(all.count.objects, "object", "objects"),
        plural(all.count.tracks, "track", "tracks"),
        plural(report.videos.len(), "video", "videos"),
        mean(&h.hota),
        mean(&h.det_a),
        mean(&h.ass_a),
        mean(&h.loc_a),
        i.idf1 * 100.0,
        c.mota * 100.0,
        plural(c.id_switches as usize, "id switch", "id switches"),
        plural(c.fragments as usize, "fragment", "fragments"),
        c.mostly_tracked,
        c.partly_tracked,
        c.mostly_lost,
    );
    report.notes.iter().for_each(|note| text.push_str(&format!("note: {note}\n")));
    text
}

fn instances_text(report: &TubeReport, name: &str) -> String {
    let number = |v: Option<f64>| v.map_or("-".to_string(), |v| format!("{:.2}", v * 100.0));
    let mut text = format!(
        "{name} protocol, {} and {} in {} (of 100)\n",
        plural(report.instances, "instance", "instances"),
        plural(report.results, "result", "results"),
        plural(report.videos, "video", "videos"),
    );
    for (what, a) in [("per class", &report.per_class), ("class-agnostic", &report.class_agnostic)] {
        text.push_str(&format!(
            "{what:<14} AP {}  AP50 {}  AP75 {}  AR1 {}  AR10 {}\n",
            number(a.ap),
            number(a.ap50),
            number(a.ap75),
            number(a.ar1),
            number(a.ar10)
        ));
        if let Some(o) = &a.occluded {
            text.push_str(&format!(
                "{:<14} AP by occlusion: light {}  medium {}  heavy {}\n",
                "",
                number(o.AP_light),
                number(o.AP_medium),
                number(o.AP_heavy)
            ));
        }
    }
    report.notes.iter().for_each(|note| text.push_str(&format!("note: {note}\n")));
    text
}

/// Columns of `score --protocol hota --export-csv`.
pub fn tracking_columns<'a>() -> CsvTable<&'a VideoTracking> {
    let columns = columns! {
        &'a VideoTracking;
        "video", "", "name of the video" => |v| value(&v.video);
        "frames", "", "frames" => |v| value(v.score.count.frames);
        "objects", "", "objects of the truth" => |v| value(v.score.count.objects);
        "tracks", "", "tracks" => |v| value(v.score.count.tracks);
        "hota", "0 to 1", "HOTA, mean over 19 thresholds" => |v| value(Hota::mean(&v.score.hota.hota));
        "det_a", "0 to 1", "detection accuracy, likewise" => |v| value(Hota::mean(&v.score.hota.det_a));
        "ass_a", "0 to 1", "association accuracy, likewise" => |v| value(Hota::mean(&v.score.hota.ass_a));
        "loc_a", "0 to 1", "mean IoU of the pairs, likewise" => |v| value(Hota::mean(&v.score.hota.loc_a));
        "idf1", "0 to 1", "F1 of identities" => |v| value(v.score.identity.idf1);
        "mota", "up to 1", "CLEAR's accuracy" => |v| value(v.score.clear.mota);
        "motp", "0 to 1", "CLEAR's precision: mean IoU of the pairs" => |v| value(v.score.clear.motp);
        "id_switches", "", "times an object's track changed" => |v| value(v.score.clear.id_switches);
        "fragments", "", "times an object's track was broken off and taken up again" => |v| value(v.score.clear.fragments);
        "mostly_tracked", "", "objects tracked on more than 80 % of their frames" => |v| value(v.score.clear.mostly_tracked);
        "mostly_lost", "", "objects tracked on less than 20 %" => |v| value(v.score.clear.mostly_lost);
        "tp", "", "pairs at IoU 0.5" => |v| value(v.score.clear.tp);
        "fn", "", "masks of the truth without a partner" => |v| value(v.score.clear.fn_);
        "fp", "", "predicted masks without a partner" => |v| value(v.score.clear.fp);
    };
    CsvTable { file: "jetbench score --protocol hota --export-csv", row: "One row per video.", columns }
}

/// Columns of `score --protocol ytvis | ovis --export-csv`.
pub fn tube_columns<'a>() -> CsvTable<(&'a str, &'a Averages)> {
    const NONE: &str = "the truth has no such instance";
    const OVIS: &str = "the protocol is not `ovis`, or the truth has no such instance";
    let columns = columns! {
        (&'a str, &'a Averages);
        "categories", "", "`per_class`: a result must name the right one; `class_agnostic`: they are left aside" => |r| value(r.0);
        "ap", "0 to 1", "AP over IoU 0.50 to 0.95", NONE => |r| maybe_number(r.1.ap);
        "ap50", "0 to 1", "AP at IoU 0.50", NONE => |r| maybe_number(r.1.ap50);
        "ap75", "0 to 1", "AP at IoU 0.75", NONE => |r| maybe_number(r.1.ap75);
        "ap_small", "0 to 1", "AP of instances below 128² pixels", NONE => |r| maybe_number(r.1.ap_small);
        "ap_medium", "0 to 1", "AP of those between", NONE => |r| maybe_number(r.1.ap_medium);
        "ap_large", "0 to 1", "AP of those above 256² pixels", NONE => |r| maybe_number(r.1.ap_large);
        "ar1", "0 to 1", "recall with one result per video", NONE => |r| maybe_number(r.1.ar1);
        "ar10", "0 to 1", "with ten", NONE => |r| maybe_number(r.1.ar10);
        "ar100", "0 to 1", "with a hundred", NONE => |r| maybe_number(r.1.ar100);
        "ap_light", "0 to 1", "AP of lightly occluded instances", OVIS => |r| maybe_number(r.1.occluded.as_ref().and_then(|o| o.AP_light));
        "ap_moderate", "0 to 1", "AP of moderately occluded ones", OVIS => |r| maybe_number(r.1.occluded.as_ref().and_then(|o| o.AP_medium));
        "ap_heavy", "0 to 1", "AP of heavily occluded ones", OVIS => |r| maybe_number(r.1.occluded.as_ref().and_then(|o| o.AP_heavy));
    };
    CsvTable { file: "jetbench score --protocol ytvis --export-csv", row: "Two rows.", columns }
}

pub(super) fn maybe_number(number: Option<f64>) -> String {
    number.map_or_else(String::new, |n| format!("{n:?}"))
}
