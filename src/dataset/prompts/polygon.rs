//! From the corners of polygons to the pixels inside, for COCO, LabelMe and YOLO.

use jetbench_runners::types::Mask;

/// Most corners of one object: every row of the frame is held against all of them.
const MOST: usize = 10_000;

/// The pixels whose centre lies inside one of the polygons, by the even-odd rule. Corners are on a canvas on which the top left pixel
/// reaches from 0,0 to 1,1.
///
/// # Errors
/// Fewer than three corners, too many, or a corner that is no place.
pub(super) fn fill(width: u32, height: u32, polygons: &[Vec<[f64; 2]>]) -> Result<Mask, String> {
    let corners: usize = polygons.iter().map(Vec::len).sum();
    if corners > MOST {
        return Err(format!("a polygon of {corners} corners; at most {MOST} are read"));
    }
    if let Some(few) = polygons.iter().find(|p| p.len() < 3) {
        return Err(format!("a polygon of {} corners; three or more are needed", few.len()));
    }
    if polygons.iter().flatten().flatten().any(|v| !(v.is_finite() && v.abs() < 1e9)) {
        return Err("a corner of a polygon is no place".to_string());
    }
    let mut mask = Mask::empty(width, height);
    let mut crossings = Vec::new();
    for y in 0..height {
        let centre = f64::from(y) + 0.5;
        for polygon in polygons {
            crossings.clear();
            let last = polygon.last().into_iter();
            for (a, b) in last.chain(polygon).zip(polygon) {
                if (a[1] <= centre) != (b[1] <= centre) {
                    crossings.push(a[0] + (centre - a[1]) * (b[0] - a[0]) / (b[1] - a[1]));
                }
            }
            crossings.sort_by(f64::total_cmp);
            for span in crossings.chunks_exact(2) {
                // Columns whose centre x + 0.5 lies in [from, to).
                let column = |x: f64| (x - 0.5).ceil().clamp(0.0, f64::from(width)) as u32;
                (column(span[0])..column(span[1])).for_each(|x| mask.set(x, y));
            }
        }
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_rectangle_is_its_pixels_and_a_hole_stays_open() {
        let square = |a: f64, b: f64| vec![[a, a], [b, a], [b, b], [a, b], [a, a]];
        let mask = fill(8, 6, &[square(1.0, 4.0)]).unwrap();
        assert_eq!(mask, Mask::from_fn(8, 6, |x, y| (1..4).contains(&x) && (1..4).contains(&y)));
        let two = fill(20, 20, &[square(1.0, 4.0), square(3.0, 6.0)]).unwrap();
        assert_eq!(two.area(), 9 + 9 - 1, "polygons are joined");
        let ring = [square(0.0, 9.0), square(3.0, 6.0)].concat();
        assert_eq!(fill(20, 20, &[ring]).unwrap().area(), 81 - 9, "a polygon that turns back leaves a hole");
        assert!(fill(8, 6, &[vec![[0.0, 0.0], [1.0, 1.0]]]).unwrap_err().contains("2 corners"));
        assert!(fill(8, 6, &[vec![[0.0; 2]; 10_001]]).unwrap_err().contains("10001 corners"));
        assert!(fill(8, 6, &[vec![[f64::NAN, 0.0]; 3]]).unwrap_err().contains("no place"));
    }

    proptest! {
        #[test]
        fn pixels_are_those_of_the_even_odd_rule(corners in prop::collection::vec((-5i32..45, -5i32..25), 3..9)) {
            // Off the grid of centres, so that none lies on an edge.
            let polygon: Vec<[f64; 2]> =
                corners.iter().map(|&(x, y)| [f64::from(x) + 0.137, f64::from(y) + 0.211]).collect();
            let inside = |px: f64, py: f64| {
                let n = polygon.len();
                let crossed = (0..n).filter(|&i| {
                    let (a, b) = (polygon[i], polygon[(i + 1) % n]);
                    (a[1] > py) != (b[1] > py) && px < (b[0] - a[0]) * (py - a[1]) / (b[1] - a[1]) + a[0]
                });
                crossed.count() % 2 == 1
            };
            let naive = Mask::from_fn(40, 20, |x, y| inside(f64::from(x) + 0.5, f64::from(y) + 0.5));
            prop_assert_eq!(fill(40, 20, std::slice::from_ref(&polygon)).unwrap(), naive);
        }
    }
}
