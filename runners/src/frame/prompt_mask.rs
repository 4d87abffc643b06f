//! How does a mask prompt become a mask of the model's size?

use crate::types::Mask;

/// First source index and weights per target sample of PyTorch's antialiased bilinear filter for f32 images: a triangle
/// of half width max(1, source / target), cut off at the border and normalised to sum 1.
fn triangle_taps(source: u32, target: u32) -> Vec<(usize, Vec<f32>)> {
    let scale = source as f32 / target as f32;
    let support = scale.max(1.0);
    let shrink = 1.0 / support;
    let taps = |i: u32| {
        let centre = scale * (i as f32 + 0.5);
        let first = (centre - support + 0.5).max(0.0) as usize;
        let last = ((centre + support + 0.5) as usize).min(source as usize);
        let weight = |x: usize| (1.0 - ((x as f32 - centre + 0.5) * shrink).abs()).max(0.0);
        let mut weights: Vec<f32> = (first..last).map(weight).collect();
        let total: f32 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= total);
        (first, weights)
    };
    (0..target).map(taps).collect()
}

/// Writes a mask prompt at model size into `plane` (`size` x `size`): 1 where the antialiased bilinear resize of the
/// mask is 0.5 or more, else 0.
pub fn resize_mask(mask: &Mask, size: u32, plane: &mut [f32]) {
    let (width, height) = (mask.width() as usize, mask.height() as usize);
    let side = size as usize;
    let mut rows = vec![0f32; side * height];
    let columns = triangle_taps(mask.width(), size);
    for (y, row) in rows.chunks_exact_mut(side).enumerate() {
        if width == side {
            (0..side).for_each(|x| row[x] = f32::from(u8::from(mask.get(x as u32, y as u32))));
            continue;
        }
        for (value, (first, weights)) in row.iter_mut().zip(&columns) {
            let pixel = |i: usize| f32::from(u8::from(mask.get((first + i) as u32, y as u32)));
            *value = weights.iter().enumerate().map(|(i, w)| pixel(i) * w).sum();
        }
    }
    let lines = triangle_taps(mask.height(), size);
    for (y, out) in plane.chunks_exact_mut(side).enumerate() {
        for (x, out) in out.iter_mut().enumerate() {
            let value: f32 = if height == side {
                rows[y * side + x]
            } else {
                let (first, weights) = &lines[y];
                // Fused, as PyTorch's kernel is compiled: it decides exact ties at 0.5.
                weights.iter().enumerate().fold(0.0, |sum, (i, w)| rows[(first + i) * side + x].mul_add(*w, sum))
            };
            *out = f32::from(u8::from(value >= 0.5));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mask_prompt_keeps_a_half_plane() {
        let mask = Mask::from_fn(200, 100, |x, _| x < 100);
        let mut plane = vec![9.0; 64 * 64];
        resize_mask(&mask, 64, &mut plane);
        assert!(plane.chunks(64).all(|row| row[..32].iter().all(|&v| v == 1.0) && row[32..].iter().all(|&v| v == 0.0)));
        let same = Mask::from_fn(64, 64, |x, y| (x * y) % 3 == 0);
        resize_mask(&same, 64, &mut plane);
        assert!((0..64 * 64).all(|i| (plane[i] == 1.0) == same.get(i as u32 % 64, i as u32 / 64)));
    }
}
