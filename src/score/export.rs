//! Scores as text: JSON, CSV, and the references' own result files byte for byte; tables for readers are in `tables`.

mod table;
pub mod tables;

pub use self::table::Table;

use super::directory::{DavisScore, FrameRow, GroupScore, LateScore, MoseColumns, ObjectScore, ScoreReport};
use super::protocol::Protocol;
use crate::report::csv::{CsvTable, columns, line, maybe, value};

impl ScoreReport {
    /// CSV: a row per object (or per object and evaluated frame, when the report has them), header first. Floats in
    /// their shortest round-trip form, on the protocol's scale; what does not apply is empty.
    pub fn to_csv(&self) -> String {
        let frames: Vec<_> =
            self.objects.iter().flat_map(|o| o.per_frame.iter().map(move |frame| (self, o, frame))).collect();
        let bytes = match frames.is_empty() {
            true => object_columns().file(self.objects.iter().map(|o| (self, o))),
            false => frame_columns().file(frames),
        };
        String::from_utf8(bytes).unwrap_or_else(|e| unreachable!("UTF-8 in, UTF-8 out: {e}"))
    }

    /// `results.csv` as `sav_evaluator.py` and vos-benchmark write it, byte for byte; `None` under other protocols,
    /// whose tools write other files.
    pub fn to_sav_results(&self) -> Option<String> {
        if !matches!(self.protocol, Protocol::Sav | Protocol::Vos) {
            return None;
        }
        let names = self.evaluated.iter().map(|v| v.chars().count());
        let width = names.chain(["Global score".len()]).max().unwrap_or(0);
        let GroupScore { j, f, jf, .. } = &self.global;
        let mut text = format!(
            "{:<width$},obj,  J&F,    J,    F\n{:<width$},   , {jf:.1}, {j:.1}, {f:.1}\n",
            "sequence", "Global score"
        );
        for o in &self.objects {
            // Ids of label maps are integers in the references, folder names are text; each is padded in its own way.
            let id = if o.folder { format!("{:0<3}", o.object) } else { format!("{:0>3}", o.object) };
            text += &format!("{:<width$},{id}, {:>4.1}, {:>4.1}, {:>4.1}\n", o.video, o.jf, o.j, o.f);
        }
        Some(text)
    }

    /// `global_results-<set>.csv` and `per-sequence_results-<set>.csv` as the DAVIS 2017 tool writes them, for either of its tasks;
    /// `None` under another protocol.
    pub fn to_davis_results(&self) -> Option<(String, String)> {
        if !matches!(self.protocol, Protocol::Davis2017Semi | Protocol::Davis2017Unsup) {
            return None;
        }
        let g = &self.global;
        let d = g.davis.as_ref()?;
        let global = format!(
            "J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay\n{},{},{},{},{},{},{}\n",
            three(g.jf),
            three(g.j),
            three(d.j_recall),
            three(d.j_decay),
            three(g.f),
            three(d.f_recall),
            three(d.f_decay)
        );
        let mut sequences = String::from("Sequence,J-Mean,F-Mean\n");
        for o in &self.objects {
            let row = line([format!("{}_{}", o.video, o.object), three(o.j), three(o.f)]);
            sequences += &String::from_utf8_lossy(&row);
        }
        Some((global, sequences))
    }

    /// The same as VOST's tool writes them; `None` under another protocol.
    pub fn to_vost_results(&self) -> Option<(String, String)> {
        let (d, l) = (self.global.davis.as_ref()?, self.global.late.as_ref()?);
        let values = [self.global.j, d.j_recall, d.j_decay, l.j_tr, l.j_tr_recall, l.j_tr_decay].map(three);
        let global = format!("J-Mean,J-Recall,J-Decay,J_last-Mean,J_last-Recall,J_last-Decay\n{}\n", values.join(","));
        let mut sequences = String::from("Sequence,J-Mean,J_last-Mean\n");
        for o in &self.objects {
            let row = line([format!("{}_{}", o.video, o.object), three(o.j), three(o.late?.j_tr)]);
            sequences += &String::from_utf8_lossy(&row);
        }
        Some((global, sequences))
    }

