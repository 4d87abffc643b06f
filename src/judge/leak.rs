//! Does the worker keep memory with every frame? Judged on the second half of its memory curve, in which pools and arenas have taken what
//! they need: a leak goes on growing, at the same rate, to the end. What grows and stops, in one piece or in many, is none.

use crate::judge::{limits, stats};
use crate::results::record::MemoryPoint;

/// Slices of the second half; each must lie above the one before.
const SLICES: usize = 8;

/// Growth without an end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Leak {
    /// KiB per frame over the second half of the run.
    pub kib_per_frame: f64,
    /// Growth over that half, MiB.
    pub grown_mib: f64,
}

/// The leak that a curve shows; `None` where there is none, or too little to tell.
pub fn leak(curve: &[MemoryPoint]) -> Option<Leak> {
    // Frames count from 0 in every video; here they go on.
    let (mut before, mut last) = (0.0, 0.0);
    let mut video = "";
    let mut points: Vec<(f64, f64, &str)> = Vec::with_capacity(curve.len());
    for point in curve {
        if point.video != video {
            (before, video) = (before + last, &point.video);
        }
        last = f64::from(point.frames);
        points.push((before + last, point.rss_mib, video));
    }
    let middle = points.last()?.0 / 2.0;
    let half = &points[points.partition_point(|p| p.0 < middle)..];
    if half.len() < 2 * SLICES {
        return None;
    }
    let slices: Vec<f64> = (0..SLICES)
        .filter_map(|i| {
            let slice = &half[i * half.len() / SLICES..(i + 1) * half.len() / SLICES];
            stats::median(&slice.iter().map(|p| p.1).collect::<Vec<_>>())
        })
        .collect();
    let rises: Vec<f64> = slices.windows(2).map(|w| w[1] - w[0]).collect();
    let grown: f64 = rises.iter().sum();
    // What grows where a video begins is room for larger frames.
    let within: f64 = half.windows(2).filter(|w| w[0].2 == w[1].2).map(|w| w[1].1 - w[0].1).sum();
    let mean = grown / rises.len() as f64;
    let goes_on = rises.iter().all(|rise| *rise > 0.0) && rises[rises.len() - 2..].iter().sum::<f64>() >= mean;
    let frames = half.last()?.0 - half.first()?.0;
    (goes_on && grown >= limits::LEAK_MIB && within >= grown / 2.0 && frames > 0.0)
        .then(|| Leak { kib_per_frame: 1024.0 * (half[half.len() - 1].1 - half[0].1) / frames, grown_mib: grown })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: usize, rss: impl Fn(usize) -> f64) -> Vec<MemoryPoint> {
        let point = |i: usize| MemoryPoint { video: "a".into(), frames: 1 + i as u32, rss_mib: rss(i) };
        (0..points).map(point).collect()
    }

    #[test]
    fn growth_without_an_end_is_a_leak() {
        let found = leak(&curve(400, |i| 100.0 + i as f64 / 16.0 + (i % 3) as f64 / 100.0)).unwrap();
        assert!((found.kib_per_frame - 64.0).abs() < 1.0, "{found:?}");
        let videos: Vec<MemoryPoint> = (0..400)
            .map(|i| MemoryPoint {
                video: format!("{}", i / 50),
                frames: 1 + i % 50,
                rss_mib: 100.0 + f64::from(i) / 16.0,
            })
            .collect();
        assert!((leak(&videos).unwrap().kib_per_frame - 64.0).abs() < 2.0, "over many videos");
    }

    #[test]
    fn what_grows_and_stops_is_none() {
        let stops = |at: usize| leak(&curve(400, move |i| 100.0 + i.min(at) as f64 / 4.0));
        assert_eq!([40, 200, 300, 360].map(stops), [None; 4], "an arena that is filled");
        assert_eq!(leak(&curve(400, |i| 100.0 + 30.0 * (i as f64 + 1.0).log2().floor())), None, "one that doubles");
        assert_eq!(
            leak(&curve(400, |i| 100.0 + 50.0 * (1.0 - (-(i as f64) / 60.0).exp()))),
            None,
            "one that fills slowly"
        );
        assert_eq!(leak(&curve(400, |i| 100.0 + 5.0 * (i % 40) as f64)), None, "a pool that is given back");
        assert_eq!(leak(&curve(400, |i| 100.0 + i as f64 / 512.0)), None, "0.4 MiB over the second half");
        assert_eq!(leak(&curve(20, |i| 100.0 + i as f64)), None, "too few points");
        let larger: Vec<MemoryPoint> = (0..400)
            .map(|i| MemoryPoint {
                video: format!("{}", i / 10),
                frames: 1 + i % 10,
                rss_mib: 100.0 + f64::from(i / 10),
            })
            .collect();
        assert_eq!(leak(&larger), None, "videos in order of their size");
    }
}
