//! Finds model packs on the pack path and says what they can do, for every family in the registry. This is all the
//! measuring program needs to turn `sam2_points` into a directory and a list of capabilities.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::host::runtime::same_file;
use crate::host::{options, pool};
use crate::manifest::panoptic::PanopticSpec;
use crate::pack::read_text;
use crate::runner::{Entry, Runner, RunnerError};
use crate::types::{Capabilities, Device, Dtype, OpenRequest, PromptKind};
use crate::{compose, detect, digest, follow, foreign, label, mock, sam, segment};

pub use crate::manifest::FILE_NAME;

/// Every family jetbench can run.
#[rustfmt::skip] // a line per family
pub const REGISTRY: &[Entry] = &[
    Entry { compose: Some(compose::open), ..sam::SAM2 },
    Entry { compose: Some(compose::open), ..sam::EDGETAM },
    Entry { compose: Some(compose::open), ..sam::EFFICIENTTAM },
    Entry { compose: Some(compose::open), ..sam::SAM3_TRACKER },
    foreign::sam2_image::ENTRY,
    foreign::sam2export::ENTRY,
    detect::contract::DFINE,
    label::contract::CLIP_LABELS,
    segment::contract::VIDEOMT,
    follow::contract::DVIS_DAQ,
    mock::ENTRY,
    mock::DETECTOR,
];

impl PackInfo {
    /// Does it find objects and track them, all by itself?
    pub fn finds_and_tracks(&self) -> bool {
        !self.detects && self.capabilities.prompts.contains(&PromptKind::Detector)
    }
}

/// One pack, described without loading a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct PackInfo {
    /// Directory.
    pub dir: PathBuf,
    /// Name used in model tags.
    pub id: String,
    /// Family in the registry.
    pub family: String,
    /// One or two sentences.
    pub description: String,
    /// SPDX expression.
    pub licence: String,
    /// The model that the pack only stands in for, where it is a test model; see `Manifest::test_model_of`.
    pub test_model_of: Option<String>,
    /// SHA-256 of `pack.toml`, hexadecimal.
    pub digest: String,
    /// What it can do on the device asked about.
    pub capabilities: Capabilities,
    /// Classes of a detector, a video segmenter or a label pack, by number; empty for prompted trackers, which have none.
    pub classes: Vec<String>,
    /// What the classes of a video segmenter are in panoptic files.
    pub panoptic: PanopticSpec,
    /// Does it find objects on single frames, instead of tracking them?
    pub detects: bool,
    /// Hidden from listings (test packs).
    pub hidden: bool,
}

/// The fields every `pack.toml` has, whatever its family.
#[derive(Deserialize)]
struct Header {
    id: String,
    family: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    licence: String,
    #[serde(default)]
    test_model_of: Option<String>,
    #[serde(default)]
    detector: Classes,
    #[serde(default)]
    segmenter: Classes,
    #[serde(default)]
    labels: Classes,
}

/// What the manifest of a detector, a video segmenter or a label pack says of its classes.
#[derive(Default, Deserialize)]
struct Classes {
    #[serde(default)]
    classes: Vec<String>,
    #[serde(default)]
    panoptic: PanopticSpec,
}

impl PackInfo {
    /// Does it name the tracks of other packs, instead of tracking?
    pub fn labels(&self) -> bool {
        self.family == label::contract::FAMILY
    }
}

/// The registry entry of a family.
pub fn entry(family: &str) -> Option<&'static Entry> {
    REGISTRY.iter().find(|entry| entry.family == family)
}

/// The pack id an alias stands for (`sam2` is `sam2_mini` unless the caller binds it otherwise); other names stay.
pub fn resolve_alias(name: &str) -> &str {
    REGISTRY.iter().flat_map(|entry| entry.aliases).find(|(alias, _)| *alias == name).map_or(name, |(_, id)| id)
}

