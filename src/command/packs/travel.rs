//! `jetbench packs pack`, `add` and `hash`: a pack as one file from here to there, and its digests.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jetbench_runners::archive::{self, Index};
use jetbench_runners::packs;
use jetbench_runners::types::Device;

use crate::cli::{AddArgs, HashArgs, PackArgs};
use crate::exit::{Error, NOT_VALID, OK, Outcome};
use crate::text::{clean, plural, say, shell_word};

/// This program's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Writes an archive.
///
/// # Errors
/// The pack is broken (exit 2) or the archive cannot be written (exit 3).
pub fn pack(args: &PackArgs) -> Result<Outcome, Error> {
    let to = match &args.out {
        Some(file) => file.clone(),
        None => PathBuf::from(format!("{}.jetpack.tar", packs::describe(&args.pack, Device::Cpu)?.id)),
    };
    let index = archive::write(&args.pack, &to, VERSION)?;
    let digest = archive::sha256_of(&to)?;
    Ok(Outcome::ok(format!(
        "{}: {}, SHA-256 {digest}\non the board: jetbench packs add {} --sha256 {digest}\n",
        to.display(),
        described(&index),
        shell_word(&to.display().to_string())
    )))
}

/// Installs the pack of an archive.
///
/// # Errors
/// The archive or its pack is not as it should be (exit 2), it cannot be fetched or written (exit 3).
pub fn add(args: &AddArgs) -> Result<Outcome, Error> {
    let remote = args.archive.starts_with("http://") || args.archive.starts_with("https://");
    let file = if remote { fetch(&args.archive, &args.out)? } else { PathBuf::from(&args.archive) };
    if let Some(wanted) = &args.sha256 {
        let found = archive::sha256_of(&file)?;
        if !found.eq_ignore_ascii_case(wanted) {
            return Err(Error::Usage(format!("{}: its SHA-256 is {found}, wanted is {wanted}", file.display())));
        }
    }
    let (place, index) = archive::install(&file, &args.out, args.replace)?;
    if remote {
        let _ = std::fs::remove_file(&file);
    }
    let mut text = format!("{}: {}; every file as the archive says\n", place.display(), described(&index));
    if index.written_by != VERSION {
        text.push_str(&format!("written by jetbench {}, this is {VERSION}\n", clean(&index.written_by)));
    }
    text.push_str(&format!("prove it here: jetbench verify {}\n", shell_word(&place.display().to_string())));
    Ok(Outcome::ok(text))
}

fn described(index: &Index) -> String {
    format!(
        "pack {} ({}), {}, {:.1} MB, pack.toml {}",
        clean(&index.id),
        clean(&index.family),
        plural(index.files.len(), "file", "files"),
        index.bytes() as f64 / 1e6,
        index.manifest_sha256.get(..12).unwrap_or_default()
    )
}

/// Fetches an archive into the folder of packs, resumed where an earlier try broke off.
fn fetch(address: &str, folder: &Path) -> Result<PathBuf, Error> {
    std::fs::create_dir_all(folder).map_err(|e| Error::Environment(format!("{}: {e}", folder.display())))?;
    let name = jetbench_runners::digest::sha256_hex(address.as_bytes());
    let part = folder.join(format!(".fetching-{}", &name[..16]));
    say(&format!("fetching {}", clean(address)));
    let options = ["--fail", "--location", "--retry", "5", "--proto", "=http,https", "--continue-at", "-", "--output"];
    match Command::new("curl").args(options).arg(&part).arg(address).stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(part),
        Ok(status) => Err(Error::Environment(format!("curl ended with {status}; the same command goes on from there"))),
        Err(e) => Err(Error::Environment(format!("curl: {e}; install it, or fetch the file yourself and name it"))),
    }
}

/// Prints digests.
///
/// # Errors
/// The manifest or a file cannot be read (exit 2).
pub fn hash(args: &HashArgs) -> Result<Outcome, Error> {
    let found = archive::digests(&args.pack)?;
    let code = if found.iter().all(archive::Digested::agrees) { OK } else { NOT_VALID };
    if args.json {
        let text =
            serde_json::to_string(&found).map_err(|e| Error::Failed(format!("the digests cannot be written: {e}")))?;
        return Ok(Outcome { stdout: text + "\n", code });
    }
    let mut text = String::new();
    for item in &found {
        text.push_str(&format!("{}  {}", item.sha256, clean(&item.file)));
        if let Some(said) = item.said.as_ref().filter(|_| !item.agrees()) {
            text.push_str(&format!("  ({}: pack.toml says {})", clean(&item.what), clean(said)));
        }
        text.push('\n');
    }
    Ok(Outcome { stdout: text, code })
}
