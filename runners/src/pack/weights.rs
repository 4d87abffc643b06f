//! Where do weights lie that are in no graph file? ONNX lets a graph name other files of its folder for them (external data). The manifest
//! states each with its digest, so that what runs is what was planned.

use std::collections::{BTreeMap, HashSet};
use std::path::{Component, Path};

use super::agrees;
use crate::digest;
use crate::files;
use crate::manifest::{FILE_NAME, Form, WeightFile};
use crate::onnx::{ExternalTensor, Model};
use crate::runner::RunnerError;

/// The files that a graph names for its constants, as paths in the pack; each with one constant that is in it. `file`: the graph's own path.
///
/// # Errors
/// A name that leads out of the graph's folder, or a broken model.
fn named(model: &Model<'_>, file: &str) -> Result<BTreeMap<String, ExternalTensor>, String> {
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut found = BTreeMap::new();
    for tensor in model.external().map_err(|e| e.to_string())? {
        let parts: Option<Vec<&str>> = Path::new(&tensor.location)
            .components()
            .filter(|part| *part != Component::CurDir)
            .map(|part| if let Component::Normal(name) = part { name.to_str() } else { None })
            .collect();
        let parts = parts.filter(|parts| !parts.is_empty() && !tensor.location.contains('\\'));
        let parts = parts.ok_or_else(|| {
            format!(
                "constant `{}` is kept in {:?}: a file in the folder of its graph, or below, expected",
                tensor.name, tensor.location
            )
        })?;
        let path = [folder].into_iter().filter(|f| !f.is_empty()).chain(parts).collect::<Vec<_>>().join("/");
        found.entry(path).or_insert(tensor);
    }
    Ok(found)
}

/// Where a graph takes constants out of another graph's file: is each one a whole constant of that graph? In a file that was changed since,
/// they lie elsewhere, and whatever lies there now would be taken without a word.
fn whole_constants(dir: &Path, file: &str, model: &Model<'_>) -> Result<(), String> {
    let folder = dir.join(file).parent().map(Path::to_path_buf).unwrap_or_default();
    let mut others: BTreeMap<String, HashSet<(u64, u64)>> = BTreeMap::new();
    for tensor in model.external().map_err(|e| e.to_string())? {
        let other = folder.join(&tensor.location);
        if other.extension().is_none_or(|extension| extension != "onnx") {
            continue;
        }
        if !others.contains_key(&tensor.location) {
            let Ok(bytes) = files::read(&other, files::LARGE) else { continue };
            let Ok(graph) = Model::parse(&bytes) else { continue };
            let place = |raw: &[u8]| (raw.as_ptr() as u64 - bytes.as_ptr() as u64, raw.len() as u64);
            let places = graph.initializers.iter().filter_map(|constant| constant.raw_values()).map(place).collect();
            others.insert(tensor.location.clone(), places);
        }
        if !tensor.length.is_some_and(|length| others[&tensor.location].contains(&(tensor.offset, length))) {
            return Err(format!(
                "constant `{}` is at byte {} of {}, where that graph has no constant of its length: one of the two was changed; export them \
                 together",
                tensor.name, tensor.offset, tensor.location
            ));
        }
    }
    Ok(())
}

/// The files that a graph names for its constants, with their digests; for a manifest. `file`: the graph's own path.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn found(dir: &Path, file: &str, model: &Model<'_>) -> Result<Vec<WeightFile>, String> {
    // First, because it refuses names that lead out of the folder.
    let named = named(model, file)?;
    whole_constants(dir, file, model)?;
    let digest = |(path, tensor): (String, ExternalTensor)| match digest::sha256_of(&dir.join(&path)) {
        Ok((_, sha256)) => Ok(WeightFile { file: path, sha256 }),
        Err(e) => Err(format!("constant `{}` is kept in {path}: {e}", tensor.name)),
    };
    named.into_iter().map(digest).collect()
}

/// Do the files that a graph names for its constants agree with the manifest?
///
/// # Errors
/// [`RunnerError::Pack`] naming the file and what is wrong.
pub(super) fn check(dir: &Path, form: Form<'_>, model: &Model<'_>) -> Result<(), RunnerError> {
    let wrong = |file: &str, text: String| RunnerError::Pack(format!("{}: {text}", dir.join(file).display()));
    let named = named(model, form.file).map_err(|text| wrong(form.file, text))?;
    if let Some((path, tensor)) = named.iter().find(|(path, _)| !form.weights.iter().any(|w| w.file == **path)) {
        let text = format!(
            "constant `{}` is kept in {path}, which {FILE_NAME} does not state: list it with its digest in `weights` of the graph, or \
             export as one file",
            tensor.name
        );
        return Err(wrong(form.file, text));
    }
    for stated in form.weights {
        let fail = |text: String| wrong(&stated.file, text);
        if !named.contains_key(&stated.file) {
            return Err(fail(format!("{FILE_NAME} states it as weights of {}, which does not name it", form.file)));
        }
        let place = dir.join(&stated.file);
        let (_, sha256) = digest::sha256_of(&place).map_err(|e| fail(e.to_string()))?;
        agrees(&stated.sha256, &sha256).map_err(fail)?;
    }
    Ok(())
}