fn header(dir: &Path) -> Result<(Header, String, &'static Entry), RunnerError> {
    let text = read_text(dir)?;
    let at = dir.join(FILE_NAME);
    let header: Header = toml::from_str(&text).map_err(|e| RunnerError::Pack(format!("{}: {e}", at.display())))?;
    let entry = entry(&header.family).ok_or_else(|| {
        let known: Vec<&str> = REGISTRY.iter().filter(|e| !e.hidden).map(|e| e.family).collect();
        RunnerError::Pack(format!(
            "{}: family = {:?}: this program knows: {}",
            at.display(),
            header.family,
            known.join(", ")
        ))
    })?;
    Ok((header, digest::sha256_hex(text.as_bytes()), entry))
}

/// Id and family of the pack in `dir`.
pub(crate) fn header_of(dir: &Path) -> Result<(String, String), RunnerError> {
    header(dir).map(|(header, _, _)| (header.id, header.family))
}

/// Describes the pack in `dir` as it would run on `device`.
///
/// # Errors
/// [`RunnerError::Pack`] when the manifest is missing or wrong.
pub fn describe(dir: &Path, device: Device) -> Result<PackInfo, RunnerError> {
    let (header, digest, entry) = header(dir)?;
    let capabilities = (entry.describe)(dir, device)?;
    Ok(PackInfo {
        dir: dir.to_path_buf(),
        id: header.id,
        family: header.family,
        description: header.description,
        licence: header.licence,
        test_model_of: header.test_model_of,
        digest,
        capabilities,
        panoptic: header.segmenter.panoptic,
        classes: [header.detector.classes, header.segmenter.classes, header.labels.classes].concat(),
        detects: entry.detects,
        hidden: entry.hidden,
    })
}

/// SHA-256 of the manifest of the pack in `dir`, as in [`PackInfo::digest`].
///
/// # Errors
/// [`RunnerError::Pack`] when there is no readable manifest.
pub fn digest_of(dir: &Path) -> Result<String, RunnerError> {
    read_text(dir).map(|text| digest::sha256_hex(text.as_bytes()))
}

/// Compares the pack's files with its manifest for one precision (digests, tensor names, shapes, types).
///
/// # Errors
/// [`RunnerError::Pack`] naming the file, the tensor, what was expected and what was found.
pub fn check(dir: &Path, precision: Dtype) -> Result<(), RunnerError> {
    let (_, _, entry) = header(dir)?;
    (entry.check)(dir, precision)
}

/// Opens the runner of the pack in `request`.
///
/// # Errors
/// Any [`RunnerError`]; the class says whose fault it is.
pub fn open(request: &OpenRequest) -> Result<Box<dyn Runner>, RunnerError> {
    let (_, _, entry) = header(&request.pack)?;
    let open = match (&request.detector, entry.compose) {
        (None, _) => entry.open,
        (Some(_), Some(compose)) => compose,
        (Some(detector), None) => return Err(not_composed(&request.pack, detector)),
    };
    let runner = open(request);
    pool::trim_heap();
    runner
}

/// As [`open`], with names for its tracks from the label pack in `labels`.
///
/// # Errors
/// As [`open`]; [`RunnerError::Usage`] when the pack is no label pack.
pub fn open_labelled(request: &OpenRequest, labels: &Path) -> Result<Box<dyn Runner>, RunnerError> {
    let (_, _, entry) = header(labels)?;
    if entry.family != label::contract::FAMILY {
        let text = format!(
            "{}: family `{}` is no label pack (family `{}`)",
            labels.display(),
            entry.family,
            label::contract::FAMILY
        );
        return Err(RunnerError::Usage(text));
    }
    let runner = label::open(open(request)?, request, labels);
    pool::trim_heap();
    runner
}

fn not_composed(tracker: &Path, detector: &Path) -> RunnerError {
    RunnerError::Usage(format!(
        "{}: a pack of this family takes no detector ({})",
        tracker.display(),
        detector.display()
    ))
}

