//! How do logits and boxes become detections? As `post_process_object_detection` of transformers' D-FINE does it: sigmoid, no softmax
//! and no suppression, in the same order of f32 operations. Values that are no numbers make no detection and decide no order.

use super::Detection;

/// What a graph gave for one frame, a row per query.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// `[queries, classes]`.
    pub logits: &'a [f32],
    /// `[queries, 4]`: centre, width and height as shares of the image.
    pub boxes: &'a [f32],
    /// Number of classes.
    pub classes: usize,
}

/// A query with one of its classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Row of the query.
    pub query: usize,
    /// Number of the class.
    pub label: usize,
    /// 0..1.
    pub score: f32,
}

/// The logistic function.
pub fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

/// Corners `[x0, y0, x1, y1]` in pixels of an image of that width and height.
pub fn corners(shares: [f32; 4], [width, height]: [u32; 2]) -> [f32; 4] {
    let [x, y, w, h] = shares;
    let (half_w, half_h, width, height) = (0.5 * w, 0.5 * h, width as f32, height as f32);
    [(x - half_w) * width, (y - half_h) * height, (x + half_w) * width, (y + half_h) * height]
}

impl<'a> Rows<'a> {
    /// Logits and box of every query.
    pub fn each(&self) -> impl Iterator<Item = (&'a [f32], [f32; 4])> + use<'a> {
        let boxes = self.boxes.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
        self.logits.chunks_exact(self.classes.max(1)).zip(boxes)
    }

    /// One detection per query, of its best class (the first of equals), in the order of the rows.
    pub fn best(&self, size: [u32; 2], found: &mut Vec<Detection>) {
        found.clear();
        found.extend(self.each().map(|(logits, shares)| {
            let finite = logits.iter().chain(&shares).all(|v| v.is_finite());
            let best = logits.iter().enumerate().reduce(|best, other| if other.1 > best.1 { other } else { best });
            let (label, logit) = best.map_or((0, f32::NAN), |(label, logit)| (label, *logit));
            Detection {
                bbox: corners(shares, size).map(f64::from),
                score: if finite { f64::from(sigmoid(logit)) } else { f64::NAN },
                label: u32::try_from(label).unwrap_or(u32::MAX),
            }
        }));
    }

    /// As many pairs of query and class as there are queries, those with the highest scores, highest first; equal ones in the order
    /// of the rows. Only those above `threshold`.
    pub fn pairs(&self, threshold: f32) -> Vec<Pair> {
        let mut pairs: Vec<Pair> = Vec::new();
        let mut queries = 0;
        for (query, (logits, _)) in self.each().enumerate() {
            queries += 1;
            let above = logits.iter().enumerate().map(|(label, logit)| Pair { query, label, score: sigmoid(*logit) });
            pairs.extend(above.filter(|pair| pair.score > threshold));
        }
        pairs.sort_by(|a, b| b.score.total_cmp(&a.score));
        pairs.truncate(queries);
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_class_of_a_query_is_one_detection() {
        // Expected: transformers 5.23, D-FINE's image processor, on an image of 200 x 100.
        let rows = Rows {
            logits: &[0.0, 1.0, 2.0, 2.0, -3.0, -4.0],
            boxes: &[0.5, 0.5, 0.5, 0.5, 0.1, 0.2, 0.3, 0.4, 1.0, 1.0, 0.2, 0.1],
            classes: 2,
        };
        let mut found = Vec::new();
        rows.best([200, 100], &mut found);
        let labels: Vec<u32> = found.iter().map(|d| d.label).collect();
        assert_eq!(labels, [1, 0, 0], "the first of equals");
        assert_eq!(found[0].bbox, [50.0, 25.0, 150.0, 75.0]);
        assert!((found[0].score - 0.731_058_6).abs() < 1e-7 && (found[2].score - 0.047_425_87).abs() < 1e-7);
        let near = |d: &Detection, bbox: [f64; 4]| d.bbox.iter().zip(bbox).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near(&found[1], [-10.0, 0.0, 50.0, 40.0]), "outside of the image it stays outside: {:?}", found[1]);
        assert!(near(&found[2], [180.0, 95.0, 220.0, 105.0]), "{:?}", found[2]);
    }

    #[test]
    fn a_query_may_come_out_for_several_classes() {
        let rows = Rows { logits: &[1.0, 3.0, 2.0, 0.0, -1.0, 0.5], boxes: &[0.5; 12], classes: 2 };
        let pairs = rows.pairs(0.5);
        let places: Vec<(usize, usize)> = pairs.iter().map(|p| (p.query, p.label)).collect();
        // Three queries, so three pairs; 0.5 itself is not above the threshold.
        assert_eq!(places, [(0, 1), (1, 0), (0, 0)]);
        assert_eq!(Rows { logits: &[0.0; 4], boxes: &[0.5; 8], classes: 2 }.pairs(0.5), []);
    }

    #[test]
    fn what_is_no_number_is_no_detection_and_moves_no_other() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let healthy = [[1.0f32, 0.0], [2.0, -1.0], [0.5, 3.0]];
        let mut expected = Vec::new();
        let flat = |rows: [[f32; 2]; 3]| rows.concat();
        Rows { logits: &flat(healthy), boxes: &[0.5; 12], classes: 2 }.best([10, 10], &mut expected);
        for bad in [nan, inf, -inf] {
            for place in 0..2 {
                let mut logits = healthy;
                logits[1][place] = bad;
                let logits = flat(logits);
                let rows = Rows { logits: &logits, boxes: &[0.5; 12], classes: 2 };
                let mut found = Vec::new();
                rows.best([10, 10], &mut found);
                assert!(found[1].score.is_nan(), "{bad} in class {place}: {:?}", found[1]);
                assert_eq!((found[0], found[2]), (expected[0], expected[2]));
                let scores: Vec<f32> = rows.pairs(0.0).iter().map(|p| p.score).collect();
                assert!(scores.iter().all(|s| s.is_finite()) && scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
            }
            let mut boxes = [0.5; 12];
            boxes[6] = bad;
            let mut found = Vec::new();
            Rows { logits: &flat(healthy), boxes: &boxes, classes: 2 }.best([10, 10], &mut found);
            assert!(found[1].score.is_nan() && found[0] == expected[0] && found[2] == expected[2], "{found:?}");
        }
    }
}
