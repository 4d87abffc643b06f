//! What does a model tag mean here? Tags become packs and prompt kinds, devices are held against the runtime's providers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jetbench_runners::files;
use jetbench_runners::packs::{self, PackInfo};
use jetbench_runners::runtime;
use jetbench_runners::types::{Admitted, Device, Dtype, PromptKind};
use jetbench_runners::{REGISTRY, RunnerError};

use crate::exit::{Error, by_nearness, nearest};
use crate::plan::settings::Settings;
use crate::plan::shipped;

/// One model tag x precision x device, ready to be handed to a worker.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Model tag as asked for.
    pub model: String,
    /// The pack it resolved to, as it is on this device.
    pub pack: PackInfo,
    /// Prompt kind.
    pub prompt: PromptKind,
    /// Precision asked for.
    pub dtype: Dtype,
    /// Device asked for.
    pub device: Device,
    /// What became of the options.
    pub admitted: Admitted,
    /// What the file system said of the pack's files before they were checked.
    pub pack_stamp: String,
}

impl Cell {
    /// `sam2_points bf16 cpu`: how a cell is named in messages.
    pub fn label(&self) -> String {
        format!("{} {} {}", self.model, self.dtype, self.device)
    }

    /// The same as a directory name.
    pub fn slug(&self) -> String {
        slug(&self.label())
    }
}

/// The name of a cell as a directory name.
pub fn slug(label: &str) -> String {
    label.replace([' ', ':', '/'], "-")
}

/// A directory on the pack path, and the pack in it.
type Found = (PathBuf, Result<PackInfo, RunnerError>);

/// Default bindings of model names to packs, from the registry.
pub fn registry_aliases<'a>() -> impl Iterator<Item = (&'a str, &'a str)> {
    REGISTRY.iter().flat_map(|e| e.aliases.iter().copied())
}

