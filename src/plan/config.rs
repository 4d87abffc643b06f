//! Config files: everything the flags of `run` say, under the same names, in TOML. Flags win over the file. The keys
//! are taken from the flags themselves, so the two cannot drift apart; an unknown key is refused with the nearest one.

use std::path::{Path, PathBuf};

use clap::Args;
use jetbench_runners::files;
use jetbench_runners::options;
use serde_json::Value;

use crate::cli::RunArgs;
use crate::exit::{Error, nearest};
use crate::plan::shipped;

/// The flags with the config file's settings behind them: `--config`, else `JETBENCH_CONFIG`, else none.
///
/// # Errors
/// The file cannot be read, is not TOML, or says something that no flag says.
pub fn with_file(flags: RunArgs) -> Result<RunArgs, Error> {
    let path = flags.config.clone().or_else(|| std::env::var_os("JETBENCH_CONFIG").map(Into::into));
    let Some(path) = path.map(|path: PathBuf| shipped::named(&path)) else { return Ok(flags) };
    let text = files::read_text(&path, files::SMALL)
        .map_err(|e| Error::Usage(format!("cannot read the config file {}: {e}", path.display())))?;
    merge(flags, parse(&text, &path)?)
}

/// Reads the text of a config file; `path` is for messages.
fn parse(text: &str, path: &Path) -> Result<RunArgs, Error> {
    let fault = |e: toml::de::Error| Error::Usage(format!("{}: {}", path.display(), e.to_string().trim_end()));
    let table = toml::de::DeTable::parse(text).map_err(fault)?;
    let known = keys();
    for key in table.get_ref().keys() {
        let word: &str = key.get_ref();
        if !known.iter().any(|k| k == word) {
            let line = text[..key.span().start].matches('\n').count() + 1;
            let file = path.display();
            return Err(Error::Usage(match nearest(word, known.iter().map(String::as_str)) {
                Some(near) => format!("{file}:{line}: unknown key `{word}`; did you mean `{near}`?"),
                None => format!("{file}:{line}: unknown key `{word}`; known keys: {}", known.join(", ")),
            }));
        }
    }
    let args: RunArgs = toml::from_str(text).map_err(fault)?;
    let option = table.get_ref().iter().find(|(key, _)| key.get_ref() == "option");
    for word in &args.option {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let Some(Err(wrong)) = options::find(name.trim()).map(|option| option.check(value.trim())) else { continue };
        // In a table an option has a line of its own.
        let own = option.and_then(|(_, value)| value.get_ref().as_table()?.keys().find(|key| key.get_ref() == name));
        let at = own.or(option.map(|(key, _)| key)).map_or(0, |key| key.span().start);
        let line = text[..at].matches('\n').count() + 1;
        return Err(Error::Usage(format!("{}:{line}: {wrong}", path.display())));
    }
    Ok(args)
}

/// Keys that a config file may have: the long names of the flags of `run`, without `config` itself.
pub fn keys() -> Vec<String> {
    RunArgs::augment_args(clap::Command::new("run"))
        .get_arguments()
        .filter_map(|a| a.get_long())
        .filter(|name| !matches!(*name, "config" | "help" | "resume"))
        .map(String::from)
        .collect()
}

/// What the flags say, and what the file says where they are silent.
fn merge(flags: RunArgs, file: RunArgs) -> Result<RunArgs, Error> {
    let (config, resume) = (flags.config.clone(), flags.resume.clone());
    let text = |args: RunArgs| {
        serde_json::to_value(args).map_err(|e| Error::Usage(format!("a setting cannot be written as text: {e}")))
    };
    let (mut merged, over) = (text(file)?, text(flags)?);
    if let (Value::Object(merged), Value::Object(over)) = (&mut merged, over) {
        merged.extend(over);
    }
    let merged: RunArgs = serde_json::from_value(merged).map_err(|e| Error::Usage(format!("settings: {e}")))?;
    Ok(RunArgs { config, resume, ..merged })
}

#[cfg(test)]
mod tests {
    use jetbench_runners::types::Dtype;

    use super::*;

    fn read(text: &str) -> Result<RunArgs, String> {
        parse(text, Path::new("job.toml")).map_err(|e| e.to_string())
    }

    #[test]
    fn every_flag_can_be_said_in_a_file() {
        for key in keys() {
            let words = ["30m", "1GiB", "fp32", "cpu", "1/2", "offline", "strict", "mose", "pass", "rgb24:4x4"]
                .map(|word| format!("\"{word}\""));
            let tries = ["true", "3", "\"x\"", "[\"x\"]"].into_iter().chain(words.iter().map(String::as_str));
            let read = |value| read(&format!("{key} = {value}\n"));
            let flags = tries.map(read).find_map(Result::ok);
            let merged = flags.map(|flags| merge(RunArgs::default(), flags.clone()).map(|merged| merged == flags));
            let merged = merged.map(|merged| merged.map_err(|e| e.to_string()));
            assert_eq!(
                merged,
                Some(Ok(true)),
                "`{key}` is a flag but no value of it can be read from a file and merged"
            );
        }
    }

    #[test]
    fn the_example_suites_are_valid() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
        let mut suites = 0;
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            parse(&std::fs::read_to_string(&path).unwrap(), &path).unwrap_or_else(|e| panic!("{e}"));
            suites += 1;
        }
        assert!(suites >= 3, "{} holds {suites} suites", dir.display());
    }

    #[test]
    fn lists_texts_and_tables_are_read() {
        let args =
            read("models = \"sam2_points\"\ndtype = [\"fp32\", \"bf16\"]\n[option]\nspinning = true\nx = 3\n").unwrap();
        assert_eq!(args.models, ["sam2_points"]);
        assert_eq!(args.dtype, [Dtype::Fp32, Dtype::Bf16]);
        assert_eq!(args.option, ["spinning=true", "x=3"]);
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_one_and_its_line() {
        insta::assert_snapshot!(read("models = []\nlimit-video = 3\n").unwrap_err(),
            @"job.toml:2: unknown key `limit-video`; did you mean `limit-videos`?");
        assert!(read("zzz = 1").unwrap_err().contains("known keys: models, detector, labels, dtype"));
    }

    #[test]
    fn a_wrong_type_names_file_and_line() {
        let error = read("\nlimit-videos = \"many\"\n").unwrap_err();
        assert!(error.starts_with("job.toml: TOML parse error at line 2"), "{error}");
        let error = read("\nmemory-budget = \"900\"\n").unwrap_err();
        assert!(error.contains("at line 2") && error.contains("`900` is no size; a number with a unit"), "{error}");
    }

    #[test]
    fn flags_win() {
        let file = read("models = [\"a_points\"]\nlimit-frames = 4\nquiet = true\nthreads = 2\n").unwrap();
        let flags = RunArgs {
            models: vec!["b_mask".into()],
            quiet: Some(false),
            limit_frames: std::num::NonZeroUsize::new(9),
            ..RunArgs::default()
        };
        let merged = merge(flags, file).unwrap();
        assert_eq!(merged.models, ["b_mask"]);
        assert_eq!(merged.quiet, Some(false));
        assert_eq!(merged.limit_frames.unwrap().get(), 9);
        assert_eq!(merged.threads.unwrap().get(), 2);
    }
}
