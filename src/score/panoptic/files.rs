//! VIPSeg's files: a JSON file of the truth (`panoptic_gt_….json`) with the PNG files of its frames in `panomasksRGB/VIDEO/` beside it,
//! and a folder of predictions with `pred.json` and `pan_pred/VIDEO/`. Predictions have the truth's videos, frames by place, and file names;
//! the evaluator pairs frames by place without a look at their names, and so takes a frame for another where one is missing. Here that is an
//! error, as are two entries of one video, segment or category, of which it takes one or the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::frame::{PairReader, PanopticFrame};
use crate::dataset::panoptic_truth::{
    self as truth, FrameSegments, MASKS, PanopticCategory, VideoSegments, by_video, of_video, parsed, segments,
};
use crate::dataset::{DataError, vipseg};
use crate::text::plural;

#[derive(Deserialize)]
struct PredFile {
    annotations: Vec<VideoSegments>,
}

/// What is to be read.
pub(super) struct Files {
    pub(super) categories: Arc<[PanopticCategory]>,
    pub(super) videos: Vec<VideoFiles>,
    pub(super) notes: Vec<String>,
}

pub(super) struct VideoFiles {
    pub(super) name: String,
    pub(super) frames: Vec<FrameFiles>,
}

/// PNG files and listed segments of truth and prediction.
pub(super) struct FrameFiles {
    paths: [PathBuf; 2],
    segments: [FrameSegments; 2],
}

impl FrameFiles {
    /// Reads both files and counts their pixels.
    pub(super) fn read(
        &self,
        reader: &mut PairReader,
        categories: &[PanopticCategory],
    ) -> Result<PanopticFrame, DataError> {
        let checked = |side: usize| {
            let fail = |fault: String| DataError(format!("{}: {fault}", self.paths[side].display()));
            segments(&self.segments[side].segments_info, side == 0, categories).map_err(fail)
        };
        reader.read([&self.paths[0], &self.paths[1]], checked(0)?, checked(1)?)
    }
}

/// Reads both JSON files and pairs what they list.
///
/// # Errors
/// Names the file and the entry that is missing or does not fit.
pub(super) fn read(given: &Path, pred: &Path) -> Result<Files, DataError> {
    let pred_json = pred.join("pred.json");
    if !pred_json.is_file() {
        return Err(DataError(format!(
            "{}: no such file; panoptic segments are what --save-masks=vipseg saves, and other saved masks are not scored on VIPSeg's truth",
            pred_json.display()
        )));
    }
    let description = vipseg::description(given, true)?.unwrap_or_else(|| truth::description(given));
    let truth = truth::read(&description)?;
    let predicted: PredFile = parsed(&pred_json, "panoptic results as VIPSeg's evaluator reads them")?;
    let roots = [truth.path.with_file_name(MASKS), pred.join("pan_pred")];
    let mut of_pred = by_video(&pred_json, predicted.annotations)?;
    let mut videos = Vec::new();
    for video in truth.videos {
        let own = of_video(&pred_json, &mut of_pred, &video.name, &video.files)?;
        let frame = |(file, sides): (&String, (FrameSegments, FrameSegments))| FrameFiles {
            paths: [&roots[0], &roots[1]].map(|root| root.join(&video.name).join(file)),
            segments: sides.into(),
        };
        let frames = video.files.iter().zip(video.frames.into_iter().zip(own)).map(frame).collect();
        videos.push(VideoFiles { name: video.name, frames });
    }
    let extra = of_pred.len();
    let more = plural(extra, "predicted video is", "predicted videos are");
    let notes = (extra > 0).then(|| format!("{more} not among the truth's, and left out as in the reference"));
    Ok(Files { categories: truth.categories, videos, notes: notes.into_iter().collect() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = r#"{"videos": [{"video_id": "v", "images": [{"file_name": "0.png"}]}], "categories": [{"id": 3, "name": "c", "isthing": 1}],
        "annotations": [{"video_id": "v", "annotations": [{"file_name": "0.png", "segments_info": [{"id": 9, "category_id": 3, "iscrowd": 0, "area": 4}]}]}]}"#;

    fn of(truth: &[u8], pred: &[u8]) -> Result<Files, DataError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("panoptic_gt.json");
        std::fs::write(&file, truth).unwrap();
        std::fs::write(dir.path().join("pred.json"), pred).unwrap();
        read(&file, dir.path())
    }

    #[test]
    fn what_a_file_may_not_say_is_named() {
        assert_eq!(of(GOOD.as_bytes(), GOOD.as_bytes()).unwrap().videos.len(), 1);
        for (from, to, fault) in [
            (r#""isthing": 1"#, r#""isthing": 2"#, "category 3: `isthing` must be 0 or 1"),
            (r#""id": 3"#, r#""id": 255"#, "category 255: ids go up to 254"),
            (r#""categories": [{"#, r#""categories": [{"id": 3, "isthing": 0}, {"#, "category 3 is listed twice"),
            (
                r#""videos": [{"#,
                r#""videos": [{"video_id": "v", "images": []}, {"#,
                "video v: 1 frame listed with segments, but the truth lists 0",
            ),
            (
                r#""annotations": [{"video_id": "v""#,
                r#""annotations": [{"video_id": "v", "annotations": []}, {"video_id": "v""#,
                "video v has two entries",
            ),
            (r#""isthing": 1"#, "", "not a panoptic annotation file of VIPSeg"),
        ] {
            let changed = GOOD.replace(from, to);
            let found = of(changed.as_bytes(), GOOD.as_bytes()).err().map(|e| e.0).unwrap_or_default();
            assert!(found.contains(fault), "{found}");
        }
        let none = of(br#"{"videos": [], "categories": [], "annotations": []}"#, GOOD.as_bytes());
        assert!(none.err().unwrap().0.ends_with("panoptic_gt.json: no video in it"));
    }

    proptest! {
        #[test]
        fn any_text_ends_in_videos_or_an_error(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8)
        ) {
            let mut text = GOOD.as_bytes().to_vec();
            damage.iter().for_each(|(at, value)| { let at = at.index(text.len()); text[at] = *value; });
            let _ = of(&text, GOOD.as_bytes());
            let _ = of(GOOD.as_bytes(), &text);
        }
    }
}
