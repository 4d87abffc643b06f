//! What does a person see? From a run's record to files and text for readers. One exporter per format, each a pure function of the record: the
//! same record always gives the same bytes, nothing is printed, nothing is read from elsewhere.

pub mod answer;
pub mod closing;
pub mod csv;
pub mod export;
pub mod html;
pub mod movie;
pub mod overlay;
pub mod plot;
pub mod png;
pub mod screen;
pub mod table;
pub mod thumb;

use rayon::prelude::*;

use crate::results::record::RunRecord;

/// Every file that a run leaves for readers, as `(path below the run's directory, content)`: the CSV files, the
/// plots as SVG and PNG, `report.html`, `summary.md`. `run.json` is the caller's.
///
/// # Errors
/// When a figure cannot be made a PNG.
pub fn files(run: &RunRecord) -> Result<Vec<(String, Vec<u8>)>, plot::DrawError> {
    files_with(run, &[], &[])
}

/// The same with what the record does not hold: the rows of `telemetry.csv`, and pictures.
///
/// # Errors
/// As [`files`].
pub fn files_with(
    run: &RunRecord,
    telemetry: &[u8],
    thumbs: &[thumb::Thumb],
) -> Result<Vec<(String, Vec<u8>)>, plot::DrawError> {
    let figures = plot::figures_with(run, telemetry);
    let mut files = vec![
        ("summary.csv".to_string(), csv::summary(run)),
        ("objects.csv".to_string(), csv::objects(run)),
        ("frames.csv".to_string(), csv::frames(run)),
        ("frame_scores.csv".to_string(), csv::frame_scores(run)),
        ("memory.csv".to_string(), csv::memory(run)),
        ("videos.csv".to_string(), csv::videos(run)),
        ("rails.csv".to_string(), csv::rails(run)),
        ("repeats.csv".to_string(), csv::repeats(run)),
        ("summary.md".to_string(), export::markdown::markdown(run).into_bytes()),
        ("report.html".to_string(), html::report(run, &figures, thumbs).into_bytes()),
    ];
    if run.cells.iter().any(|cell| cell.detector.is_some()) {
        files.push(("found.csv".to_string(), csv::found(run)));
    }
    if run.cells.iter().any(|cell| cell.labels.is_some()) {
        files.push(("labels.csv".to_string(), csv::labels(run)));
    }
    if !run.data.has_truth() {
        files.push(("tracks.csv".to_string(), csv::tracks(run)));
    }
    if !run.data.has_truth() || !run.agreement.is_empty() {
        files.push(("agreement.csv".to_string(), csv::agreement(run)));
    }
    let drawn: Vec<_> = figures
        .par_iter()
        .map(|figure| Ok((figure.name.as_str(), figure.svg().into(), figure.png()?)))
        .collect::<Result<_, plot::DrawError>>()?;
    for (name, svg, png) in drawn {
        files.push((format!("plots/{name}.svg"), svg));
        files.push((format!("plots/{name}.png"), png));
    }
    Ok(files)
}
