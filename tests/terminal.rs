//! What stands on the terminal after a run: the table at every width, and the closing lines, few whatever happened.

use jetbench::judge::repeat;
use jetbench::report::closing::Closing;
use jetbench::report::export::markdown::markdown;
use jetbench::report::screen::{Wanted, screen};
use jetbench::report::table::{self, Style};
use jetbench::results::disturbance::Disturbance;
use jetbench::results::note::{Note, NoteKind, Reason, ReasonKind};
use jetbench::results::record::{CellRecord, RunRecord, Verdict};

use crate::synthetic;

#[test]
fn table_at_every_width() {
    let mut run = synthetic::run();
    run.stopped = Some("interrupted".into());
    for width in [None, Some(110), Some(80), Some(50), Some(30)] {
        let text = table::text(&run, Style { width, ..Style::default() });
        if let Some(width) = width {
            for line in text.lines().filter(|l| l.contains(['─', '━', '═'])) {
                assert!(line.chars().count() <= width, "{} > {width}: {line}", line.chars().count());
            }
        }
        insta::assert_snapshot!(format!("table_{}", width.map_or("any".to_string(), |w| w.to_string())), text);
    }
    insta::assert_snapshot!("table_markdown", markdown(&run));
}

#[test]
fn colour_changes_nothing_but_colour_and_failures_show_no_number() {
    let run = synthetic::run();
    let plain = table::text(&run, Style::default());
    let colored = table::text(&run, Style { color: true, ..Style::default() });
    assert!(colored.contains("\u{1b}[32mvalid\u{1b}[0m") && colored.contains("\u{1b}[31mfailed [2]\u{1b}[0m"));
    let mut stripped = colored;
    for code in ["\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m", "\u{1b}[0m"] {
        stripped = stripped.replace(code, "");
    }
    assert_eq!(stripped, plain);
    assert!(!plain.contains('\u{1b}'));
    // A failed cell that did finish videos still shows none of their figures.
    let mut run = run;
    run.cells[0].verdict = Verdict::Failed { error: "hung".into(), phase: "track".into() };
    let text = table::text(&run, Style::default());
    let row = text.lines().find(|l| l.contains("failed [1]")).unwrap();
    let after = row.split("failed [1]").nth(1).unwrap();
    assert!(!after.contains(|c: char| c.is_ascii_digit()), "{row}");
}

/// Six cells with three repeats each on a busy machine: every repeat has its own warnings, and twelve settings.
fn busy_run() -> RunRecord {
    let mut run = synthetic::run();
    let valid: Vec<CellRecord> = run.cells.iter().filter(|c| c.summary.is_some()).cloned().collect();
    let again = CellRecord { model: "edgetam_mask".into(), ..valid[3].clone() };
    let cells = valid.into_iter().chain([again]).enumerate().map(|(i, cell)| {
        let one = |n: usize| {
            let mut cell = CellRecord { verdict: Verdict::Valid, ..cell.clone() };
            let cores = 1.0 + 0.05 * (3 * i + n) as f64;
            let percent = (3 + i + n) as f64;
            cell.notes =
                (0..12).map(|k| Note::new(NoteKind::Setup, format!("weights of `graph_{k}`: mapped"))).collect();
            cell.notes.push(Note::new(NoteKind::Setup, format!("form of `image_encoder`: {}", cell.dtype)));
            cell.notes.push(
                Note::new(
                    NoteKind::Rivals,
                    format!("other processes used {cores:.1} cores on average (rustc {cores:.1})"),
                )
                .about(cores),
            );
            cell.notes.push(
                Note::new(NoteKind::Outliers, format!("{percent} of 100 frames are outliers; none was removed"))
                    .about(percent),
            );
            cell.disturbed = vec![Disturbance::Rivals, Disturbance::Outliers];
            if n == 1 && i != 2 {
                let text =
                    format!("latency rose by {:.0} % from the first to the last quarter of the run", 2.0 * percent);
                cell.notes.push(Note::new(NoteKind::Drift, text).about(2.0 * percent));
            }
            if i == 4 {
                cell.notes.push(Note::new(NoteKind::SlowStart, "the first 12 frames took up to 2.0 times").about(12.0));
            }
            cell.notes.push(Note::new(NoteKind::MemoryUnknown, format!("system memory is left empty for phase {n}")));
            cell
        };
        repeat::join((0..3).map(one).collect()).unwrap()
    });
    run.cells = cells.collect();
    run
}

