//! Which of two is better, in one sentence.

use crate::judge::contest::{self, Contest};
use crate::judge::paired::Difference;
use crate::judge::stats;
use crate::report::table::{cell_name, model_name};
use crate::results::record::{RunRecord, SummaryRecord};
use crate::text::plural;

/// The sentence that closes a run of several cells: the best against the best of another model. `None`: there are no two
/// valid cells with scores.
pub fn of_run(run: &RunRecord) -> Option<String> {
    let (contest, family) = contest::headline(run)?;
    let mut told = sentence(run, &contest, family);
    if contest.jf.is_some() && run.cells[contest.first].detector.is_some() {
        told = told.replace("J&F", "J&F (unsupervised)");
    }
    // In the order in which the sentence names them: the better one first.
    let second = contest.jf.as_ref().is_some_and(|jf| jf.points > 0.0);
    let (a, b) = if second { (contest.second, contest.first) } else { (contest.first, contest.second) };
    let names = (name(run, a), name(run, b));
    let [a, b] = [a, b].map(|cell| run.cells[cell].summary.as_ref());
    let more = a.zip(b).and_then(|(a, b)| absence((&names.0, &names.1), a, b));
    Some([Some(told), more].into_iter().flatten().collect::<Vec<_>>().join(" "))
}

/// Points between two scores that are worth a word, where too few objects vanish for a test.
const APART: f64 = 5.0;

/// What J&F hides: how the two do while an object is gone, and after it (re)appears. `None` where they do alike, or none is.
fn absence(names: (&str, &str), a: &SummaryRecord, b: &SummaryRecord) -> Option<String> {
    let both = |get: fn(&SummaryRecord) -> Option<f64>| Some((get(a)?, get(b)?));
    let parts = [
        ("while an object is gone", both(|s| s.jf_disappear), a.objects_disappear),
        ("after one (re)appears", both(|s| s.jf_reappear), a.objects_reappear),
    ];
    let told = |(when, pair, objects): (&str, Option<(f64, f64)>, Option<usize>)| {
        let ((x, y), objects) = pair.zip(objects)?;
        let objects = plural(objects, "object", "objects");
        ((x - y).abs() >= APART).then(|| format!("{x:.1} and {y:.1} {when} ({objects})"))
    };
    let told: Vec<String> = parts.into_iter().filter_map(told).collect();
    (!told.is_empty()).then(|| format!("J&Ḟ of {} and {}: {}.", names.0, names.1, told.join("; ")))
}

/// One contest in a sentence; `family`: how many were looked at.
pub fn sentence(run: &RunRecord, contest: &Contest, family: usize) -> String {
    let (a, b) = (name(run, contest.first), name(run, contest.second));
    let speed = Speed::of(contest);
    if contest.two_tasks {
        let (found, prompted) = if run.cells[contest.first].detector.is_some() { (&a, &b) } else { (&b, &a) };
        let apart = format!("the objects of {prompted} were prompted, those of {found} found");
        return match &speed {
            Speed::Apart { second, .. } => {
                let (fast, slow) = if *second { (&b, &a) } else { (&a, &b) };
                format!("{fast} is {} than {slow}; their J&F are not compared: {apart}.", speed.words(*second))
            }
            _ => format!("{a} and {b} are not compared in J&F: {apart}."),
        };
    }
    match (&contest.jf, &speed) {
        (Some(jf), _) => told((&a, &b), jf, &speed, family),
        (None, Speed::Apart { second, .. }) => {
            let (fast, slow) = if *second { (b, a) } else { (a, b) };
            format!("{fast} is {} than {slow}; no object was scored in both.", speed.words(*second))
        }
        (None, _) => format!("No clear difference between {a} and {b}; no object was scored in both."),
    }
}

/// J&Ḟ after return in both, its change and what that rests on.
pub fn returned(found: &Difference) -> String {
    let interval =
        found.interval.map(|i| format!(", 95 % interval {:+.2} to {:+.2}", i.low, i.high)).unwrap_or_default();
    let objects = plural(found.objects, "object", "objects");
    format!("{:.2} → {:.2}  ({:+.2}{interval}; J&Ḟ, {objects})", found.first, found.second, found.points)
}

/// The same of two things by name that have no speed.
pub fn of_scores(names: (&str, &str), jf: &Difference, family: usize) -> String {
    told(names, jf, &Speed::Unknown, family)
}

