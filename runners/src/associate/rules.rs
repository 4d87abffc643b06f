//! What are the rules' numbers?

/// The numbers of the association; each is an option of the same name. Times are in frames, so that a result does not
/// depend on how often the detector looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// The detector looks at frames 0, n, 2n, …
    pub detect_every: u32,
    /// Score from which a detection counts.
    pub detect_score: f64,
    /// Score from which it may found a track.
    pub new_score: f64,
    /// Box IoU with a better detection above which a detection is dropped.
    pub nms_iou: f64,
    /// Box IoU that a detection and a track need to be one.
    pub match_iou: f64,
    /// Mask IoU with a live track from which a new one is refused.
    pub dup_iou: f64,
    /// Frames after its birth in which half of the detector's frames must support a track.
    pub probation: u32,
    /// Frames without support, those with an empty mask not counted, after which a confirmed track ends.
    pub keep_alive: u32,
    /// Frames in a row with an empty mask after which a track ends.
    pub max_absent: u32,
    /// Most tracks alive at a time.
    pub max_tracks: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            detect_every: 5,
            detect_score: 0.4,
            new_score: 0.5,
            nms_iou: 0.7,
            match_iou: 0.5,
            dup_iou: 0.7,
            probation: 15,
            keep_alive: 30,
            max_absent: 30,
            max_tracks: 20,
        }
    }
}

impl Rules {
    /// Does the detector look at this frame?
    pub fn looks_at(&self, frame: u32) -> bool {
        frame.is_multiple_of(self.detect_every.max(1))
    }

    /// Detections that a track born on `birth` needs, its first included: half of the detector's frames from there to the
    /// end of its probation, or to the clip's last frame where that is known and comes before.
    pub fn need(&self, birth: u32, last: Option<u32>) -> u32 {
        let every = self.detect_every.max(1);
        let until = birth.saturating_add(self.probation).min(last.unwrap_or(u32::MAX));
        (until / every).saturating_sub(birth / every).saturating_add(1).div_ceil(2)
    }

    /// In words, for the record.
    pub fn note(&self) -> String {
        let Rules { detect_every, detect_score, new_score, nms_iou, match_iou, .. } = self;
        let Rules { dup_iou, probation, keep_alive, max_absent, max_tracks, .. } = self;
        format!(
            "association: detect_every {detect_every}, detect_score {detect_score}, new_score {new_score}, nms_iou \
             {nms_iou}, match_iou {match_iou}, dup_iou {dup_iou}, probation {probation}, keep_alive {keep_alive}, \
             max_absent {max_absent}, max_tracks {max_tracks}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_detectors_frames_confirm() {
        let every = |detect_every, probation| Rules { detect_every, probation, ..Rules::default() };
        assert_eq!(every(5, 15).need(10, None), 2, "frames 10, 15, 20, 25");
        assert_eq!(every(5, 15).need(10, Some(16)), 1, "frames 10 and 15");
        assert_eq!(every(1, 15).need(3, None), 8, "16 frames");
        assert_eq!(every(30, 15).need(30, None), 1, "frame 30 alone");
        assert_eq!(every(5, 0).need(0, Some(0)), 1);
        assert_eq!(every(1, u32::MAX).need(u32::MAX, None), 1);
        assert!(every(0, 0).looks_at(1));
    }
}