#[test]
fn table_and_closing_lines_of_six_cells_with_three_repeats_fit_a_screen() {
    let run = busy_run();
    for width in [80, 120, 200] {
        let text = table::text(&run, Style { width: Some(width), ..Style::default() });
        // The two lines below are those of results and report.
        assert!(text.lines().count() + 2 <= 30, "{} lines\n{text}", text.lines().count());
        assert!(text.lines().all(|l| l.chars().count() <= width), "{text}");
        assert!(!text.contains("mapped"), "settings belong to -v");
        insta::assert_snapshot!(format!("busy_{width}"), text);
    }
    // Even where every cell is invalid or failed for a reason of its own.
    let mut bad = run.clone();
    for (i, cell) in bad.cells.iter_mut().enumerate() {
        let text = format!("{i} graphs ran on another provider than was asked for: {}", "memory_attention, ".repeat(9));
        cell.verdict = Verdict::Invalid { reasons: vec![Reason::new(ReasonKind::Fallback, text)] };
    }
    let text = table::text(&bad, Style { width: Some(80), ..Style::default() });
    assert!(text.lines().count() + 2 <= 30, "{} lines\n{text}", text.lines().count());
}

#[test]
fn every_kind_of_warning_has_one_line_and_every_sentence_stands_once() {
    let run = busy_run();
    let closing = Closing::of(&run);
    let lines: Vec<&str> = closing.warnings.iter().map(|w| w.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "other programs used 1.0 to 1.9 cores in 6 of 6 cells",
            "latency drifted by 8 to 18 % in 5 of 6 cells",
            "outliers (3 to 10 % of the frames) in 6 of 6 cells",
            "a slow start (12 frames) in 1 of 6 cells",
            "system memory that could not be told in 6 of 6 cells",
        ]
    );
    let wide = Style { width: Some(10_000), verbose: true, ..Style::default() };
    let mut long = table::text(&run, wide);
    assert!(long.contains("weights of `graph_11`: mapped") && long.contains("repeat 3: 5 of 100 frames are outliers"));
    assert_eq!(long.matches("weights of `graph_11`: mapped").count(), 1);
    assert_eq!(closing.headline, "6 of 6 valid, 6 disturbed by other programs, outliers");
    // Of an older record the notes have no figures: then none is made up.
    let mut old = run.clone();
    old.cells[3].notes.iter_mut().for_each(|n| n.amount = None);
    assert_eq!(Closing::of(&old).warnings[0].line, "other programs used the processor in 6 of 6 cells");
    // What a cell is not valid for is said once for all cells that share it.
    let mut bad = run.clone();
    for cell in &mut bad.cells[1..] {
        cell.verdict = Verdict::Invalid { reasons: vec![Reason::new(ReasonKind::Throttled, "throttled: heat")] };
    }
    bad.cells[0].verdict = Verdict::Failed { error: "no memory".into(), phase: "load".into() };
    long = table::text(&bad, wide);
    assert_eq!(long.matches("throttled: heat").count(), 1, "{long}");
    assert!(long.contains("[2] 5 cells invalid: throttled: heat"), "{long}");
    assert_eq!(long.matches("invalid [2]").count(), 5, "{long}");
}

#[test]
fn the_last_lines_say_where_the_results_are() {
    let run = busy_run();
    let said = screen(&run, std::path::Path::new("results/board/run"), Wanted::default());
    let last: Vec<&str> = said.lines().rev().take(2).collect();
    assert_eq!(last, ["report:  results/board/run/report.html", "results: results/board/run"]);
    let quiet = Wanted { quiet: true, json: true, ..Wanted::default() };
    assert_eq!(screen(&run, std::path::Path::new("d"), quiet).lines().count(), 1);
}

#[test]
fn a_test_model_is_never_mistaken_for_the_model_it_stands_in_for() {
    let run = synthetic::run();
    let banner = "sam2_mini and edgetam_mini are test models; these figures do not describe SAM 2 or EdgeTAM";
    for text in [table::text(&run, Style::default()), markdown(&run)] {
        assert!(
            text.contains(banner) && text.contains("sam2_mini_points") && !text.contains(" sam2_points "),
            "{text}"
        );
    }
    // The flag says it, not the name.
    let mut full = run.clone();
    full.cells.iter_mut().for_each(|c| c.test_model_of = None);
    assert_eq!(Closing::of(&full).banner, None);
    full.cells[2].test_model_of = Some("EdgeTAM".into());
    let one = Closing::of(&full).banner;
    assert_eq!(one.as_deref(), Some("edgetam_mini is a test model; these figures do not describe EdgeTAM"));
    // Without a pack (a record that was never planned), the tag is all there is.
    full.cells[0].pack.clear();
    assert_eq!(table::model_name(&full.cells[0]), "sam2_points");
}

