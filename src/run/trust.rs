//! Which code may a record name? None: a record can come from anywhere, and a library that it names would run with the rights
//! of whoever takes it up again. So a library counts only when the user's own search finds the same file, or when the user
//! names it again beside `--resume`; then the user's path is used, not the record's. Numbers and places in it pass the
//! checks that flags pass.

use std::path::{Path, PathBuf};

use jetbench_runners::options;
use jetbench_runners::runtime;

use crate::cli::RunArgs;
use crate::exit::Error;
use crate::plan::settings::{self, Settings};

/// Makes settings out of a record fit to be used. `run` is the run's directory, `directory` the one in which the record's
/// relative paths hold; the process must still be where the user started it.
///
/// # Errors
/// A library that the user neither has nor names, a value that no flag could have.
pub(super) fn settings_of_record(
    mut settings: Settings,
    args: &RunArgs,
    run: &Path,
    directory: &Path,
) -> Result<Settings, Error> {
    let fault = |text: String| Error::Usage(format!("--resume {}: {text}", run.display()));
    settings.check().map_err(|e| fault(format!("in its record: {e}")))?;
    runtime_library(&mut settings, args, directory).map_err(&fault)?;
    plugin_libraries(&mut settings, args, directory).map_err(&fault)?;
    option_libraries(&settings, args).map_err(&fault)?;
    // Results go on where the run lies, wherever its record says that it began.
    if let Some(out) = run.parent().and_then(Path::parent) {
        settings.out = out.to_path_buf();
    }
    Ok(settings)
}

/// ONNX Runtime: the one that was named to the run must be named again or be found by the user's own search.
fn runtime_library(settings: &mut Settings, args: &RunArgs, directory: &Path) -> Result<(), String> {
    let recorded = settings.ort_lib.take().map(|lib| directory.join(lib));
    let own = match (&args.ort_lib, &recorded) {
        (Some(given), _) => Some(given.clone()),
        // As the plan searched, which asks the plugins for the devices first.
        (None, Some(_)) if settings.ep_library.is_empty() => runtime::probe_for(None, &settings.device).chosen,
        (None, Some(_)) => runtime::probe_for(None, &[]).chosen,
        (None, None) => return Ok(()),
    };
    if let Some(recorded) = recorded
        && !own.as_deref().is_some_and(|own| runtime::same_file(own, &recorded))
    {
        let named = recorded.display();
        return Err(match &args.ort_lib {
            Some(given) => {
                format!(
                    "its record names the ONNX Runtime {named}, --ort-lib names {}; start a new run",
                    given.display()
                )
            }
            None => format!(
                "its record names the ONNX Runtime {named}, which is not the one found here; a record's library is not \
                 loaded unless you name it: add --ort-lib FILE with that file if you trust it"
            ),
        });
    }
    settings.ort_lib = own.map(|own| own.canonicalize().unwrap_or(own));
    Ok(())
}

/// Plugin libraries: those that were named to the run must be named again, and no others.
fn plugin_libraries(settings: &mut Settings, args: &RunArgs, directory: &Path) -> Result<(), String> {
    let recorded: Vec<PathBuf> = settings.ep_library.iter().map(|library| directory.join(library)).collect();
    let known = |list: &[PathBuf], library: &Path| list.iter().any(|other| runtime::same_file(other, library));
    if let Some(unsaid) = recorded.iter().find(|library| !known(&args.ep_library, library)) {
        return Err(format!(
            "its record names the plugin library {}; a record's library is not loaded unless you name it: add --ep-library FILE with \
             that file if you trust it",
            unsaid.display()
        ));
    }
    if let Some(other) = args.ep_library.iter().find(|library| !known(&recorded, library)) {
        return Err(format!("its record does not name the plugin library {}; start a new run", other.display()));
    }
    let own = args.ep_library.iter().map(|library| library.canonicalize().unwrap_or_else(|_| library.clone()));
    settings.ep_library = own.collect();
    Ok(())
}

/// Options that load libraries must be said again.
fn option_libraries(settings: &Settings, args: &RunArgs) -> Result<(), String> {
    let again = settings::options(args).map_err(|e| e.to_string())?;
    for (name, value) in settings.options.extra.iter().filter(|(name, _)| options::loads_libraries(name)) {
        if again.extra.get(name) != Some(value) {
            return Err(format!(
                "its record has the option {name}={value}, which loads libraries; add --option with the same words if you \
                 trust them"
            ));
        }
    }
    Ok(())
}

/// What `--resume` may be given beside the flags about the screen: what names code that the record names too.
pub(super) fn named_again(args: &RunArgs) -> RunArgs {
    let mut rest = args.clone();
    rest.ort_lib = None;
    rest.ep_library.clear();
    rest.option.retain(|word| !options::loads_libraries(word.split('=').next().unwrap_or_default().trim()));
    rest
}