fn told((a, b): (&str, &str), jf: &Difference, speed: &Speed, family: usize) -> String {
    let second = jf.points > 0.0;
    let (better, other) = if second { (b, a) } else { (a, b) };
    // Said of the better one.
    let evidence = evidence(jf, family, jf.points < 0.0);
    if jf.clear() {
        let points = format!("{better} is {:.1} J&F better ({evidence})", jf.points.abs());
        return match speed {
            Speed::Apart { doubt, .. } => {
                let doubt = doubt.map(|why| format!(" (speed: {why})")).unwrap_or_default();
                format!("{points} and {} than {other}{doubt}.", speed.words(second))
            }
            Speed::Alike => format!("{points} than {other}, and about as fast."),
            Speed::Unknown => format!("{points} than {other}."),
        };
    }
    let speed = match speed {
        Speed::Apart { doubt, .. } => {
            let doubt = doubt.map(|why| format!(" ({why})")).unwrap_or_default();
            format!("; {better} is {}{doubt}", speed.words(second))
        }
        Speed::Alike => ", nor in speed".to_string(),
        Speed::Unknown => String::new(),
    };
    format!("No clear difference in J&F between {better} and {other} ({evidence}){speed}.")
}

/// What is known of the speed of two.
enum Speed {
    /// Nothing, or it is not theirs.
    Unknown,
    /// No difference that could be told.
    Alike,
    /// One is faster.
    Apart {
        /// The second?
        second: bool,
        /// So many times.
        times: f64,
        /// Why it may not be theirs.
        doubt: Option<&'static str>,
    },
}

impl Speed {
    fn of(contest: &Contest) -> Speed {
        match contest.speed {
            None => Speed::Unknown,
            Some(ratio) if contest.speed_clear => {
                Speed::Apart { second: ratio > 1.0, times: ratio.max(1.0 / ratio), doubt: doubt(contest) }
            }
            Some(_) => Speed::Alike,
        }
    }

    /// `1.2 x faster`, said of the second or of the first.
    fn words(&self, of_second: bool) -> String {
        let Speed::Apart { second, times, .. } = self else { return String::new() };
        let digits = if *times < 1.1 { 2 } else { 1 };
        format!("{times:.digits$} x {}", if *second == of_second { "faster" } else { "slower" })
    }
}

/// Why a difference in speed may not be one of the models: an emulated precision weighs more than a disturbance.
pub fn doubt(contest: &Contest) -> Option<&'static str> {
    match (contest.emulated, contest.disturbed) {
        (true, _) => Some("emulated"),
        (false, true) => Some("disturbed"),
        (false, false) => None,
    }
}

/// What supports a difference in scores: its interval, videos, and the correction. `turned`: seen from the first, not the second.
pub fn evidence(jf: &Difference, family: usize, turned: bool) -> String {
    let videos = plural(jf.videos, "video", "videos");
    let Some(i) = jf.interval else {
        return format!("{:.1} on {videos}; an interval needs {}", jf.points.abs(), stats::MIN_UNITS);
    };
    let (low, high) = if turned { (-i.high, -i.low) } else { (i.low, i.high) };
    let corrected = match (jf.adjusted, family) {
        (Some(p), n) if n > 1 => format!("; p {p:.2}, corrected for {n} pairs"),
        _ => String::new(),
    };
    // A sum of nothing has no sign.
    format!("95 %: {:.1} to {:.1}, {videos}{corrected}", low + 0.0, high + 0.0)
}

/// A cell's name, without what all cells share.
fn name(run: &RunRecord, cell: usize) -> String {
    let alike = run.cells.iter().all(|c| (c.dtype, &c.device) == (run.cells[0].dtype, &run.cells[0].device));
    let cell = &run.cells[cell];
    if alike { model_name(cell) } else { cell_name(run, cell) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_while_objects_are_gone_is_said_where_two_models_differ() {
        let of = |gone: Option<f64>, back: Option<f64>| SummaryRecord {
            jf_disappear: gone,
            jf_reappear: back,
            objects_disappear: gone.map(|_| 3),
            objects_reappear: back.map(|_| 1),
            ..SummaryRecord::default()
        };
        let said = |a: &SummaryRecord, b: &SummaryRecord| absence(("a", "b"), a, b);
        assert_eq!(
            said(&of(Some(100.0), Some(48.86)), &of(Some(66.67), Some(72.0))).unwrap(),
            "J&Ḟ of a and b: 100.0 and 66.7 while an object is gone (3 objects); 48.9 and 72.0 after one (re)appears (1 object)."
        );
        // What is alike is not told.
        assert_eq!(
            said(&of(Some(90.0), Some(40.0)), &of(Some(91.0), Some(45.0))).unwrap(),
            "J&Ḟ of a and b: 40.0 and 45.0 after one (re)appears (1 object)."
        );
        assert_eq!(said(&of(Some(90.0), Some(80.0)), &of(Some(94.9), Some(84.0))), None);
        assert_eq!(said(&of(None, None), &of(None, None)), None, "nothing vanishes");
    }
}
