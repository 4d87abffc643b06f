//! LabelMe's `shapes`: polygons are masks, rectangles boxes, points clicks. The label names the object, with the group where there is one;
//! `imagePath` names the frame.

use std::collections::BTreeMap;

use jetbench_runners::types::{Click, PromptShape};
use serde::Deserialize;

use super::{FrameName, UserPrompt, polygon, room};
use crate::dataset::label_png;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    shapes: Vec<Shape>,
    image_path: String,
    image_width: u32,
    image_height: u32,
}

#[derive(Deserialize)]
struct Shape {
    label: String,
    points: Vec<[f64; 2]>,
    #[serde(default)]
    group_id: Option<i64>,
    #[serde(default = "polygon_kind")]
    shape_type: String,
}

/// Older files do not say it.
fn polygon_kind() -> String {
    "polygon".to_string()
}

/// What is known of one object so far.
enum Found {
    Polygons(Vec<Vec<[f64; 2]>>),
    Clicks(Vec<Click>),
    Bbox([f32; 4]),
}

/// The prompts of such a file. Shapes of one label and group, and points of one label, are one object; other shapes of a label that is
/// there already are another one: `dog`, `dog_2`.
///
/// # Errors
/// The place and what is wrong there.
pub(super) fn read(text: &str) -> Result<Vec<UserPrompt>, String> {
    let file: File = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let (width, height) = (file.image_width, file.image_height);
    label_png::bound_size(width, height, 0, 0).map_err(|_| format!("an image of {width}x{height} is not read"))?;
    room(file.shapes.iter().map(|_| (width, height)))?;
    let mut objects: Vec<(String, Found)> = Vec::new();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, shape) in file.shapes.iter().enumerate() {
        let found = shape.found().map_err(|what| format!("shapes[{at}]: {what}"))?;
        let name = match (shape.group_id, &found) {
            (Some(group), _) => format!("{}_{group}", shape.label),
            (None, Found::Clicks(_)) => shape.label.clone(),
            (None, _) => {
                let number = seen.entry(&shape.label).or_default();
                *number += 1;
                if *number == 1 { shape.label.clone() } else { format!("{}_{number}", shape.label) }
            }
        };
        match (objects.iter_mut().find(|(known, _)| *known == name).map(|(_, found)| found), found) {
            (None, found) => objects.push((name, found)),
            (Some(Found::Polygons(all)), Found::Polygons(more)) => all.extend(more),
            (Some(Found::Clicks(all)), Found::Clicks(more)) => all.extend(more),
            (Some(_), _) => return Err(format!("shapes[{at}]: object {name} has a shape of another kind already")),
        }
    }
    let prompt = |(object, found): (String, Found)| {
        let shape = match found {
            Found::Polygons(all) => PromptShape::Mask(
                polygon::fill(width, height, &all).map_err(|what| format!("object {object}: {what}"))?,
            ),
            Found::Clicks(clicks) => PromptShape::Points(clicks),
            Found::Bbox(corners) => PromptShape::Bbox(corners),
        };
        Ok(UserPrompt { video: None, object, frame: FrameName::of_file(&file.image_path), shape })
    };
    objects.into_iter().map(prompt).collect()
}

impl Shape {
    fn found(&self) -> Result<Found, String> {
        match (self.shape_type.as_str(), self.points.as_slice()) {
            ("polygon", points) => Ok(Found::Polygons(vec![points.to_vec()])),
            ("point", [[x, y]]) => Ok(Found::Clicks(vec![Click { x: *x as f32, y: *y as f32, positive: true }])),
            ("rectangle", [a, b]) => {
                let corners = [a[0].min(b[0]), a[1].min(b[1]), a[0].max(b[0]), a[1].max(b[1])];
                Ok(Found::Bbox(corners.map(|v| v as f32)))
            }
            ("point" | "rectangle", points) => Err(format!("a {} of {} points", self.shape_type, points.len())),
            (other, _) => Err(format!("shape_type `{other}` is not read; polygon, rectangle and point are")),
        }
    }
}
