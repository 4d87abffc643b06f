//! Scores as text: JSON, CSV, and the references' own result files byte for byte.

use super::directory::{GroupScore, ScoreReport};
use super::protocol::Protocol;

impl ScoreReport {
    /// JSON, pretty-printed, floats in their shortest round-trip form.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_else(|e| unreachable!("plain data: {e}"));
        text.push('\n');
        text
    }

    /// CSV: a row per object (or per object and evaluated frame, when the report has them), header first. Floats in
    /// their shortest round-trip form, on the protocol's scale; what does not apply is empty.
    pub fn to_csv(&self) -> String {
        let mut out = csv::Writer::from_writer(Vec::new());
        let per_frame = self.objects.iter().any(|o| !o.per_frame.is_empty());
        let wrote = if per_frame { self.frame_rows(&mut out) } else { self.object_rows(&mut out) };
        wrote.unwrap_or_else(|e| unreachable!("memory: {e}"));
        let bytes = out.into_inner().unwrap_or_else(|e| unreachable!("memory: {e}"));
        String::from_utf8(bytes).unwrap_or_else(|e| unreachable!("UTF-8 in, UTF-8 out: {e}"))
    }

    fn object_rows(&self, out: &mut csv::Writer<Vec<u8>>) -> csv::Result<()> {
        out.write_record([
            "protocol",
            "scale",
            "video",
            "object",
            "frames",
            "j",
            "f",
            "jf",
            "boundary_iou",
            "j_recall",
            "j_decay",
            "f_recall",
            "f_decay",
            "losses",
            "lost_at",
            "switched_to",
            "recovered_at",
        ])?;
        for o in &self.objects {
            let davis = |value: fn(&super::directory::DavisScore) -> f64| {
                o.davis.as_ref().map_or_else(String::new, |d| number(value(d)))
            };
            let first = o.failures.first();
            out.write_record([
                self.protocol.to_string(),
                number(self.scale),
                o.video.clone(),
                o.object.clone(),
                o.frames.to_string(),
                number(o.j),
                number(o.f),
                number(o.jf),
                o.boundary_iou.map_or_else(String::new, number),
                davis(|d| d.j_recall),
                davis(|d| d.j_decay),
                davis(|d| d.f_recall),
                davis(|d| d.f_decay),
                o.failures.len().to_string(),
                first.map(|f| f.lost_at.clone()).unwrap_or_default(),
                first.and_then(|f| f.switched_to.clone()).unwrap_or_default(),
                first.and_then(|f| f.recovered_at.clone()).unwrap_or_default(),
            ])?;
        }
        Ok(())
    }

    fn frame_rows(&self, out: &mut csv::Writer<Vec<u8>>) -> csv::Result<()> {
        out.write_record([
            "protocol",
            "scale",
            "video",
            "object",
            "frame",
            "j",
            "f",
            "boundary_iou",
            "counted",
            "visible",
            "predicted",
        ])?;
        for o in &self.objects {
            for row in &o.per_frame {
                out.write_record([
                    self.protocol.to_string(),
                    number(self.scale),
                    o.video.clone(),
                    o.object.clone(),
                    row.frame.clone(),
                    number(row.j),
                    number(row.f),
                    row.boundary_iou.map_or_else(String::new, number),
                    row.counted.to_string(),
                    row.visible.to_string(),
                    row.predicted.to_string(),
                ])?;
            }
        }
        Ok(())
    }

    /// `results.csv` as `sav_evaluator.py` and vos-benchmark write it, byte for byte; `None` under a DAVIS protocol,
    /// whose tools write other files.
    pub fn to_sav_results(&self) -> Option<String> {
        if self.protocol.is_davis() {
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

    /// `global_results-<set>.csv` and `per-sequence_results-<set>.csv` as the DAVIS 2017 tool writes them; `None` under
    /// another protocol.
    pub fn to_davis_results(&self) -> Option<(String, String)> {
        if self.protocol != Protocol::Davis2017Semi {
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
            sequences += &format!("{}_{},{},{}\n", o.video, o.object, three(o.j), three(o.f));
        }
        Some((global, sequences))
    }
}

/// Three decimals; a blank for NaN, as pandas writes it.
fn three(value: f64) -> String {
    if value.is_nan() { String::new() } else { format!("{value:.3}") }
}

/// Shortest text that reads back as the same number; empty for NaN.
fn number(value: f64) -> String {
    if value.is_nan() { String::new() } else { format!("{value:?}") }
}
