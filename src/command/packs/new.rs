//! `jetbench packs new`: a manifest for ONNX files that somebody has.

use jetbench_runners::draft::draft;
use jetbench_runners::files;
use jetbench_runners::packs::FILE_NAME;

use crate::cli::NewArgs;
use crate::exit::{Error, NOT_VALID, OK, Outcome};
use crate::text::{clean, shell_word};

/// Writes the manifest and says what is missing.
///
/// # Errors
/// There are no ONNX files, or a manifest is there already (exit 2); it cannot be written (exit 3).
pub fn new(args: &NewArgs) -> Result<Outcome, Error> {
    let at = args.dir.join(FILE_NAME);
    if at.exists() && !args.force {
        return Err(Error::Usage(format!("{}: is there already; --force writes over it", at.display())));
    }
    let full = args.dir.canonicalize().map_err(|e| Error::Usage(format!("{}: {e}", args.dir.display())))?;
    let name = full.file_name().map(|name| name.to_string_lossy().into_owned());
    let id = args.id.clone().or(name).unwrap_or_default();
    let draft = draft(&args.dir, &args.family, &id)?;
    let unwritten = |e: std::io::Error| Error::Environment(format!("cannot write {}: {e}", at.display()));
    let mut file = files::create(&at).map_err(unwritten)?;
    std::io::Write::write_all(&mut file, draft.text.as_bytes()).map_err(unwritten)?;
    let list = |title: &str, items: &[String]| match items {
        [] => String::new(),
        items => format!("{title}\n{}", items.iter().map(|item| format!("  {}\n", clean(item))).collect::<String>()),
    };
    let dir = shell_word(&args.dir.display().to_string());
    let text = format!(
        "{}: written\n{}{}look at it: jetbench packs inspect {dir}\n",
        at.display(),
        list("missing or wrong:", &draft.faults),
        list("to be filled in by hand:", &draft.unknown)
    );
    Ok(Outcome { stdout: text, code: if draft.faults.is_empty() { OK } else { NOT_VALID } })
}
