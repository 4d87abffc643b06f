//! How much does the same thing differ from itself on one machine? Learnt from its past runs.

use std::collections::BTreeMap;

use super::stats;
use crate::results::rows::{Key, Row};
use crate::text::{clean, plural};

/// Changes of latency up to this share are noise while the history is too short to tell.
pub const DEFAULT_FLOOR: f64 = 0.02;
/// However steady a machine has been, changes up to this share are noise.
const SMALLEST_FLOOR: f64 = 0.01;
/// Steps between successive runs from which the noise is learnt.
const STEPS: usize = 4;
/// The floor in standard deviations of the steps.
const SIGMAS: f64 = 2.5;

/// How far the latency of the same thing differs from run to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Floor {
    /// Share of the latency.
    pub share: f64,
    /// Where it comes from.
    pub from: String,
}

/// How much the median latency of one thing differs from run to run: 2.5 standard deviations of the steps between
/// successive valid runs that nothing disturbed, the deviation taken from their median so that one real change does not count as noise.
pub fn noise(rows: &[Row], key: &Key) -> Floor {
    let series: Vec<f64> = rows
        .iter()
        .filter(|r| r.key == *key && r.verdict == "valid" && !r.disturbed.iter().any(|d| d.moves_medians()))
        .filter_map(|r| r.p50_ms)
        .filter(|v| *v > 0.0)
        .collect();
    let steps: Vec<f64> = series.windows(2).map(|w| (w[1] / w[0]).ln().abs()).collect();
    match stats::median(&steps).filter(|_| steps.len() >= STEPS) {
        Some(middle) => Floor {
            share: (SIGMAS * 1.4826 * middle).max(SMALLEST_FLOOR),
            from: format!("learnt from {} quiet runs", series.len()),
        },
        None => Floor {
            share: DEFAULT_FLOOR,
            from: format!("by default: {} of it so far", plural(series.len(), "quiet run", "quiet runs")),
        },
    }
}

/// Runs of one job, oldest first, whatever program or runtime they used.
pub struct Series<'a> {
    /// Cell, board and data in words, and what tells it from others of that name.
    pub name: String,
    /// Its runs.
    pub rows: Vec<&'a Row>,
    /// How far the latency of the newest thing differs from run to run.
    pub floor: Floor,
}

