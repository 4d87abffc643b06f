//! What does a model tag mean here? Tags become packs and prompt kinds, devices are held against the runtime's providers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jetbench_runners::files;
use jetbench_runners::packs::{self, PackInfo};
use jetbench_runners::plugin;
use jetbench_runners::runtime;
use jetbench_runners::types::{Admitted, Device, Dtype, PromptKind};
use jetbench_runners::{REGISTRY, RunnerError};

use crate::dataset::same_class;
use crate::exit::{Error, by_nearness, nearest};
use crate::plan::plugins::{self, Offered, Plugins};
use crate::plan::settings::Settings;
use crate::plan::shipped;

/// One model tag x precision x device, ready to be handed to a worker.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Model tag as asked for.
    pub model: String,
    /// The pack it resolved to, as it is on this device; with a detector, what the two together can do.
    pub pack: PackInfo,
    /// The pack of the detector that founds the tracks.
    pub detector: Option<PackInfo>,
    /// The pack that names the tracks.
    pub labels: Option<PackInfo>,
    /// Prompt kind.
    pub prompt: PromptKind,
    /// Precision asked for.
    pub dtype: Dtype,
    /// Device asked for.
    pub device: Device,
    /// What became of the options.
    pub admitted: Admitted,
    /// What the file system said of the files of its packs before they were checked, in the order of [`Cell::packs`].
    pub pack_stamps: Vec<String>,
    /// Its device as a plugin library offers it; `None`: a provider of ONNX Runtime's own runs it.
    pub offered: Option<Offered>,
    /// ONNX Runtime, and what its device's provider is loaded from, each with the SHA-256 that it had when this was planned. None for a
    /// test pack.
    pub libraries: Vec<(PathBuf, String)>,
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

    /// The libraries that its worker loads with this ONNX Runtime, that first.
    pub(super) fn loads(&self, ort_lib: &Path) -> Vec<PathBuf> {
        let providers = match &self.offered {
            Some(offered) => vec![offered.library.clone()],
            None => runtime::provider_files(ort_lib, self.device),
        };
        [vec![ort_lib.to_path_buf()], providers].concat()
    }

    /// Does it find its objects itself, with a detector or because its pack does both? Then nobody prompts.
    pub fn finds(&self) -> bool {
        self.prompt == PromptKind::Detector
    }

    /// Names of the classes that it gives: of the label pack where there is one, else of what finds the objects.
    fn classes(&self) -> &[String] {
        &self.labels.as_ref().or(self.detector.as_ref()).unwrap_or(&self.pack).classes
    }

    /// Is one of its classes among these names, as classes are compared?
    pub fn has_class_among<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> bool {
        let known: Vec<String> = self.classes().iter().map(|name| same_class(name)).collect();
        names.into_iter().any(|name| known.contains(&same_class(name)))
    }

    /// Does its pack find objects by itself, whether the tracks are the result or objects that are prompted take them?
    pub fn segments(&self) -> bool {
        self.detector.is_none() && self.pack.finds_and_tracks()
    }

    /// The pack that finds the objects: a detector's, or its own.
    pub fn finder(&self) -> Option<&PackInfo> {
        self.finds().then(|| self.detector.as_ref().unwrap_or(&self.pack))
    }

    /// Its packs: the tracker's, a detector's, and a label pack's.
    pub fn packs(&self) -> impl Iterator<Item = &PackInfo> {
        std::iter::once(&self.pack).chain(&self.detector).chain(&self.labels)
    }

    /// Digests of their manifests, as records have them: of several, `+` between.
    pub fn pack_digest(&self) -> String {
        self.packs().map(|pack| pack.digest.as_str()).collect::<Vec<_>>().join("+")
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

/// What a model tag means.
pub(crate) struct Meaning {
    /// As [`Cell::pack`].
    pub pack: PackInfo,
    /// As [`Cell::detector`].
    pub detector: Option<PackInfo>,
    /// As [`Cell::prompt`].
    pub prompt: PromptKind,
}

/// Finds what a model tag means: `<pack>_<prompt>`, `<tracker's pack>_<detector's pack>`, or a pack alone that finds and tracks. Names of packs, in this order: the
/// user's aliases, a pack of that name, the registry's aliases.
pub(crate) fn resolve(
    tag: &str,
    settings: &Settings,
    device: Device,
    notes: &mut Vec<String>,
) -> Result<Meaning, Error> {
    let found = packs::list(&settings.packs, device);
    let names = Names { found: &found, settings };
    let available: Vec<&PackInfo> = found.iter().filter_map(|(_, info)| info.as_ref().ok()).collect();
    let unknown = || unknown_tag(tag, settings, &available);
    let readings = names.readings(tag);
    match readings.as_slice() {
        [] => Err(unknown()),
        [(name, Word::Prompt(prompt))] => {
            let pack = names.pack(name, tag, notes)?;
            if !pack.capabilities.prompts.contains(prompt) {
                return Err(Error::Usage(format!(
                    "pack {} takes no {prompt} prompts{}",
                    pack.dir.display(),
                    runs_as(name, pack, &available)
                )));
            }
            Ok(Meaning { pack: pack.clone(), detector: None, prompt: *prompt })
        }
        [(name, Word::Alone)] => {
            let pack = names.pack(name, tag, notes)?;
            Ok(Meaning { pack: pack.clone(), detector: None, prompt: PromptKind::Detector })
        }
        [(name, Word::Detector(detector))] => {
            let (tracker, detector) = (names.pack(name, tag, notes)?, names.pack(detector, tag, notes)?);
            let pack = packs::compose(tracker, detector).map_err(|e| Error::Usage(e.to_string()))?;
            Ok(Meaning { pack, detector: Some(detector.clone()), prompt: PromptKind::Detector })
        }
        several => {
            let said = several.iter().map(|(name, word)| match word {
                Word::Prompt(prompt) => format!("pack `{name}` with {prompt} prompts"),
                Word::Detector(detector) => format!("tracker `{name}` with detector `{detector}`"),
                Word::Alone => format!("pack `{name}` without prompts"),
            });
            let said = said.collect::<Vec<_>>().join(", and ");
            Err(Error::Usage(format!(
                "model `{tag}` means {said}; choose one by giving its pack a name of its own with --alias NAME=PACK"
            )))
        }
    }
}

/// The label pack of `--labels`, for a precision and a device.
///
/// # Errors
/// There is none of that name, it is no label pack, or it has no such graphs.
pub(crate) fn labels(settings: &Settings, dtype: Dtype, device: Device) -> Result<Option<PackInfo>, Error> {
    let Some(asked) = &settings.labels else { return Ok(None) };
    let name = settings.alias.get(asked).map_or(asked.as_str(), String::as_str);
    let refuse = |text: String| Err(Error::Usage(format!("--labels {asked}: {text}")));
    let pack = match packs::find(&settings.packs, name, device) {
        Ok(pack) => pack,
        Err(fault) => return refuse(fault.to_string()),
    };
    if !pack.labels() {
        return refuse(format!(
            "pack {} is of family {}, and a label pack is of clip_labels",
            pack.dir.display(),
            pack.family
        ));
    }
    if !pack.capabilities.dtypes.contains(&dtype) {
        let known: Vec<_> = pack.capabilities.dtypes.iter().map(ToString::to_string).collect();
        return refuse(format!("pack {} has no {dtype} graphs; it has: {}", pack.dir.display(), known.join(", ")));
    }
    Ok(Some(pack))
}

/// What stands behind the name of a pack in a tag.
#[derive(Debug, PartialEq, Eq)]
enum Word<'a> {
    Prompt(PromptKind),
    Detector(&'a str),
    /// Nothing: it needs neither.
    Alone,
}

/// The names that a tag may be made of.
struct Names<'a> {
    found: &'a [Found],
    settings: &'a Settings,
}

