//! The files for other programs that `run` and `report` were asked for: which format goes where.

use std::path::{Path, PathBuf};

use crate::cli::{ReportArgs, RunArgs};
use crate::exit::Error;
use crate::report::export::{Compared, Format};
use crate::report::plot::Figure;
use crate::results::record::{RunRecord, Verdict};
use crate::results::store;
use crate::text::{plural, say};

/// Formats that were asked for, each with its file; `-` is stdout.
pub(super) struct Exports<'a>(Vec<(Format, &'a Path)>);

impl<'a> Exports<'a> {
    /// Those of `run`.
    ///
    /// # Errors
    /// Two of them are for stdout or for one file, or one would replace what must stay.
    pub(super) fn of_run(args: &'a RunArgs) -> Result<Self, Error> {
        let inputs: Vec<&Path> = [&args.config, &args.prompts].into_iter().flatten().map(PathBuf::as_path).collect();
        let asked = [
            (Format::Markdown, args.export_markdown.as_deref()),
            (Format::Bmf, args.export_bmf.as_deref()),
            (Format::Junit, args.export_junit.as_deref()),
            (Format::Prometheus, args.export_prometheus.as_deref()),
        ];
        Self::of(asked, &inputs)
    }

    /// Those of `report`.
    ///
    /// # Errors
    /// As [`Exports::of_run`].
    pub(super) fn of_report(args: &'a ReportArgs) -> Result<Self, Error> {
        let asked = [
            (Format::Markdown, args.export_markdown.as_deref()),
            (Format::Bmf, args.export_bmf.as_deref()),
            (Format::Junit, args.export_junit.as_deref()),
            (Format::Prometheus, args.export_prometheus.as_deref()),
        ];
        Self::of(asked, &[])
    }

    fn of(asked: [(Format, Option<&'a Path>); 4], inputs: &[&Path]) -> Result<Self, Error> {
        let asked: Vec<_> = asked.into_iter().filter_map(|(format, path)| Some((format, path?))).collect();
        for (i, (format, path)) in asked.iter().enumerate().filter(|(_, (_, path))| path.as_os_str() != "-") {
            let flag = format.flag();
            store::may_replace(path, inputs)
                .map_err(|why| Error::Usage(format!("--{flag} {}: {why}", path.display())))?;
            if let Some((other, _)) = asked[..i].iter().find(|(_, earlier)| earlier == path) {
                let other = other.flag();
                return Err(Error::Usage(format!("--{other} and --{flag} name the same file: {}", path.display())));
            }
        }
        let mut printed = asked.iter().filter(|(_, path)| path.as_os_str() == "-").map(|(format, _)| format.flag());
        match (printed.next(), printed.next()) {
            (Some(one), Some(other)) => Err(Error::Usage(format!(
                "--{one} - and --{other} -: only one of them can have stdout; give the other a file"
            ))),
            _ => Ok(Exports(asked)),
        }
    }

    /// Was none asked for?
    pub(super) fn none(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes all files that can be written, each whole or not at all; returns what is for stdout, and says on stderr which cells
    /// a format leaves out.
    ///
    /// # Errors
    /// Beside it: a file that could not be written.
    pub(super) fn write(&self, run: &RunRecord, compared: Option<Compared>) -> (String, Result<(), Error>) {
        let (mut stdout, mut done) = (String::new(), Ok(()));
        for (format, path) in &self.0 {
            let text = format.text(run, compared);
            let unfit = run.cells.iter().filter(|c| c.verdict != Verdict::Valid).count();
            if *format == Format::Bmf && unfit > 0 {
                say(&format!(
                    "note: --export-bmf leaves out {} not valid",
                    plural(unfit, "cell that is", "cells that are")
                ));
            }
            if path.as_os_str() == "-" {
                stdout = text;
            } else if let Err(e) = store::export(path, text.as_bytes(), &[]) {
                let fault = format!("--{}: cannot write {}: {e}{}", format.flag(), path.display(), store::remedy(&e));
                done = done.and(Err(Error::Environment(fault)));
            }
        }
        (stdout, done)
    }
}

/// Writes a file that the user asked for.
///
/// # Errors
/// As [`store::export`], with the file's name: exit 3.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    store::export(path, bytes, &[]).map_err(|e| Error::Environment(format!("cannot write {}: {e}", path.display())))
}

/// Writes a figure as what its name says: SVG or PNG.
///
/// # Errors
/// Another ending; as [`write_file`].
pub(super) fn write_figure(path: &Path, figure: &Figure) -> Result<(), Error> {
    let bytes = match is_svg(path)? {
        true => figure.svg().into(),
        false => figure.png().map_err(|e| Error::Environment(format!("{}: {e}", path.display())))?,
    };
    write_file(path, &bytes)
}

/// Is the figure of this name an SVG, not a PNG?
///
/// # Errors
/// It is neither.
pub(super) fn is_svg(path: &Path) -> Result<bool, Error> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("svg") => Ok(true),
        Some("png") => Ok(false),
        _ => Err(Error::Usage(format!("--plot {}: the name must end in .svg or .png", path.display()))),
    }
}
