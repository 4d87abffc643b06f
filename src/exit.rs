//! Exit codes, and the error that carries one. Scripts and schedulers act on these numbers, so they live in one place
//! and every command ends through here.

use jetbench_runners::RunnerError;

use crate::dataset::DataError;

/// Every cell valid, every check passed.
pub const OK: u8 = 0;
/// Something invalid, failed or out of tolerance.
pub const NOT_VALID: u8 = 1;
/// Wrong usage, wrong pack or wrong data: nothing was measured for it.
pub const USAGE: u8 = 2;
/// Device, driver, runtime or file system is not up to it.
pub const ENVIRONMENT: u8 = 3;
/// Ctrl-C or a termination signal; finished sequences are kept.
pub const INTERRUPTED: u8 = 130;

/// What each code means, for a run; help and documents say the same.
pub const MEANINGS: [(u8, &str); 5] = [
    (OK, "every cell is valid"),
    (NOT_VALID, "a cell is invalid or failed, or a check did not pass"),
    (USAGE, "wrong usage, model pack or data"),
    (ENVIRONMENT, "device, ONNX Runtime or environment is unfit; an output cannot be written"),
    (INTERRUPTED, "interrupted; finished sequences are kept"),
];

/// An error that ends the program, with the class that decides the exit code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Command line, config file, pack or data are wrong: exit 2.
    #[error("{0}")]
    Usage(String),
    /// The machine lacks something: exit 3.
    #[error("{0}")]
    Environment(String),
    /// The model failed outside a run: exit 1.
    #[error("{0}")]
    Failed(String),
    /// The data cannot be used: exit 2.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A runner or its pack: the class of its error decides.
    #[error(transparent)]
    Runner(#[from] RunnerError),
}

impl Error {
    /// The exit code of this class.
    pub fn code(&self) -> u8 {
        match self {
            Error::Usage(_) | Error::Data(_) => USAGE,
            Error::Runner(RunnerError::Pack(_) | RunnerError::Usage(_)) => USAGE,
            Error::Environment(_) | Error::Runner(RunnerError::Environment(_)) => ENVIRONMENT,
            Error::Failed(_) | Error::Runner(RunnerError::Inference(_)) => NOT_VALID,
        }
    }
}

/// The known word nearest to `word`, when it is near enough to be what was meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Known words, nearest to `word` first.
pub fn by_nearness(word: &str, mut known: Vec<String>) -> Vec<String> {
    known.sort_by(|a, b| {
        let similarity = |other: &str| strsim::jaro_winkler(word, other);
        similarity(b).total_cmp(&similarity(a)).then_with(|| a.cmp(b))
    });
    known
}

/// What a command leaves for `main` to print, and its exit code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Text for stdout, with its final newline.
    pub stdout: String,
    /// Exit code.
    pub code: u8,
}

impl Outcome {
    /// Text and exit code 0.
    pub fn ok(stdout: String) -> Self {
        Outcome { stdout, code: OK }
    }
}