impl<'a> Names<'a> {
    /// Every way to read a tag of which all names are known.
    fn readings<'t>(&self, tag: &'t str) -> Vec<(&'t str, Word<'t>)> {
        let splits = tag.match_indices('_').map(|(at, _)| (&tag[..at], &tag[at + 1..]));
        let reading = |(name, rest): (&'t str, &'t str)| {
            self.is_known(name, None).then_some(())?;
            match PromptKind::ALL.iter().find(|kind| kind.as_str() == rest) {
                Some(kind) => Some((name, Word::Prompt(*kind))),
                None => (self.is_known(name, Some(false)) && self.is_known(rest, Some(true)))
                    .then_some((name, Word::Detector(rest))),
            }
        };
        let alone = self.finds_and_tracks(tag).then_some((tag, Word::Alone));
        splits.filter_map(reading).chain(alone).collect()
    }

    /// Is this the name of a pack, as far as can be told of a detector or of none, as wanted?
    fn is_known(&self, name: &str, detects: Option<bool>) -> bool {
        let bound = self.bound(name);
        match self.named(bound.unwrap_or(name)) {
            Some((_, Ok(pack))) => detects.is_none_or(|wanted| pack.detects == wanted),
            Some((_, Err(_))) => true,
            None => bound.is_some(),
        }
    }

    /// Is this the name of a pack that needs neither, as far as can be told of a broken one?
    fn finds_and_tracks(&self, name: &str) -> bool {
        let found = self.named(self.bound(name).unwrap_or(name));
        found.is_some_and(|(_, info)| info.as_ref().map_or(true, PackInfo::finds_and_tracks))
    }

    /// The first pack of a name counts, also when it is broken: another one further down the path is never taken in its place.
    fn named(&self, name: &str) -> Option<&'a Found> {
        self.found.iter().find(|pack| is_named(pack, name))
    }

    /// The pack that a name is bound to.
    fn bound(&self, name: &str) -> Option<&'a str> {
        let registered = || registry_aliases().find(|(alias, _)| *alias == name).map(|(_, pack)| pack);
        self.settings.alias.get(name).map(String::as_str).or_else(|| self.named(name).is_none().then(registered)?)
    }

    /// The pack of a known name.
    fn pack(&self, name: &str, tag: &str, notes: &mut Vec<String>) -> Result<&'a PackInfo, Error> {
        let bound = self.bound(name);
        let wanted = bound.unwrap_or(name);
        let dirs: Vec<&Path> =
            self.found.iter().filter(|p| is_named(p, wanted)).map(|(dir, _)| dir.as_path()).collect();
        // A first one that is broken says what is wrong with it.
        if self.named(wanted).is_some_and(|(_, info)| info.is_ok())
            && let Some(fault) = packs::ambiguous(wanted, &dirs)
        {
            return Err(Error::Usage(fault.to_string()));
        }
        let pack = match self.named(wanted) {
            Some((_, Ok(pack))) => pack,
            Some((_, Err(fault))) => return Err(Error::Usage(fault.to_string())),
            None => {
                return Err(Error::Usage(format!(
                    "model `{tag}` means pack `{wanted}`, which is not on the pack path ({}); give its place with --packs \
                     DIR, or bind the name to another pack with --alias {name}=PACK",
                    places(&self.settings.packs)
                )));
            }
        };
        if let Some(bound) = bound {
            let note = format!("model name {name} means pack {bound} ({})", pack.dir.display());
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        Ok(pack)
    }
}

