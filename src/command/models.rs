//! `jetbench models`: which model tags can be run here, from which packs, and which packs are there but broken.

pub mod options;

use std::collections::BTreeMap;
use std::path::Path;

use jetbench_runners::packs::{self, PackInfo};
use jetbench_runners::types::Device;
use serde_json::json;

use crate::cli::ModelsArgs;
use crate::exit::Outcome;
use crate::plan;

/// Lists packs and their tags, or the options of the runners.
pub fn models(args: &ModelsArgs) -> Outcome {
    if args.options {
        return Outcome::ok(if args.json { options::json() } else { options::text() });
    }
    let path = plan::settings::pack_path(&args.packs);
    let found = packs::list(&path, Device::Cpu);
    let good: Vec<&PackInfo> = found.iter().filter_map(|(_, i)| i.as_ref().ok()).filter(|i| !i.hidden).collect();
    let broken: Vec<(String, String)> = found
        .iter()
        .filter_map(|(dir, info)| Some((dir.display().to_string(), info.as_ref().err()?.to_string())))
        .collect();
    let places: Vec<String> = path.iter().map(|p| p.display().to_string()).collect();
    Outcome::ok(if args.json { as_json(&good, &broken, &places) } else { as_text(&good, &broken, &places) })
}

/// Tags under the pack's own name, and tags under its aliases.
fn tags(pack: &PackInfo, all: &[&PackInfo]) -> (Vec<String>, Vec<String>) {
    let aliases = BTreeMap::new();
    let (own, aliases): (Vec<_>, Vec<_>) =
        plan::resolve::tags_of(pack, &aliases, all).into_iter().partition(|(name, _)| *name == pack.id);
    let flat = |tags: Vec<(&str, Vec<String>)>| tags.into_iter().flat_map(|(_, tags)| tags).collect();
    (flat(own), flat(aliases))
}

fn as_text(good: &[&PackInfo], broken: &[(String, String)], places: &[String]) -> String {
    let mut text = String::new();
    for pack in good {
        let (own, aliases) = tags(pack, good);
        let dtypes: Vec<_> = pack.capabilities.dtypes.iter().map(|p| p.as_str()).collect();
        text.push_str(&format!("{} ({}, {})\n", pack.id, pack.family, pack.dir.display()));
        text.push_str(&format!("  {}\n", pack.description));
        if let Some(model) = &pack.test_model_of {
            text.push_str(&format!("  a test model: its figures do not describe {model}\n"));
        }
        match (pack.detects, pack.labels()) {
            (_, true) => text.push_str(&format!("  labels   {}\n", pack.classes.join(", "))),
            (true, false) => text.push_str(&format!("  detects  {}\n", pack.classes.join(", "))),
            (false, false) => text.push_str(&format!("  models   {}\n", own.join(", "))),
        }
        if !aliases.is_empty() {
            text.push_str(&format!("  also as  {}\n", aliases.join(", ")));
        }
        text.push_str(&format!("  dtypes   {}\n  licence  {}\n\n", dtypes.join(", "), pack.licence));
    }
    for pack in good {
        let dirs: Vec<&Path> = good.iter().filter(|p| p.id == pack.id).map(|p| p.dir.as_path()).collect();
        if let Some(fault) = packs::ambiguous(&pack.id, &dirs).filter(|_| dirs[0] == pack.dir) {
            text.push_str(&format!("ambiguous: {fault}\n\n"));
        }
    }
    for (dir, error) in broken {
        text.push_str(&format!("broken: {dir}\n  {error}\n\n"));
    }
    let places = if places.is_empty() { "nothing".to_string() } else { places.join(", ") };
    if good.is_empty() {
        text.push_str(&format!(
            "no model packs found; searched: {places}\ngive the place of your packs with --packs DIR\n"
        ));
    } else {
        text.push_str(&format!("searched: {places}\n"));
    }
    text
}

fn as_json(good: &[&PackInfo], broken: &[(String, String)], places: &[String]) -> String {
    let packs: Vec<_> = good
        .iter()
        .map(|pack| {
            let (own, aliases) = tags(pack, good);
            json!({"id": pack.id, "family": pack.family, "dir": pack.dir.display().to_string(),
                "description": pack.description, "licence": pack.licence, "digest": pack.digest, "models": own,
                "aliases": aliases, "test_model_of": pack.test_model_of, "dtypes": pack.capabilities.dtypes,
                "classes": pack.classes, "detects": pack.detects, "labels": pack.labels(), "capabilities": pack.capabilities})
        })
        .collect();
    let broken: Vec<_> = broken.iter().map(|(dir, error)| json!({"dir": dir, "error": error})).collect();
    format!("{}\n", json!({"schema": 1, "packs": packs, "broken": broken, "searched": places}))
}