/// What a tracker can do when a detector founds its tracks: the tracker's own description with the prompts, precisions and
/// options of the two together.
///
/// # Errors
/// [`RunnerError::Usage`] when the one is no tracker that takes a detector and boxes, or the other no detector, or they have no
/// precision in common.
pub fn compose(tracker: &PackInfo, detector: &PackInfo) -> Result<PackInfo, RunnerError> {
    if entry(&tracker.family).is_none_or(|entry| entry.compose.is_none()) {
        return Err(not_composed(&tracker.dir, &detector.dir));
    }
    if !detector.detects {
        return Err(RunnerError::Usage(format!("{}: this pack is no detector", detector.dir.display())));
    }
    if !tracker.capabilities.prompts.contains(&PromptKind::Bbox) {
        return Err(RunnerError::Usage(format!("{}: this pack takes no boxes", tracker.dir.display())));
    }
    let mut composed = tracker.clone();
    let dtypes = &mut composed.capabilities.dtypes;
    dtypes.retain(|dtype| detector.capabilities.dtypes.contains(dtype));
    if dtypes.is_empty() {
        return Err(RunnerError::Usage(format!(
            "{} and {} have no precision in common",
            tracker.dir.display(),
            detector.dir.display()
        )));
    }
    composed.capabilities.prompts = vec![PromptKind::Detector];
    composed.capabilities.options.extend(options::OF_ASSOCIATION.map(String::from));
    composed.classes.clone_from(&detector.classes);
    Ok(composed)
}

/// Every pack on the path, in path order, then by directory name: described, or why it could not be. A path entry may
/// be a pack itself or a directory of packs; entries that do not exist are passed over. A directory that is reached twice is
/// listed once, and so is a copy: another directory whose manifest, digests of the graphs included, is the same to the byte.
/// Other packs of one id are all listed; to use one of them is an error ([`ambiguous`]).
pub fn list(path: &[PathBuf], device: Device) -> Vec<(PathBuf, Result<PackInfo, RunnerError>)> {
    let mut found: Vec<(PathBuf, Result<PackInfo, RunnerError>)> = Vec::new();
    for dir in path.iter().flat_map(|root| candidates(root)) {
        let info = describe(&dir, device);
        let again = found.iter().any(|(other, known)| {
            let copy = matches!((known, &info), (Ok(a), Ok(b)) if a.id == b.id && a.digest == b.digest);
            copy || same_file(other, &dir)
        });
        if !again {
            found.push((dir, info));
        }
    }
    found
}

/// What is wrong when several packs, in these directories, have one id; `None`: one or none has it.
pub fn ambiguous(id: &str, dirs: &[&Path]) -> Option<RunnerError> {
    let places: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    let count = if dirs.len() == 2 { "two".to_string() } else { dirs.len().to_string() };
    (dirs.len() > 1).then(|| {
        RunnerError::Pack(format!(
            "{count} packs have the id `{id}`: {}; take all but one off the pack path, or give them ids of their own",
            places.join(" and ")
        ))
    })
}

/// The pack that `name` means: a pack id, an alias, or a directory holding a `pack.toml` (written with a `/`).
///
/// # Errors
/// [`RunnerError::Pack`] when no such pack exists, listing the known ones and the places searched, or when the pack of
/// that name is broken.
pub fn find(path: &[PathBuf], name: &str, device: Device) -> Result<PackInfo, RunnerError> {
    if name.contains('/') {
        return describe(Path::new(name), device);
    }
    let id = resolve_alias(name);
    let mut known = Vec::new();
    let mut broken = Vec::new();
    let found = list(path, device);
    let named: Vec<&Path> =
        found.iter().filter(|(_, i)| i.as_ref().is_ok_and(|i| i.id == id)).map(|(dir, _)| dir.as_path()).collect();
    if let Some(fault) = ambiguous(id, &named) {
        return Err(fault);
    }
    for (dir, info) in found {
        match info {
            Ok(info) if info.id == id => return Ok(info),
            Ok(info) => known.extend((!info.hidden).then_some(info.id)),
            // A broken pack cannot always say its id; its directory name usually does.
            Err(e) if dir.file_name().is_some_and(|n| n == id) => return Err(e),
            Err(e) => broken.push(e.to_string()),
        }
    }
    let searched: Vec<String> = path.iter().map(|p| p.display().to_string()).collect();
    let mut text = format!(
        "no pack `{id}` found; known packs: {}; searched: {}",
        if known.is_empty() { "none".to_string() } else { known.join(", ") },
        searched.join(", ")
    );
    for problem in broken {
        text.push_str("; broken pack: ");
        text.push_str(&problem);
    }
    Err(RunnerError::Pack(text))
}