/// What a pack can be run as, as the end of a sentence that it cannot be run so.
fn runs_as(name: &str, pack: &PackInfo, available: &[&PackInfo]) -> String {
    if pack.labels() {
        return format!(": it names the tracks of other models; say --models TAG --labels {name}");
    }
    if pack.detects {
        let tracker = available.iter().find(|tracker| packs::compose(tracker, pack).is_ok());
        let tracker = tracker.map_or("TRACKER", |tracker| tracker.id.as_str());
        return format!(": it is a detector, which founds the tracks of a tracker; say {tracker}_{name}");
    }
    let known = prompted_tags(name, pack);
    format!("; it can be run as: {}", known.join(", "))
}

/// The tags of a pack under a name, without those of detectors.
fn prompted_tags(name: &str, pack: &PackInfo) -> Vec<String> {
    let tag = |kind: &PromptKind| match kind {
        PromptKind::Detector => name.to_string(),
        kind => format!("{name}_{kind}"),
    };
    pack.capabilities.prompts.iter().map(tag).collect()
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

/// Every model tag that can be run with these packs, of each pack those of its aliases first: with the prompts that it takes, and
/// with the detectors among them. A detector goes by its aliases beside an alias, and by its id beside an id.
pub fn known_tags(aliases: &BTreeMap<String, String>, available: &[&PackInfo]) -> Vec<String> {
    available.iter().flat_map(|pack| tags_of(pack, aliases, available)).flat_map(|(_, tags)| tags).collect()
}

/// The tags of one pack by its name in them, aliases first, its id last.
pub fn tags_of<'a>(
    pack: &'a PackInfo,
    aliases: &'a BTreeMap<String, String>,
    available: &[&PackInfo],
) -> Vec<(&'a str, Vec<String>)> {
    let also = |pack: &PackInfo| -> Vec<&'a str> {
        let bound = aliases.iter().map(|(a, p)| (a.as_str(), p.as_str()));
        bound.chain(registry_aliases()).filter(|(_, p)| *p == pack.id).map(|(a, _)| a).collect()
    };
    let detectors: Vec<&&PackInfo> = available.iter().filter(|other| packs::compose(pack, other).is_ok()).collect();
    let names = also(pack).into_iter().chain([pack.id.as_str()]);
    let tags = names.map(|name| {
        let mut tags = prompted_tags(name, pack);
        for detector in &detectors {
            let short = also(detector);
            match name == pack.id || short.is_empty() {
                true => tags.push(format!("{name}_{}", detector.id)),
                false => tags.extend(short.iter().map(|short| format!("{name}_{short}"))),
            }
        }
        (name, tags)
    });
    tags.collect()
}