/// Finds the pack and the prompt kind that a model tag means. Order: the user's aliases, a pack of that name, the
/// registry's aliases.
pub(crate) fn resolve(
    tag: &str,
    settings: &Settings,
    device: Device,
    notes: &mut Vec<String>,
) -> Result<(PackInfo, PromptKind), Error> {
    let found = packs::list(&settings.packs, device);
    let available: Vec<&PackInfo> = found.iter().filter_map(|(_, info)| info.as_ref().ok()).collect();
    let unknown = || unknown_tag(tag, settings, &available);
    let (name, prompt) = tag.rsplit_once('_').ok_or_else(unknown)?;
    let prompt = *PromptKind::ALL.iter().find(|k| k.as_str() == prompt).ok_or_else(unknown)?;
    // The first pack of a name counts, also when it is broken: another one further down the path is never taken in its
    // place.
    let named = |name: &str| found.iter().find(|pack| is_named(pack, name));
    let registered = || registry_aliases().find(|(alias, _)| *alias == name).map(|(_, pack)| pack);
    let bound = settings.alias.get(name).map(String::as_str).or_else(|| named(name).is_none().then(registered)?);
    let wanted = bound.unwrap_or(name);
    let dirs: Vec<&Path> = found.iter().filter(|p| is_named(p, wanted)).map(|(dir, _)| dir.as_path()).collect();
    // A first one that is broken says what is wrong with it.
    if named(wanted).is_some_and(|(_, info)| info.is_ok())
        && let Some(fault) = packs::ambiguous(wanted, &dirs)
    {
        return Err(Error::Usage(fault.to_string()));
    }
    let pack = match named(wanted) {
        Some((_, Ok(pack))) => pack,
        Some((_, Err(fault))) => return Err(Error::Usage(fault.to_string())),
        None => {
            return Err(match bound {
                Some(bound) => Error::Usage(format!(
                    "model `{tag}` means pack `{bound}`, which is not on the pack path ({}); give its place with --packs \
                     DIR, or bind the name to another pack with --alias {name}=PACK",
                    places(&settings.packs)
                )),
                None => unknown(),
            });
        }
    };
    if let Some(bound) = bound {
        let note = format!("model name {name} means pack {bound} ({})", pack.dir.display());
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    if !pack.capabilities.prompts.contains(&prompt) {
        let known: Vec<_> = pack.capabilities.prompts.iter().map(|k| format!("{name}_{k}")).collect();
        return Err(Error::Usage(format!(
            "pack {} takes no {prompt} prompts; it can be run as: {}",
            pack.dir.display(),
            known.join(", ")
        )));
    }
    Ok((pack.clone(), prompt))
}

/// Has a pack this id? Of a broken one as far as can be told.
fn is_named((dir, info): &Found, name: &str) -> bool {
    match info {
        Ok(info) => info.id == name,
        Err(_) => broken_id(dir).is_some_and(|id| id == name),
    }
}

/// Id of a pack that cannot be used, as far as its manifest can be read; else the name of its directory.
fn broken_id(dir: &Path) -> Option<String> {
    let text = files::read_text(&dir.join(packs::FILE_NAME), files::SMALL).unwrap_or_default();
    let table: Option<toml::Table> = toml::from_str(&text).ok();
    let id = table.and_then(|t| t.get("id")?.as_str().map(String::from));
    id.or_else(|| Some(dir.file_name()?.to_string_lossy().into_owned()))
}

fn places(path: &[PathBuf]) -> String {
    if path.is_empty() {
        return format!(
            "neither --packs nor JETBENCH_PACKS is set, there is no ./packs, and {}",
            shipped::missing("assets/packs")
        );
    }
    path.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn unknown_tag(tag: &str, settings: &Settings, available: &[&PackInfo]) -> Error {
    let known = known_tags(&settings.alias, available);
    let listing = if known.is_empty() {
        format!("no packs were found on the pack path ({}); give one with --packs DIR", places(&settings.packs))
    } else {
        format!("known models: {}", by_nearness(tag, known.clone()).join(", "))
    };
    let prompts: Vec<&str> =
        known.iter().filter(|k| k.rsplit_once('_').is_some_and(|(name, _)| name == tag)).map(String::as_str).collect();
    if !prompts.is_empty() {
        return Error::Usage(format!("model `{tag}` lacks its prompt; add one: {}", prompts.join(", ")));
    }
    let hint = nearest(tag, known.iter().map(String::as_str)).map(|n| format!("; did you mean `{n}`?"));
    Error::Usage(format!("unknown model `{tag}`{}\n{listing}", hint.unwrap_or_default()))
}

/// Every model tag that can be run with these packs, aliases first.
pub fn known_tags(aliases: &BTreeMap<String, String>, available: &[&PackInfo]) -> Vec<String> {
    let mut tags = Vec::new();
    for pack in available {
        let bound = aliases.iter().map(|(a, p)| (a.as_str(), p.as_str()));
        let also = bound.chain(registry_aliases()).filter(|(_, p)| *p == pack.id).map(|(a, _)| a);
        for name in also.chain([pack.id.as_str()]) {
            tags.extend(pack.capabilities.prompts.iter().map(|kind| format!("{name}_{kind}")));
        }
    }
    tags
}

/// Looks for ONNX Runtime once for all cells, and for the providers of their devices in it; nothing is loaded to stay.
///
/// # Errors
/// No usable library, or one that was built without a provider that a cell asks for: exit 3.
pub(crate) fn find_runtime(settings: &Settings, cells: &[Cell]) -> Result<Option<PathBuf>, Error> {
    let real: Vec<&Cell> = cells.iter().filter(|c| !c.pack.hidden).collect();
    if real.is_empty() {
        return Ok(None);
    }
    let devices: Vec<Device> = real.iter().map(|cell| cell.device).collect();
    let probe = runtime::probe_for(settings.ort_lib.as_deref(), &devices);
    if let Some(problem) = probe.problem {
        return Err(Error::Environment(problem));
    }
    let library = probe.chosen.as_deref().unwrap_or(Path::new("?"));
    if let Some(text) = devices.iter().find_map(|&device| runtime::lacking(device, library, &probe.providers)) {
        return Err(Error::Environment(text));
    }
    Ok(probe.chosen)
}
