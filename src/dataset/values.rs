//! Are the values of a mask object ids? An enlarged or compressed mask holds values between those that were meant, and
//! each would become an object.

use super::LabelImage;

/// What says that a label map was interpolated or compressed; `None` where its values look like ids.
pub(super) fn interpolated(image: &LabelImage) -> Option<String> {
    let (mut between, mut sharp) = (0usize, 0usize);
    // Longest run of each value, in a row.
    let mut longest: std::collections::BTreeMap<u16, usize> = std::collections::BTreeMap::new();
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
            let longest = longest.entry(value).or_default();
            *longest = length.max(*longest);
        }
        sharp += runs.windows(2).filter(|w| w[0].1 > 2 && w[1].1 > 2).count();
        between += runs.windows(3).filter(|w| w[1].1 <= 2 && (w[0].0 < w[1].0) == (w[1].0 < w[2].0)).count();
    }
    longest.remove(&0);
    let values = longest.len();
    let specks = longest.values().filter(|&&run| run <= 2).count();
    if !(values >= 8 && 2 * specks > values || between >= 8 && 3 * between > sharp) {
        return None;
    }
    let offer = if longest.contains_key(&255) {
        "; if it shows one object, as 0 and 255, `--layout davis2016` takes every pixel above 0 for it"
    } else {
        ""
    };
    Some(format!(
        "{values} values besides 0, mostly on the edges of others: an enlarged or compressed mask, whose values are no object \
         ids; resize masks with nearest neighbour{offer}"
    ))
}