/// ONNX Runtime with the providers of these devices, and what the plugin libraries offer to it.
fn look_for(settings: &Settings, devices: &[Device]) -> Result<(runtime::RuntimeProbe, Plugins), Error> {
    let probe = runtime::probe_for(settings.ort_lib.as_deref(), devices);
    if let Some(problem) = probe.problem {
        return Err(Error::Environment(problem));
    }
    let library = probe.chosen.as_deref().unwrap_or(Path::new("?"));
    let plugins = Plugins::find(library, probe.version.as_deref().unwrap_or_default(), &settings.ep_library)?;
    Ok((probe, plugins))
}

/// Looks for ONNX Runtime once for all cells, and for the providers of their devices in it or in the plugin libraries that were named; nothing
/// is loaded to stay. Which library a cell's device comes from is entered in the cell.
///
/// # Errors
/// No usable library, or none with a provider that a cell asks for: exit 3. A device that only a plugin library can have, and none
/// was named: exit 2.
pub(crate) fn find_runtime(
    settings: &Settings,
    cells: &mut [Cell],
    notes: &mut Vec<String>,
) -> Result<Option<PathBuf>, Error> {
    let named = !settings.ep_library.is_empty();
    if let Some(text) = cells.iter().filter(|_| !named).find_map(|cell| plugin::needs_library(cell.device)) {
        return Err(Error::Usage(text));
    }
    plugins::are_files(&settings.ep_library)?;
    let mut real: Vec<&mut Cell> = cells.iter_mut().filter(|c| !c.pack.hidden).collect();
    if real.is_empty() {
        return Ok(None);
    }
    let devices: Vec<Device> = real.iter().map(|cell| cell.device).collect();
    // Which of them are the runtime's own is known when the plugins have been asked.
    let (mut probe, mut plugins) = look_for(settings, if named { &[] } else { &devices })?;
    let own: Vec<Device> = devices.iter().copied().filter(|device| plugins.offering(*device).is_none()).collect();
    let library = probe.chosen.as_deref().unwrap_or(Path::new("?"));
    if named && own.iter().any(|device| runtime::lacking(*device, library, &probe.providers).is_some()) {
        (probe, plugins) = look_for(settings, &own)?;
    }
    let library = probe.chosen.as_deref().unwrap_or(Path::new("?"));
    for cell in &mut real {
        cell.offered = plugins.offering(cell.device);
        if cell.offered.is_none()
            && let Some(text) = runtime::lacking(cell.device, library, &probe.providers)
        {
            return Err(Error::Environment(plugins.lacking(cell.device, text)));
        }
    }
    notes.extend(plugins.idle(&devices));
    Ok(probe.chosen)
}
