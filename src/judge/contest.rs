//! Which cell of a run is the better one, in accuracy and in speed? Pairs of valid cells, and the pair that a reader asks for first.

use serde::Serialize;

use crate::judge::change::SCORE_FLOOR;
use crate::judge::noise::DEFAULT_FLOOR;
use crate::judge::paired::{self, Difference};
use crate::plan::scenario::Scenario;
use crate::results::record::{CellRecord, RunRecord, SummaryRecord, Verdict};

/// One cell against another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contest {
    /// Index of the first cell.
    pub first: usize,
    /// Index of the second cell.
    pub second: usize,
    /// J&F; `None` where no object was scored in both, and where they are two tasks.
    pub jf: Option<Difference>,
    /// Were the objects of one prompted, and those of the other found by a detector? Then their J&F are not comparable.
    pub two_tasks: bool,
    /// Frames per second of the second over those of the first; `None` where one has none, and in realtime, where the clock sets it.
    pub speed: Option<f64>,
    /// Is the difference in speed larger than what the same thing differs by?
    pub speed_clear: bool,
    /// Was one of them disturbed? Then its speed may be better on a quiet machine.
    pub disturbed: bool,
    /// Was a precision emulated in one of them? Then its speed is that of the emulation.
    pub emulated: bool,
}

/// Contests between these pairs of cells; their p-values are corrected for all of them.
pub fn contests(run: &RunRecord, pairs: &[(usize, usize)]) -> Vec<Contest> {
    let mut all: Vec<Contest> = pairs.iter().map(|&(a, b)| contest(run, a, b)).collect();
    paired::holm(all.iter_mut().filter_map(|c| c.jf.as_mut()));
    all
}

/// The contest that answers "which model shall I take": the cell with the best J&F (of those that are as good, the fastest) against
/// the best one of another pack, in the same precision and on the same device where there is one; with one pack, against another
/// prompt, precision or device. Corrected for all pairs of the run; and how many those are. Cells whose objects were found are held
/// against each other only where there are no two whose objects were prompted.
pub fn headline(run: &RunRecord) -> Option<(Contest, usize)> {
    let (found, prompted): (Vec<_>, Vec<_>) = fit(run).into_iter().partition(|i| run.cells[*i].detector.is_some());
    if let ([found], [prompted]) = (found.as_slice(), prompted.as_slice()) {
        let pair = (*found.min(prompted), *found.max(prompted));
        return Some((contests(run, &[pair]).swap_remove(0), 1));
    }
    let valid = if prompted.len() < 2 { found } else { prompted };
    let figure = |i: usize, pick: fn(&SummaryRecord) -> Option<f64>| run.cells[i].summary.as_ref().and_then(pick);
    let best = |among: &[usize]| {
        let top = among.iter().filter_map(|i| figure(*i, SummaryRecord::own_jf)).max_by(f64::total_cmp)?;
        let good = among
            .iter()
            .copied()
            .filter(|i| figure(*i, SummaryRecord::own_jf).is_some_and(|jf| jf >= top - SCORE_FLOOR));
        let fps = |i: &usize| figure(*i, |s| s.fps_wall).unwrap_or_default();
        good.min_by(|a, b| fps(b).total_cmp(&fps(a)))
    };
    let leader = best(&valid)?;
    let others = |differs: &dyn Fn(&CellRecord, &CellRecord) -> bool| -> Vec<usize> {
        valid.iter().copied().filter(|i| *i != leader && differs(&run.cells[*i], &run.cells[leader])).collect()
    };
    let alike = |a: &CellRecord, b: &CellRecord| a.dtype == b.dtype && a.device == b.device;
    let packs = |c: &CellRecord| (c.pack.clone(), c.detector.as_ref().map(|d| d.pack.clone()));
    let rival = best(&others(&|a, b| packs(a) != packs(b) && alike(a, b)))
        .or_else(|| best(&others(&|a, b| packs(a) != packs(b))))
        .or_else(|| best(&others(&|a, b| a.model != b.model && alike(a, b))))
        .or_else(|| best(&others(&|_, _| true)))?;
    let pairs = pairs(&valid);
    let found = contests(run, &pairs);
    let wanted = found.into_iter().find(|c| (c.first, c.second) == (leader.min(rival), leader.max(rival)))?;
    Some((wanted, pairs.len()))
}

/// Every pair of these.
pub fn pairs(of: &[usize]) -> Vec<(usize, usize)> {
    of.iter().enumerate().flat_map(|(at, a)| of[at + 1..].iter().map(move |b| (*a, *b))).collect()
}

/// Cells whose figures may be compared.
pub fn fit(run: &RunRecord) -> Vec<usize> {
    let fit = |c: &CellRecord| c.verdict == Verdict::Valid && c.summary.is_some();
    run.cells.iter().enumerate().filter(|(_, c)| fit(c)).map(|(i, _)| i).collect()
}

fn contest(run: &RunRecord, first: usize, second: usize) -> Contest {
    let (a, b) = (&run.cells[first], &run.cells[second]);
    let fps = |c: &CellRecord| {
        let clocked = c.scenario == Scenario::Realtime;
        c.summary.as_ref().and_then(|s| s.fps_wall).filter(|fps| *fps > 0.0 && !clocked)
    };
    let speed = fps(b).zip(fps(a)).map(|(b, a)| b / a);
    let two_tasks = a.detector.is_some() != b.detector.is_some();
    Contest {
        first,
        second,
        jf: if two_tasks { None } else { paired::difference(&paired::scores(a), &paired::scores(b)) },
        two_tasks,
        speed,
        speed_clear: speed.is_some_and(|ratio| ratio.ln().abs() > DEFAULT_FLOOR) && apart(a, b),
        disturbed: [a, b].iter().any(|c| !c.disturbed.is_empty()),
        emulated: [a, b].iter().any(|c| c.emulated()),
    }
}

/// Do the repeats of two cells keep apart in speed? One run each cannot tell, and is taken at its word.
fn apart(a: &CellRecord, b: &CellRecord) -> bool {
    let range = |c: &CellRecord| {
        let all = c.repeats.iter().filter_map(|r| r.summary.as_ref()?.fps_wall);
        let fold = |keep: fn(f64, f64) -> f64| all.clone().reduce(keep);
        fold(f64::min).zip(fold(f64::max))
    };
    match (range(a), range(b)) {
        (Some(a), Some(b)) => a.1 < b.0 || b.1 < a.0,
        _ => true,
    }
}