/// Series in order of their names. A run of another job (device, pack, videos, settings) is in another series.
pub fn series(rows: &[Row]) -> Vec<Series<'_>> {
    let mut groups: Vec<Vec<&Row>> = Vec::new();
    for row in rows {
        match groups.iter_mut().find(|of| of[0].key.same_job(&row.key)) {
            Some(of) => of.push(row),
            None => groups.push(vec![row]),
        }
    }
    let names: Vec<String> = groups.iter().map(|of| plain_name(of[0])).collect();
    let mut all: Vec<Series> = groups
        .iter()
        .zip(&names)
        .map(|(of, name)| {
            let alike: Vec<&Row> = groups.iter().zip(&names).filter(|(_, n)| *n == name).map(|(g, _)| g[0]).collect();
            let own = telling(of[0], &alike);
            let name = if own.is_empty() { name.clone() } else { format!("{name} ({})", own.join(", ")) };
            let newest = of[of.len() - 1];
            Series { name: clean(&name), rows: of.clone(), floor: noise(rows, &newest.key) }
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// Cell, board and data.
fn plain_name(row: &Row) -> String {
    let data = row.key.thing[2].trim_end_matches('/');
    let data = data.rsplit('/').next().unwrap_or(data);
    let videos = plural(row.planned, "video", "videos");
    format!("{} on {}: {data}, {videos}", row.key.cell.join(" "), row.key.board.0)
}

/// What tells this job from others of its name.
fn telling(row: &Row, alike: &[&Row]) -> Vec<String> {
    let short = |text: &str| text.chars().take(6).collect::<String>();
    let parts = |r: &Row| -> BTreeMap<String, String> {
        let fixed = [
            ("device", short(&r.key.board.1)),
            ("pack", short(&r.key.thing[0])),
            ("protocol", r.key.thing[3].clone()),
            ("videos", short(&r.key.list)),
        ];
        let settings = r.key.settings.iter().map(|(name, value)| (name.clone(), value.clone()));
        fixed.into_iter().map(|(name, value)| (name.to_string(), value)).chain(settings).collect()
    };
    let own = parts(row);
    let others: Vec<BTreeMap<String, String>> = alike.iter().map(|r| parts(r)).collect();
    let differs = |name: &String, value: &String| others.iter().any(|o| o.get(name) != Some(value));
    own.iter().filter(|(name, value)| differs(name, value)).map(|(name, value)| format!("{name} {value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::disturbance::Disturbance;

    fn row(run_id: &str, change: impl Fn(&mut Row)) -> Row {
        let mut row = Row {
            test_model: None,
            key: Key {
                board: ("board".into(), "d1".into()),
                cell: ["m_mask".into(), "fp32".into(), "cpu".into()],
                thing: ["p1".into(), "1.31".into(), "/data/demo".into(), "sav".into(), "7".into(), "70".into()],
                list: "l1".into(),
                settings: [("limits".to_string(), "{}".to_string())].into(),
            },
            run_id: run_id.into(),
            dir: Default::default(),
            verdict: "valid".into(),
            planned: 7,
            disturbed: Vec::new(),
            jf: None,
            fps_wall: None,
            p50_ms: Some(10.0),
            p95_ms: None,
            peak_system_mib: None,
            energy_per_frame_j: None,
        };
        change(&mut row);
        row
    }

    #[test]
    fn a_run_of_another_job_never_joins_a_trend() {
        let same = [row("1", |_| {}), row("2", |_| {}), row("3", |r| r.key.thing[1] = "1.32".into())];
        let found = series(&same);
        assert_eq!((found.len(), found[0].rows.len()), (1, 3), "a new runtime is what one wants to see");
        assert_eq!(found[0].name, "m_mask fp32 cpu on board: demo, 7 videos");
        type Change = (&'static str, fn(&mut Row));
        let changes: [Change; 5] = [
            ("device d2", |r| r.key.board.1 = "d2".into()),
            ("pack p2", |r| r.key.thing[0] = "p2".into()),
            ("protocol vos", |r| r.key.thing[3] = "vos".into()),
            ("videos l2", |r| r.key.list = "l2".into()),
            ("limits {\"frames\":4}", |r| r.key.settings = [("limits".into(), "{\"frames\":4}".into())].into()),
        ];
        for (told, change) in changes {
            let rows = [row("1", |_| {}), row("2", change), row("3", |_| {})];
            let found = series(&rows);
            assert_eq!(found.iter().map(|s| s.rows.len()).sum::<usize>(), 3);
            assert_eq!(found.len(), 2, "{told}");
            assert!(found.iter().any(|s| s.name.ends_with(&format!("({told})"))), "{told}: {:?}", found[1].name);
        }
    }

    #[test]
    fn noise_is_learnt_from_quiet_runs_only() {
        let mut rows: Vec<Row> =
            (0..8).map(|i| row(&i.to_string(), |r| r.p50_ms = Some(10.0 + 0.02 * f64::from(i % 2)))).collect();
        assert_eq!(noise(&rows, &rows[0].key).from, "learnt from 8 quiet runs");
        for (i, row) in rows.iter_mut().enumerate().filter(|(i, _)| i % 2 == 1) {
            (row.disturbed, row.p50_ms) = (vec![Disturbance::Rivals], Some(15.0 + i as f64));
        }
        assert_eq!(
            noise(&rows, &rows[0].key),
            Floor { share: DEFAULT_FLOOR, from: "by default: 4 quiet runs of it so far".into() }
        );
    }

    #[test]
    fn the_time_of_a_run_is_in_its_id() {
        assert_eq!(row("20261126T191108Z-333454", |_| {}).at(), Some(1_795_720_268));
        assert_eq!(row("by hand", |_| {}).at(), None);
    }
}
