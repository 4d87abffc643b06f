//! Which tables does a reader get? Videos and objects, worst first, with what the protocol tells of them; several folders of
//! predictions beside each other.

use super::table::{NOTHING, Table};
use crate::score::directory::{DavisScore, GroupScore, LateScore, MoseColumns, ObjectScore, ScoreReport};
use crate::text::plural;

/// What a group and an object have in common.
struct Scores<'a> {
    jf: f64,
    j: f64,
    f: f64,
    boundary_iou: Option<f64>,
    davis: Option<&'a DavisScore>,
    late: Option<&'a LateScore>,
    mosev2: Option<&'a MoseColumns>,
}

impl<'a> From<&'a GroupScore> for Scores<'a> {
    fn from(g: &'a GroupScore) -> Self {
        let (davis, late, mosev2) = (g.davis.as_ref(), g.late.as_ref(), g.mosev2.as_ref());
        Scores { jf: g.jf, j: g.j, f: g.f, boundary_iou: g.boundary_iou, davis, late, mosev2 }
    }
}

impl<'a> From<&'a ObjectScore> for Scores<'a> {
    fn from(o: &'a ObjectScore) -> Self {
        let (davis, late, mosev2) = (o.davis.as_ref(), o.late.as_ref(), o.mosev2.as_ref());
        Scores { jf: o.jf, j: o.j, f: o.f, boundary_iou: o.boundary_iou, davis, late, mosev2 }
    }
}

