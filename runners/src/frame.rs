//! How do pixels go into a model and masks come out of it?

mod confidence;
mod contest;
mod cropped;
mod fitted;
mod preprocess;
mod prompt_mask;
mod resize;
mod threshold;

pub use confidence::{Confidence, logit};
pub use contest::{Candidate, Contest, Way};
pub use cropped::Cropped;
pub use fitted::Fitted;
pub use preprocess::Preprocess;
pub use prompt_mask::resize_mask;
pub use resize::Rows;
pub use threshold::Thresholder;

/// The smallest box around a mask's pixels, row by row, for tests: edges; `None` where there are none.
#[cfg(test)]
pub fn tight(mask: &crate::types::Mask) -> Option<[f64; 4]> {
    let row = |y| {
        let words = || (0u32..).zip(mask.row(y)).filter(|(_, word)| **word != 0);
        let (left, right) = (words().next()?, words().last()?);
        Some([64 * left.0 + left.1.trailing_zeros(), y, 64 * right.0 + 64 - right.1.leading_zeros(), y + 1])
    };
    let joined = |a: [u32; 4], b: [u32; 4]| [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])];
    Some((0..mask.height()).filter_map(row).reduce(joined)?.map(f64::from))
}

/// Bytes without any order, for tests.
#[cfg(test)]
fn noise(count: usize, mut seed: u64) -> Vec<u8> {
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 32) as u8
    };
    (0..count).map(|_| next()).collect()
}