    /// `scores.txt` as MOSEv2's `score.py` writes it; `None` under another protocol.
    pub fn to_mosev2_results(&self) -> Option<String> {
        let (g, more) = (&self.global, self.global.mosev2.as_ref()?);
        // numpy's rounding: to the nearest whole number of hundredths, halves to even.
        let two = |value: f64| (value * 100.0).round_ties_even() / 100.0;
        let (gone, back) = (more.jf_disappear.unwrap_or(f64::NAN), more.jf_reappear.unwrap_or(f64::NAN));
        let named = [
            ("J&F_new", more.jf_dot),
            ("J", g.j),
            ("F_new", more.f_dot),
            ("disappear_J&F_new", gone),
            ("reappear_J&F_new", back),
            ("F", g.f),
            ("J&F", g.jf),
        ];
        let python = |text: String| text.replace("NaN", "nan");
        let mut text: String =
            named.iter().map(|(name, value)| python(format!("{name}: {:?}\n", two(*value)))).collect();
        let row: Vec<String> = named.iter().map(|(_, value)| python(format!("{:.1}", two(*value)))).collect();
        text += &format!("Copy-Paste: {}\n", row.join(","));
        Some(text)
    }
}

/// Columns of `score --export-csv`.
pub fn object_columns<'a>() -> CsvTable<(&'a ScoreReport, &'a ObjectScore)> {
    let columns = columns! {
        (&'a ScoreReport, &'a ObjectScore);
        "protocol", "", "scoring protocol" => |r| value(r.0.protocol);
        "scale", "", "what a perfect score is: 1 or 100" => |r| number(r.0.scale);
        "video", "", "name of the video" => |r| value(&r.1.video);
        "object", "", "folder or id of the object" => |r| value(&r.1.object);
        "frames", "", "frames that count" => |r| value(r.1.frames);
        "j", "scale", "mean J", NO_FRAME => |r| number(r.1.j);
        "f", "scale", "mean F", NO_FRAME => |r| number(r.1.f);
        "jf", "scale", "J&F: the mean of `j` and `f`", NO_FRAME => |r| number(r.1.jf);
        "boundary_iou", "scale", "mean boundary IoU", NO_BIOU => |r| r.1.boundary_iou.map_or_else(String::new, number);
        "j_recall", "0 to 1", "share of frames with J above 0.5", NO_DAVIS => |r| davis(r.1, |d| d.j_recall);
        "j_decay", "0 to 1", "fall of J from the first to the last quarter", NO_DAVIS => |r| davis(r.1, |d| d.j_decay);
        "f_recall", "0 to 1", "share of frames with F above 0.5", NO_DAVIS => |r| davis(r.1, |d| d.f_recall);
        "f_decay", "0 to 1", "fall of F from the first to the last quarter", NO_DAVIS => |r| davis(r.1, |d| d.f_decay);
        "losses", "", "how often the object was lost: J fell below 0.1 while it was visible"
            => |r| value(r.1.failures.len());
        "lost_at", "", "first frame of the first loss", "it was never lost"
            => |r| maybe(r.1.failures.first().map(|f| &f.lost_at));
        "switched_to", "", "object that the prediction covered instead", "there was none"
            => |r| maybe(r.1.failures.first().and_then(|f| f.switched_to.as_ref()));
        "recovered_at", "", "first frame on which it was found again", "it never was"
            => |r| maybe(r.1.failures.first().and_then(|f| f.recovered_at.as_ref()));
        "f_dot", "scale", "Ḟ: F with a tolerance that follows the object's size", NO_MOSEV2 => |r| mosev2(r.1, |m| Some(m.f_dot));
        "jf_dot", "scale", "J&Ḟ: the mean of `j` and `f_dot`", NO_MOSEV2 => |r| mosev2(r.1, |m| Some(m.jf_dot));
        "jf_disappear", "scale", "J&Ḟ while the object is gone", NO_STRETCH => |r| mosev2(r.1, |m| m.jf_disappear);
        "jf_reappear", "scale", "J&Ḟ after it (re)appears", NO_STRETCH => |r| mosev2(r.1, |m| m.jf_reappear);
        "j_tr", "0 to 1", "mean J over the last quarter of the frames", NO_VOST => |r| late(r.1, |l| l.j_tr);
        "j_tr_recall", "0 to 1", "share of these frames with J above 0.5", NO_VOST => |r| late(r.1, |l| l.j_tr_recall);
        "j_tr_decay", "0 to 1", "fall of J from their first to their last quarter", NO_VOST => |r| late(r.1, |l| l.j_tr_decay);
    };
    CsvTable { file: "jetbench score --export-csv", row: "One row per object.", columns }
}

