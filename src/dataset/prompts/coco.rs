//! COCO's `images` and `annotations`: a polygon or run lengths are a mask, an annotation without them is its box. The annotation's id names
//! the object, the image's file name the frame.

use std::collections::BTreeMap;

use jetbench_runners::types::{Mask, PromptShape};
use serde::Deserialize;

use super::{FrameName, UserPrompt, polygon, room};
use crate::dataset::coco_rle::{runs, unpack};
use crate::dataset::label_png;

#[derive(Deserialize)]
struct File {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    file_name: String,
    width: u32,
    height: u32,
}

#[derive(Deserialize)]
struct Annotation {
    id: u64,
    image_id: u64,
    #[serde(default)]
    bbox: Option<[f64; 4]>,
    #[serde(default)]
    segmentation: Option<Segmentation>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "polygons, or run lengths with size and counts")]
enum Segmentation {
    Polygons(Vec<Vec<f64>>),
    Rle { size: [u32; 2], counts: Counts },
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a list of numbers, or COCO's text")]
enum Counts {
    Numbers(Vec<u32>),
    Text(String),
}

/// The prompts of such a file.
///
/// # Errors
/// The place and what is wrong there.
pub(super) fn read(text: &str) -> Result<Vec<UserPrompt>, String> {
    let file: File = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let images: BTreeMap<u64, &Image> = file.images.iter().map(|image| (image.id, image)).collect();
    room(file.annotations.iter().filter_map(|a| images.get(&a.image_id)).map(|image| (image.width, image.height)))?;
    let prompt = |(at, annotation): (usize, &Annotation)| {
        let image = images.get(&annotation.image_id).copied();
        let image =
            image.ok_or_else(|| format!("annotations[{at}]: image_id {} is no image's", annotation.image_id))?;
        let shape = annotation.shape(image).map_err(|what| format!("annotations[{at}]: {what}"))?;
        Ok(UserPrompt {
            video: None,
            object: annotation.id.to_string(),
            frame: FrameName::of_file(&image.file_name),
            shape,
        })
    };
    file.annotations.iter().enumerate().map(prompt).collect()
}

impl Annotation {
    fn shape(&self, image: &Image) -> Result<PromptShape, String> {
        let (width, height) = (image.width, image.height);
        label_png::bound_size(width, height, 0, 0).map_err(|_| format!("an image of {width}x{height} is not read"))?;
        match (&self.segmentation, self.bbox) {
            (Some(Segmentation::Polygons(all)), _) if !all.is_empty() => {
                let polygon = |flat: &Vec<f64>| match flat.len() % 2 {
                    0 => Ok(flat.chunks_exact(2).map(|xy| [xy[0], xy[1]]).collect()),
                    _ => Err(format!("a polygon of {} numbers; x and y in turn are needed", flat.len())),
                };
                let polygons = all.iter().map(polygon).collect::<Result<Vec<_>, _>>()?;
                Ok(PromptShape::Mask(polygon::fill(width, height, &polygons)?))
            }
            (Some(Segmentation::Rle { size, counts }), _) => {
                Ok(PromptShape::Mask(rle(*size, counts, (width, height))?))
            }
            (_, Some([x, y, w, h])) => {
                // COCO's box ends behind its last pixel; ours ends on it.
                Ok(PromptShape::Bbox([x, y, x + w - 1.0, y + h - 1.0].map(|v| v as f32)))
            }
            (_, None) => Err("neither segmentation nor bbox".to_string()),
        }
    }
}

fn rle([height, width]: [u32; 2], counts: &Counts, image: (u32, u32)) -> Result<Mask, String> {
    if (width, height) != image {
        return Err(format!("size {height}, {width}, but its image is {}x{}", image.0, image.1));
    }
    let runs = match counts {
        Counts::Numbers(numbers) => numbers.clone(),
        Counts::Text(text) => runs(text.as_bytes()).ok_or("counts is not a COCO run-length text")?,
    };
    unpack(width, height, &runs).ok_or_else(|| format!("counts do not fill {width}x{height} pixels"))
}