#[test]
fn an_interrupted_run_keeps_its_figures_in_parentheses_and_says_how_to_go_on() {
    let mut run = synthetic::run();
    run.cells.truncate(3);
    run.stopped = Some("interrupted".into());
    for cell in &mut run.cells[1..] {
        let error = "interrupted; finished sequences are kept".into();
        (cell.verdict, cell.interrupted) = (Verdict::Failed { error, phase: "track".into() }, true);
    }
    (run.cells[2].summary, run.cells[2].sequences) = (None, Vec::new());
    let said = screen(&run, std::path::Path::new("results/a board/run"), Wanted::default());
    assert!(
        said.contains("1 of 3 valid, 2 interrupted; figures in parentheses are of the finished videos only"),
        "{said}"
    );
    assert!(said.ends_with("to continue: jetbench --resume 'results/a board/run'\n"), "{said}");
    let row = |model: &str| said.lines().find(|l| l.starts_with(model)).unwrap().to_string();
    assert!(row("sam2_mini_bbox").contains("interrupted") && row("sam2_mini_bbox").contains("(80.7)"), "{said}");
    assert!(row("edgetam_mini_points").contains("interrupted       –"), "nothing was finished, so there is no figure");
    // The verdict that scripts read stays what it is.
    assert_eq!(run.cells[1].verdict.as_str(), "failed");
    // A failure of the cell's own is told, also when the run was interrupted later.
    let other = repeat::join(vec![
        CellRecord { interrupted: false, ..run.cells[1].clone() },
        CellRecord { interrupted: true, ..run.cells[1].clone() },
    ]);
    assert_eq!(other.unwrap().verdict_words(), "failed");
}

#[test]
fn one_sentence_says_which_model_is_better() {
    let run = synthetic::run();
    let answer = |run: &RunRecord| Closing::of(run).answer;
    // The best cell against the best one of the other model, corrected for the six pairs of four valid cells.
    let said = answer(&run).unwrap();
    assert!(said.contains("sam2_mini_bbox bf16") && said.contains("edgetam_mini_bbox bf16"), "{said}");
    assert!(said.contains("6 videos") && said.contains("corrected for 6 pairs"), "{said}");
    // The other precision of a pack is no rival while another pack is there, and like precision stands against like.
    let mut tied = run.clone();
    tied.cells[4].verdict = Verdict::Valid;
    tied.cells[4].summary.as_mut().unwrap().jf = tied.cells[1].summary.as_ref().unwrap().jf.map(|jf| jf - 0.01);
    let said = answer(&tied).unwrap();
    assert!(
        said.contains("sam2_mini_points fp32") && said.contains("edgetam_mini_bbox bf16"),
        "as good, but faster: {said}"
    );
    // Two alike: no clear difference; a tie in speed is one.
    let mut alike = run.clone();
    alike.cells.truncate(1);
    alike.cells.push(CellRecord { model: "copy_points".into(), pack: "copy".into(), ..alike.cells[0].clone() });
    assert_eq!(
        answer(&alike).unwrap(),
        "No clear difference in J&F between sam2_mini_points and copy_points (95 %: 0.0 to 0.0, 6 videos), nor in speed."
    );
    // One valid cell, or none, answers nothing.
    alike.cells.truncate(1);
    assert_eq!(answer(&alike), None);
    // Repeats that overlap in speed are no clear difference, however far the medians lie apart.
    let mut two = run.clone();
    two.cells.truncate(3);
    two.cells.remove(1);
    // The speed of an emulated precision is the emulation's.
    assert!(answer(&two).unwrap().ends_with("1.8 x slower (emulated)."));
    two.cells.iter_mut().for_each(|cell| cell.precision.clear());
    let faster = answer(&two).unwrap();
    assert!(faster.contains("sam2_mini_points") && faster.ends_with("1.8 x slower."), "{faster}");
    two.cells[0].disturbed = vec![Disturbance::Rivals];
    assert!(answer(&two).unwrap().ends_with("1.8 x slower (disturbed)."));
    for (cell, all) in two.cells.iter_mut().zip([[19.0, 40.0], [20.0, 33.5]]) {
        let once = cell.clone();
        *cell = repeat::join(
            all.map(|fps| {
                let mut one = once.clone();
                one.summary.as_mut().unwrap().fps_wall = Some(fps);
                one
            })
            .to_vec(),
        )
        .unwrap();
    }
    assert!(answer(&two).unwrap().ends_with("nor in speed."), "{:?}", answer(&two));
    // Too few videos for an interval.
    two.cells.iter_mut().for_each(|c| c.sequences.truncate(3));
    assert!(answer(&two).unwrap().contains("on 3 videos; an interval needs 5"), "{:?}", answer(&two));
}