/// Columns of `score --export-csv --per-frame`.
pub fn frame_columns<'a>() -> CsvTable<(&'a ScoreReport, &'a ObjectScore, &'a FrameRow)> {
    let columns = columns! {
        (&'a ScoreReport, &'a ObjectScore, &'a FrameRow);
        "protocol", "", "scoring protocol" => |r| value(r.0.protocol);
        "scale", "", "what a perfect score is: 1 or 100" => |r| number(r.0.scale);
        "video", "", "name of the video" => |r| value(&r.1.video);
        "object", "", "folder or id of the object" => |r| value(&r.1.object);
        "frame", "", "file stem of the frame" => |r| value(&r.2.frame);
        "j", "scale", "J: region similarity" => |r| number(r.2.j);
        "f", "scale", "F: contour accuracy" => |r| number(r.2.f);
        "boundary_iou", "scale", "boundary IoU", NO_BIOU => |r| r.2.boundary_iou.map_or_else(String::new, number);
        "counted", "", "`true` where the protocol counts the frame" => |r| value(r.2.counted);
        "visible", "", "`true` where the truth shows the object" => |r| value(r.2.visible);
        "predicted", "", "`true` where the predicted mask is not empty" => |r| value(r.2.predicted);
        "f_dot", "scale", "Ḟ", NO_MOSEV2 => |r| r.2.f_dot.map_or_else(String::new, number);
    };
    let row = "One row per object and evaluated frame.";
    CsvTable { file: "jetbench score --export-csv --per-frame", row, columns }
}

const NO_FRAME: &str = "no frame counts";
const NO_BIOU: &str = "`--boundary-iou` was not given";
const NO_DAVIS: &str = "the protocol is neither DAVIS's nor `vost`, or leaves it undefined";

const NO_VOST: &str = "the protocol is not `vost`, or leaves it undefined";
const NO_MOSEV2: &str = "the protocol is not `mosev2`";
const NO_STRETCH: &str = "the protocol is not `mosev2`, or the object has no such frames";

fn mosev2(object: &ObjectScore, get: fn(&MoseColumns) -> Option<f64>) -> String {
    object.mosev2.as_ref().and_then(get).map_or_else(String::new, number)
}

fn late(object: &ObjectScore, get: fn(&LateScore) -> f64) -> String {
    object.late.as_ref().map_or_else(String::new, |l| number(get(l)))
}

fn davis(object: &ObjectScore, get: fn(&DavisScore) -> f64) -> String {
    object.davis.as_ref().map_or_else(String::new, |d| number(get(d)))
}

/// Three decimals; a blank for NaN, as pandas writes it.
fn three(value: f64) -> String {
    if value.is_nan() { String::new() } else { format!("{value:.3}") }
}

/// Shortest text that reads back as the same number; empty for NaN.
fn number(value: f64) -> String {
    if value.is_nan() { String::new() } else { format!("{value:?}") }
}
