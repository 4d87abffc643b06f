//! Which track is the object of a prompt? On the frame of the prompts each track is worth something to each of them, and the pairs with
//! the largest sum are taken, as `linear_sum_assignment` of scipy gives them for the costs 1 - worth. A track that is worth nothing is nobody's.

use super::boxes;
use crate::assignment::assign;
use crate::types::{Mask, ObjectMask, PromptShape};

/// What a track is worth to a prompt, 0..1: the IoU of the masks; of the boxes around them, whose corners are pixels; for clicks the
/// probability that the model gives the track, if its mask has every positive click, one at least, and no negative one. 0 where it is out of the question.
pub fn worth(prompt: &PromptShape, track: &ObjectMask) -> f64 {
    if !track.finite {
        return 0.0;
    }
    match prompt {
        PromptShape::Mask(mask) => track.mask.iou(mask).unwrap_or(0.0),
        PromptShape::Bbox(corners) => {
            let edges = |[x0, y0, x1, y1]: [f64; 4]| [x0, y0, x1 + 1.0, y1 + 1.0];
            let prompted = edges(corners.map(f64::from));
            track.mask.corners().map_or(0.0, |around| boxes::iou(&edges(around.map(f64::from)), &prompted))
        }
        PromptShape::Points(clicks) => {
            let right = clicks.iter().all(|click| shows(&track.mask, click.x, click.y) == click.positive);
            let some = clicks.iter().any(|click| click.positive);
            let probability = 1.0 / (1.0 + f64::from(-track.object_score).exp());
            if right && some && probability.is_finite() { probability } else { 0.0 }
        }
    }
}

/// Has the mask the pixel of a click? One on the edge of the frame is that of the nearest pixel.
fn shows(mask: &Mask, x: f32, y: f32) -> bool {
    let pixel = |at: f32, side: u32| (at.round().max(0.0) as u32).min(side.saturating_sub(1));
    !mask.is_empty() && mask.get(pixel(x, mask.width()), pixel(y, mask.height()))
}

/// The track of each prompt, as an index, and what it is worth to it. One track goes to one prompt at most.
pub fn take(prompts: &[&PromptShape], tracks: &[&ObjectMask]) -> Vec<Option<(usize, f64)>> {
    let worths: Vec<f64> = prompts.iter().flat_map(|prompt| tracks.iter().map(|track| worth(prompt, track))).collect();
    let costs = worths.iter().map(|worth| 1.0 - worth).collect();
    let mut taken = vec![None; prompts.len()];
    for (prompt, track) in assign(prompts.len(), tracks.len(), &costs) {
        let worth = worths[prompt * tracks.len() + track];
        taken[prompt] = (worth > 0.0).then_some((track, worth));
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Click;

    fn mask(columns: std::ops::Range<u32>) -> Mask {
        Mask::from_fn(20, 4, |x, _| columns.contains(&x))
    }

    fn track(columns: std::ops::Range<u32>, object_score: f32) -> ObjectMask {
        let mask = mask(columns);
        ObjectMask { object: 0, claimed: !mask.is_empty(), mask, object_score, predicted_iou: f32::NAN, finite: true }
    }

    fn taken(prompts: &[PromptShape], tracks: &[ObjectMask]) -> Vec<Option<usize>> {
        let (prompts, tracks): (Vec<_>, Vec<_>) = (prompts.iter().collect(), tracks.iter().collect());
        take(&prompts, &tracks).iter().map(|taken| taken.map(|(at, _)| at)).collect()
    }

    fn shape(columns: std::ops::Range<u32>) -> PromptShape {
        PromptShape::Mask(mask(columns))
    }

    #[test]
    fn the_sum_of_the_overlaps_is_as_large_as_can_be() {
        // The first track is the better one of both, and the second object has no other.
        let tracks = [track(0..10, 0.0), track(5..15, 0.0)];
        assert_eq!(taken(&[shape(2..11), shape(0..4)], &tracks), [Some(1), Some(0)]);
        let worths = take(&[&shape(0..5)], &[&tracks[0], &tracks[1]]);
        assert_eq!(worths, [Some((0, 0.5))]);
    }

    #[test]
    fn equal_tracks_go_by_their_order_and_what_overlaps_nothing_is_nobodys() {
        let two = [track(0..4, 0.0), track(0..4, 0.0)];
        assert_eq!(taken(&[shape(0..4), shape(0..4)], &two), [Some(0), Some(1)]);
        // A pair at the cost of 1 would be any.
        assert_eq!(taken(&[shape(0..4), shape(9..12)], &two), [Some(0), None]);
        assert_eq!(
            taken(&[shape(0..4), shape(1..4), shape(2..4)], &two),
            [Some(0), Some(1), None],
            "two tracks for three"
        );
        assert_eq!(taken(&[shape(0..4)], &[track(0..0, 0.0)]), [None], "an empty mask");
        assert_eq!(taken(&[shape(0..4)], &[]), [None]);
        let none: [Option<usize>; 0] = [];
        assert_eq!(taken(&[], &two), none);
        let broken = ObjectMask { finite: false, ..track(0..4, 0.0) };
        assert_eq!(taken(&[shape(0..4)], &[broken, track(3..9, 0.0)]), [Some(1)], "numbers that are none");
    }

    #[test]
    fn boxes_are_compared_with_boxes() {
        // A box of one pixel is a pixel wide.
        assert_eq!(worth(&PromptShape::Bbox([3.0, 0.0, 3.0, 3.0]), &track(3..4, 0.0)), 1.0);
        assert_eq!(worth(&PromptShape::Bbox([0.0, 0.0, 9.0, 3.0]), &track(5..15, 0.0)), 1.0 / 3.0);
        assert_eq!(worth(&PromptShape::Bbox([0.0, 0.0, 9.0, 3.0]), &track(0..0, 0.0)), 0.0);
    }

    #[test]
    fn clicks_take_the_likeliest_track_that_has_them() {
        let click = |x: f32, positive: bool| Click { x, y: 1.0, positive };
        let tracks = [track(0..20, -1.0), track(4..8, 2.0), track(4..12, 1.0)];
        let points = |clicks: &[Click]| PromptShape::Points(clicks.to_vec());
        assert_eq!(taken(&[points(&[click(5.0, true)])], &tracks), [Some(1)]);
        assert_eq!(taken(&[points(&[click(5.0, true), click(11.4, true)])], &tracks), [Some(2)], "both clicks");
        assert_eq!(
            taken(&[points(&[click(2.0, true), click(5.0, false)])], &tracks),
            [None],
            "none without the negative one"
        );
        assert_eq!(taken(&[points(&[click(19.0, false)])], &tracks), [None], "what it is not says nothing");
        assert_eq!(taken(&[points(&[click(20.5, true)])], &tracks), [Some(0)], "on the edge");
        assert_eq!(taken(&[points(&[click(5.0, true)])], &[track(0..20, f32::NAN)]), [None]);
        // As many objects as can be get one that they agree with.
        let both = [points(&[click(5.0, true)]), points(&[click(6.0, true)])];
        assert_eq!(taken(&both, &tracks), [Some(1), Some(2)]);
    }
}
