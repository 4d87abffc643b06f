//! How are boxes compared? They are `[x0, y0, x1, y1]` in pixel edges.

fn area(a: &[f64; 4]) -> f64 {
    (a[2] - a[0]) * (a[3] - a[1])
}

/// Intersection over union, 0..1; 0 where both boxes have no area.
pub fn iou(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let side = |i: usize| (a[i + 2].min(b[i + 2]) - a[i].max(b[i])).max(0.0);
    let both = side(0) * side(1);
    if both == 0.0 {
        return 0.0; // most pairs
    }
    both / (area(a) + area(b) - both).max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_overlap_by_area() {
        let a = [0.0, 0.0, 2.0, 2.0];
        assert_eq!(iou(&a, &[1.0, 0.0, 3.0, 2.0]), 1.0 / 3.0);
        assert_eq!(iou(&a, &[2.0, 0.0, 3.0, 2.0]), 0.0);
        assert_eq!(iou(&[1.0; 4], &[1.0; 4]), 0.0);
    }
}
