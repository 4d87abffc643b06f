//! Are the values of a mask object ids? An enlarged or compressed mask holds values between those that were meant, and
//! each would become an object.

use std::collections::BTreeMap;

use super::LabelImage;

/// What the rows of a label map show of its values.
#[derive(Default)]
pub(super) struct Values {
    /// Longest run of each value.
    longest: BTreeMap<u16, usize>,
    /// Per pair of values: how often one to two pixels of a value between them lie between, and how often nothing does.
    borders: BTreeMap<(u16, u16), (usize, usize)>,
}

impl Values {
    /// Goes over every row once.
    pub(super) fn of(image: &LabelImage) -> Values {
        let mut rows = Values::default();
        let mut runs: Vec<(u16, usize)> = Vec::new();
        for y in 0..image.height() {
            runs.clear();
            for x in 0..image.width() {
                let value = image.get(x, y);
                match runs.last_mut() {
                    Some((last, length)) if *last == value => *length += 1,
                    _ => runs.push((value, 1)),
                }
            }
            for &(value, length) in &runs {
                let longest = rows.longest.entry(value).or_default();
                *longest = length.max(*longest);
            }
            let pair = |a: u16, b: u16| (a.min(b), a.max(b));
            for w in runs.windows(2) {
                rows.borders.entry(pair(w[0].0, w[1].0)).or_default().1 += 1;
            }
            for w in runs.windows(3).filter(|w| w[1].1 <= 2 && (w[0].0 < w[1].0) == (w[1].0 < w[2].0)) {
                rows.borders.entry(pair(w[0].0, w[2].0)).or_default().0 += 1;
            }
        }
        rows
    }

    /// What says that a label map cannot be one of ids: many values, most of which are nowhere wider than two pixels.
    pub(super) fn interpolated(&self) -> Option<String> {
        let longest = || self.longest.iter().filter(|(value, _)| **value != 0);
        let values = longest().count();
        let specks = longest().map(|(_, run)| run).filter(|&&run| run <= 2).count();
        if specks < 8 || 2 * specks <= values {
            return None;
        }
        let offer = if self.longest.contains_key(&255) {
            "; if it shows one object, as 0 and 255, `--layout davis2016` takes every pixel above 0 for it"
        } else {
            ""
        };
        Some(format!(
            "{values} values besides 0, mostly on the edges of others: an enlarged or compressed mask, whose values are no object \
         ids; resize masks with nearest neighbour{offer}"
        ))
    }

    /// What makes one doubt the few values of a label map: two of them never touch, a thin line of a third one always lies
    /// between, as an enlargement draws it. Real objects can lie so, too.
    pub(super) fn lined(&self) -> Option<String> {
        let (pair, (between, _)) = self
            .borders
            .iter()
            .filter(|(_, (between, touching))| *between >= 20 && *between > 19 * touching)
            .max_by_key(|b| b.1.0)?;
        Some(format!(
            "values {} and {} never touch, a line of a value between them lies all around: was the mask enlarged with interpolation \
         ({between} places)? Then resize it with nearest neighbour",
            pair.0, pair.1
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(value: impl Fn(u32, u32) -> u8) -> LabelImage {
        let mut file = Vec::new();
        let data: Vec<u8> = (0..40 * 30).map(|i| value(i % 40, i / 40)).collect();
        let mut encoder = png::Encoder::new(&mut file, 40, 30);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.write_header().unwrap().write_image_data(&data).unwrap();
        LabelImage::decode(&file).unwrap()
    }

    #[test]
    fn what_an_enlargement_leaves_is_told_from_objects() {
        let ramp = image(|x, _| (x * 9).min(255) as u8);
        assert!(Values::of(&ramp).interpolated().unwrap().contains("`--layout davis2016`"));
        let ring = image(|x, _| [0, 0, 0, 1, 2, 2, 2, 2, 1, 0][x as usize % 10]);
        assert!(
            Values::of(&ring).interpolated().is_none() && Values::of(&ring).lined().unwrap().contains("values 0 and 2")
        );
        // One object looks out from behind another on one side; ten objects side by side; every second one thin.
        let peeking = image(|x, _| [0, 0, 0, 1, 2, 2, 2, 2, 2, 0][x as usize % 10]);
        let bands = image(|x, _| (x / 4) as u8);
        assert_eq!(
            [&peeking, &bands].map(Values::of).map(|v| (v.interpolated(), v.lined())),
            [(None, None), (None, None)]
        );
        assert_eq!(Values::of(&image(|x, _| (x / 6 * 2 + u32::from(x % 6 >= 4)) as u8)).interpolated(), None);
    }
}