fn candidates(root: &Path) -> Vec<PathBuf> {
    if root.join(FILE_NAME).is_file() {
        return vec![root.to_path_buf()];
    }
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let mut dirs: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|dir| dir.join(FILE_NAME).is_file()).collect();
    dirs.sort();
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_mock(root: &Path, dir: &str, id: &str) {
        let dir = root.join(dir);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("pack.toml"), format!("schema = 1\nid = \"{id}\"\nfamily = \"mock\"\n")).unwrap();
    }

    #[test]
    fn finds_packs_by_id_alias_and_directory() {
        let root = tempfile::tempdir().unwrap();
        write_mock(root.path(), "b", "sam2_mini");
        write_mock(root.path(), "a", "other");
        write_mock(root.path(), "c", "other");
        let manifest = root.path().join("c/pack.toml");
        std::fs::copy(root.path().join("a/pack.toml"), &manifest).unwrap();
        let path = vec![root.path().join("missing"), root.path().to_path_buf()];
        let all = list(&path, Device::Cpu);
        assert_eq!(all.len(), 2, "the second `other` is a copy: {all:?}");
        assert_eq!(find(&path, "sam2", Device::Cpu).unwrap().id, "sam2_mini");
        assert_eq!(find(&path, "other", Device::Cpu).unwrap().dir, root.path().join("a"));
        let by_dir = format!("{}/c", root.path().display());
        assert_eq!(find(&[], &by_dir, Device::Cpu).unwrap().id, "other");
        assert_eq!(find(&[root.path().join("a")], "other", Device::Cpu).unwrap().id, "other");
        // Another manifest: which of the two was meant is not for us to guess.
        std::fs::write(&manifest, std::fs::read_to_string(&manifest).unwrap() + "description = \"another\"\n").unwrap();
        assert_eq!(list(&path, Device::Cpu).len(), 3);
        let text = find(&path, "other", Device::Cpu).unwrap_err().to_string();
        let [a, c] = ["a", "c"].map(|name| root.path().join(name).display().to_string());
        assert!(text.contains(&format!("two packs have the id `other`: {a} and {c}")), "{text}");
        assert_eq!(find(&[root.path().join("c")], "other", Device::Cpu).unwrap().dir, root.path().join("c"));
    }

    #[test]
    fn unknown_and_broken_packs_are_named() {
        let root = tempfile::tempdir().unwrap();
        write_mock(root.path(), "good", "good");
        std::fs::create_dir_all(root.path().join("bad")).unwrap();
        std::fs::write(root.path().join("bad/pack.toml"), "id = \"bad\"\nfamily = \"nonesuch\"\n").unwrap();
        let path = vec![root.path().to_path_buf()];
        let text = find(&path, "bad", Device::Cpu).unwrap_err().to_string();
        assert!(text.contains("bad/pack.toml") && text.contains("nonesuch"), "{text}");
        let text = find(&path, "zzz", Device::Cpu).unwrap_err().to_string();
        assert!(text.contains("no pack `zzz`") && text.contains("bad/pack.toml"), "{text}");
        assert!(describe(&root.path().join("none"), Device::Cpu).is_err());
    }
}
