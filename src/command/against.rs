//! A finished run against the baseline that `run` was given: the rules of `compare`, and what they do to the exit code.

use std::path::{Path, PathBuf};

use crate::cli::{OnInconclusive, RunArgs};
use crate::command::compare;
use crate::exit::{self, Error};
use crate::judge::change::Comparison;
use crate::plan::settings;
use crate::report::export::Compared;
use crate::results::record::RunRecord;
use crate::results::{baseline, store};

/// A baseline, found before anything is measured.
pub(super) struct Against {
    name: String,
    out: PathBuf,
    dir: PathBuf,
    base: RunRecord,
    fail: bool,
    on_inconclusive: OnInconclusive,
}

impl Against {
    /// The baseline that `args` name, if they do.
    ///
    /// # Errors
    /// There is none of this name, or its run cannot be read; a flag that needs a baseline without one.
    pub(super) fn of(args: &RunArgs) -> Result<Option<Self>, Error> {
        let fail = args.fail_on_regression.unwrap_or(false);
        let Some(name) = &args.baseline else {
            let flag = match (fail, args.on_inconclusive) {
                (true, _) => "--fail-on-regression",
                (false, Some(_)) => "--on-inconclusive",
                (false, None) => return Ok(None),
            };
            return Err(Error::Usage(format!("{flag}: regressed against what? name the run with --baseline NAME")));
        };
        let out = settings::default_out(args.out.clone());
        let dir = baseline::find(&out, name)?;
        let base = store::load(&dir)?;
        Ok(Some(Against {
            name: name.clone(),
            out,
            dir,
            base,
            fail,
            on_inconclusive: args.on_inconclusive.unwrap_or_default(),
        }))
    }

    /// What the files for other programs are told of a comparison; `text` is what a reader is.
    pub(super) fn told<'a>(&'a self, comparison: &'a Comparison, text: &'a str) -> Compared<'a> {
        let undecided = self.on_inconclusive == OnInconclusive::Fail;
        Compared { baseline: &self.name, cells: &comparison.cells, undecided, fail: self.fail, text }
    }

    /// The comparison, and the exit code of a run that had `code` before it. A run that was interrupted has nothing to compare.
    pub(super) fn compare(&self, run: &RunRecord, dir: &Path, code: u8) -> (Option<Comparison>, u8) {
        if code == exit::INTERRUPTED {
            return (None, code);
        }
        let past = compare::past(&self.out);
        let comparison = compare::between((&self.dir, &self.base), (dir, run), &past, None);
        let regressed = self.fail && comparison.fails(self.on_inconclusive);
        (Some(comparison), if code == exit::OK && regressed { exit::NOT_VALID } else { code })
    }
}