/// A column of scores: its head and its value; the outer `None` where it is not of the protocol, the inner where there is nothing
/// to average.
type Column = (&'static str, fn(&Scores) -> Option<Option<f64>>);

const COLUMNS: [Column; 15] = [
    ("J&F", |s| Some(Some(s.jf))),
    ("J", |s| Some(Some(s.j))),
    ("F", |s| Some(Some(s.f))),
    ("J recall", |s| Some(Some(s.davis?.j_recall))),
    ("J decay", |s| Some(Some(s.davis?.j_decay))),
    ("F recall", |s| Some(Some(s.davis?.f_recall))),
    ("F decay", |s| Some(Some(s.davis?.f_decay))),
    ("J_tr", |s| Some(Some(s.late?.j_tr))),
    ("J_tr recall", |s| Some(Some(s.late?.j_tr_recall))),
    ("J_tr decay", |s| Some(Some(s.late?.j_tr_decay))),
    ("J&Ḟ", |s| Some(Some(s.mosev2?.jf_dot))),
    ("Ḟ", |s| Some(Some(s.mosev2?.f_dot))),
    ("while gone", |s| Some(s.mosev2?.jf_disappear)),
    ("after return", |s| Some(s.mosev2?.jf_reappear)),
    ("boundary IoU", |s| Some(Some(s.boundary_iou?))),
];

/// Those of the report's protocol.
fn columns(report: &ScoreReport) -> Vec<Column> {
    let whole = Scores::from(&report.global);
    COLUMNS.into_iter().filter(|(_, get)| get(&whole).is_some()).collect()
}

/// A score with four digits that count: `72.13` of 100, `0.7213` of 1; a dash where there is none.
pub fn digits(scale: f64, value: Option<f64>) -> String {
    let Some(value) = value.filter(|v| !v.is_nan()) else { return NOTHING.into() };
    let places = if scale > 1.0 { 2 } else { 4 };
    let text = format!("{value:.places$}");
    // A fall by less than a digit is none.
    text.strip_prefix('-').filter(|t| t.chars().all(|c| c == '0' || c == '.')).map(String::from).unwrap_or(text)
}

impl ScoreReport {
    fn cells<'a>(&self, columns: &[Column], of: impl Into<Scores<'a>>) -> Vec<String> {
        let scores = of.into();
        columns.iter().map(|(_, get)| digits(self.scale, get(&scores).flatten())).collect()
    }

    /// The whole in a line or two: J&F, J and F, then what else the protocol tells.
    pub fn headline(&self) -> String {
        self.group_lines(&self.global, &format!("  (of {})", self.scale))
    }

    /// The same of the seen and unseen part, where there is a list, each with its number of objects.
    pub fn parts(&self) -> String {
        let part = |name: &str, group: &Option<GroupScore>| {
            let group = group.as_ref()?;
            Some(format!("{name}, {}\n{}", plural(group.objects, "object", "objects"), self.group_lines(group, "")))
        };
        let mean = self.seen_unseen_mean.map(|m| format!("mean of both  {}\n", digits(self.scale, Some(m))));
        [part("seen", &self.seen), part("unseen", &self.unseen), mean].into_iter().flatten().collect()
    }

    fn group_lines(&self, group: &GroupScore, behind: &str) -> String {
        let columns = columns(self);
        let cells = self.cells(&columns, group);
        let told = |range: std::ops::Range<usize>| {
            let pairs = columns[range.clone()].iter().zip(&cells[range]);
            pairs.map(|((name, _), cell)| format!("{name} {cell}")).collect::<Vec<_>>().join("  ")
        };
        let more = if columns.len() > 3 { format!("{}\n", told(3..columns.len())) } else { String::new() };
        format!("{}{behind}\n{more}", told(0..3))
    }

    /// The videos, worst J&F first, the first `most` of them; with the whole at the end where `total` says so.
    pub fn video_table(&self, most: usize, total: bool) -> Table {
        let columns = columns(self);
        let mut videos: Vec<_> = self.videos.iter().collect();
        videos.sort_by(|a, b| a.score.jf.total_cmp(&b.score.jf).then_with(|| a.video.cmp(&b.video)));
        let row = |name: &str, score: &GroupScore| {
            [vec![name.to_string(), score.objects.to_string()], self.cells(&columns, score)].concat()
        };
        Table {
            title: title("Videos", videos.len(), most),
            head: heads(&["video", "objects"], &columns, &[]),
            numbers: 1..2 + columns.len(),
            rows: videos.iter().take(most).map(|v| row(&v.video, &v.score)).collect(),
            total: total.then(|| row("all", &self.global)),
        }
    }

    /// The objects, worst J&F first, the first `most` of them, with their first loss: from which frame on, instead of which object
    /// the prediction covered another one, and whether it was found again.
    pub fn object_table(&self, most: usize) -> Table {
        // Recall and decay are of the protocol, losses of the object: a terminal has room for one of them.
        let columns = &COLUMNS[..3];
        let mut objects: Vec<&ObjectScore> = self.objects.iter().collect();
        let name = |o: &ObjectScore| (o.video.clone(), o.object.clone());
        objects.sort_by(|a, b| a.jf.total_cmp(&b.jf).then_with(|| name(a).cmp(&name(b))));
        let row = |o: &&ObjectScore| {
            let first = o.failures.first();
            let told = |get: fn(&crate::score::failure::Failure) -> Option<String>| first.and_then(get);
            let lost = match o.failures.iter().map(|f| f.frames).sum::<usize>() {
                0 => NOTHING.to_string(),
                frames => format!("{frames} of {}", o.frames),
            };
            let losses =
                [told(|f| Some(f.lost_at.clone())), told(|f| f.switched_to.clone()), told(|f| f.recovered_at.clone())];
            let losses = losses.map(|l| l.unwrap_or_else(|| NOTHING.into()));
            [vec![o.video.clone(), o.object.clone()], self.cells(columns, *o), vec![lost], losses.to_vec()].concat()
        };
        Table {
            title: title("Objects", objects.len(), most),
            head: heads(&["video", "object"], columns, &["frames lost", "lost at", "switched to", "recovered at"]),
            numbers: 2..6,
            rows: objects.iter().take(most).map(row).collect(),
            total: None,
        }
    }
}

/// Several folders of predictions, in the order given.
pub fn folder_table(reports: &[ScoreReport]) -> Option<Table> {
    let first = reports.first()?;
    let columns = columns(first);
    let row =
        |r: &ScoreReport| [vec![r.pred.clone(), r.global.objects.to_string()], r.cells(&columns, &r.global)].concat();
    Some(Table {
        title: format!("{} protocol, of {}", first.protocol, first.scale),
        head: heads(&["predictions", "objects"], &columns, &[]),
        numbers: 1..2 + columns.len(),
        rows: reports.iter().map(row).collect(),
        total: None,
    })
}

fn heads(names: &[&str], columns: &[Column], more: &[&str]) -> Vec<String> {
    names.iter().chain(columns.iter().map(|(name, _)| name)).chain(more).map(ToString::to_string).collect()
}

fn title(what: &str, all: usize, most: usize) -> String {
    match all > most {
        true => format!("{what}, worst first ({most} of {all})"),
        false => format!("{what}, worst first"),
    }
}
