//! What is each object, by the dataset's own word? `meta.json` of YouTube-VOS:
//! `{"videos": {VIDEO: {"objects": {ID: {"category": NAME, …}}}}}`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jetbench_runners::files;
use serde::Deserialize;

use super::{Finding, Sequence};

/// The file that names them.
const FILE: &str = "meta.json";

/// The form in which names of classes are compared: case, and `_` or `-` in place of a space, make no difference.
pub fn same_class(name: &str) -> String {
    name.trim().to_lowercase().replace(['_', '-'], " ")
}

/// Category of every object of a dataset, by video and by the object's name in it. Empty where the dataset does not say them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Categories(BTreeMap<String, BTreeMap<String, String>>);

#[derive(Deserialize)]
struct Meta {
    videos: BTreeMap<String, Video>,
}

#[derive(Deserialize)]
struct Video {
    #[serde(default)]
    objects: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    category: Option<String>,
}

impl From<BTreeMap<String, BTreeMap<String, String>>> for Categories {
    fn from(all: BTreeMap<String, BTreeMap<String, String>>) -> Categories {
        Categories(all)
    }
}

impl Categories {
    /// Reads those of the objects of `sequences` from the description in `root`. All or none: a score by class over some of the objects
    /// would take the tracks of the others for mistakes. What keeps a description that has categories from being used is a finding.
    pub(super) fn read(root: &Path, sequences: &[Sequence]) -> (Categories, Option<Finding>) {
        let path = root.join(FILE);
        if !path.is_file() {
            return (Categories::default(), None);
        }
        let unused = |what: String| {
            let finding = Finding::warning(&path, format!("{what}; nothing is scored by class"));
            (Categories::default(), Some(finding))
        };
        let text = match files::read_text(&path, files::LARGE) {
            Ok(text) => text,
            Err(e) => return unused(e.to_string()),
        };
        let mut meta: Meta = match serde_json::from_str(&text) {
            Ok(meta) => meta,
            Err(e) => return unused(format!("not a description of YouTube-VOS: {e}")),
        };
        let mut all = BTreeMap::new();
        let mut lacking = None;
        for sequence in sequences {
            let mut objects = meta.videos.remove(&sequence.name).map(|video| video.objects).unwrap_or_default();
            let mut of_video = BTreeMap::new();
            for object in &sequence.objects {
                match objects
                    .remove(&object.name)
                    .and_then(|entry| entry.category)
                    .filter(|name| !name.trim().is_empty())
                {
                    Some(category) => _ = of_video.insert(object.name.clone(), category),
                    None => lacking = lacking.or(Some((sequence.name.clone(), object.name.clone()))),
                }
            }
            all.insert(sequence.name.clone(), of_video);
        }
        match lacking {
            Some((video, object)) if all.values().any(|objects| !objects.is_empty()) => {
                unused(format!("object {object} of video {video} has no category"))
            }
            Some(_) => (Categories::default(), None),
            None => (Categories(all), None),
        }
    }

    /// Categories of a video's objects, by their names; empty where they are not known.
    pub fn of(&self, video: &str) -> BTreeMap<String, String> {
        self.0.get(video).cloned().unwrap_or_default()
    }

    /// Every category that an object has.
    pub fn names(&self) -> BTreeSet<&str> {
        self.0.values().flat_map(BTreeMap::values).map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Dataset, Layout, SynthOptions, synthesise};

    #[test]
    fn names_of_classes_are_compared_without_case_and_with_spaces() {
        assert_eq!(same_class(" Giant_Panda"), "giant panda");
        assert_eq!(same_class("t-shirt"), "t shirt");
    }

    #[test]
    fn categories_are_those_of_every_object_or_of_none() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("d");
        let options = SynthOptions {
            out: out.clone(),
            layout: Layout::YoutubeVos,
            videos: 1,
            objects: 2,
            frames: 2,
            width: 64,
            height: 48,
            ..SynthOptions::default()
        };
        synthesise(&options, &|_, _| {}).unwrap();
        let open = || Dataset::open(&out).unwrap();
        let of = |data: &Dataset| data.categories.of("synth_000").into_values().collect::<Vec<_>>();
        assert_eq!(of(&open()), ["shape", "shape"]);
        assert!(open().findings.is_empty());
        let write = |text: &str| std::fs::write(out.join(FILE), text).unwrap();
        write(
            r#"{"videos": {"synth_000": {"objects": {"1": {"category": "cat", "frames": ["a"]}, "2": {"category": "dog"}}}}}"#,
        );
        assert_eq!(of(&open()), ["cat", "dog"]);
        assert_eq!(open().categories.names().into_iter().collect::<Vec<_>>(), ["cat", "dog"]);
        for (text, said) in [
            (
                r#"{"videos": {"synth_000": {"objects": {"1": {"category": "cat"}}}}}"#,
                "object 2 of video synth_000 has no category",
            ),
            ("[]", "not a description of YouTube-VOS"),
        ] {
            write(text);
            let data = open();
            assert!(data.categories.names().is_empty());
            let found = &data.findings[0].what;
            assert!(found.contains(said) && found.contains("nothing is scored by class"), "{found}");
        }
        // One that names no category at all is nothing to wonder about.
        write(r#"{"videos": {"synth_000": {"objects": {"1": {"frames": []}}}}}"#);
        assert!(open().findings.is_empty() && open().categories.names().is_empty());
    }
}
