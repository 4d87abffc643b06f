//! What a shell offers for the value of a flag: words that are known, and packs and runs that are found now.

use std::ffi::OsStr;

use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use jetbench_runners::types::{Device, Dtype};

use crate::dataset::Layout;
use crate::plan::mask_files::MaskFiles;
use crate::plan::overlays::Overlays;
use crate::plan::scenario::Scenario;
use crate::plan::{resolve, settings};
use crate::results::store;
use crate::score::Rules;

/// Shells that can ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// Bash
    Bash,
    /// Elvish
    Elvish,
    /// Fish
    Fish,
    /// PowerShell
    #[value(name = "powershell")]
    PowerShell,
    /// Zsh
    Zsh,
}

fn words<W: Into<std::ffi::OsString>>(words: impl IntoIterator<Item = W>) -> Vec<CompletionCandidate> {
    words.into_iter().map(CompletionCandidate::new).collect()
}

/// Tags of the packs on the pack path. `--packs` of the same line is not known here.
pub(super) fn models() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let found = jetbench_runners::packs::list(&settings::pack_path(&[]), Device::Cpu);
        let packs: Vec<_> = found.iter().filter_map(|(_, info)| info.as_ref().ok()).collect();
        words(resolve::known_tags(&Default::default(), &packs))
    })
}

pub(super) fn dtypes() -> ArgValueCandidates {
    ArgValueCandidates::new(|| words(Dtype::ALL.map(Dtype::as_str)))
}

/// Devices of each kind; which of them are here is `doctor`'s to say.
pub(super) fn devices() -> ArgValueCandidates {
    ArgValueCandidates::new(|| words(["cpu", "cuda:0", "tensorrt:0", "webgpu:0"]))
}

pub(super) fn scenarios() -> ArgValueCandidates {
    ArgValueCandidates::new(|| words(Scenario::ALL.map(Scenario::as_str)))
}

pub(super) fn overlays() -> ArgValueCandidates {
    ArgValueCandidates::new(|| words(Overlays::WORDS))
}

pub(super) fn mask_files() -> ArgValueCandidates {
    ArgValueCandidates::new(|| words(MaskFiles::WORDS))
}

pub(super) fn layouts() -> ArgValueCandidates {
    ArgValueCandidates::new(|| words(Layout::ALL.map(Layout::as_str)))
}

pub(super) fn protocols() -> ArgValueCandidates {
    ArgValueCandidates::new(|| words(Rules::words()))
}

/// Runs of the results directory by their ids, newest first, and `latest`; or a directory. `--out` of the same line is not
/// known here.
pub(super) fn runs() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let found = store::named(&settings::default_out(None)).into_iter().rev().map(|(id, _)| id);
        let mut offered = words(["latest".to_string()].into_iter().chain(found));
        offered.retain(|c| c.get_value().as_encoded_bytes().starts_with(typed.as_encoded_bytes()));
        offered.extend(PathCompleter::dir().complete(typed));
        offered
    })
}
