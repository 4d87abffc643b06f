//! How do pixels go into a model and masks come out of it?

mod preprocess;
mod prompt_mask;
mod resize;
mod threshold;

pub use preprocess::Preprocess;
pub use prompt_mask::resize_mask;
pub use threshold::Thresholder;

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
