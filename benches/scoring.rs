//! How fast are the kernels, the decoder and whole scoring runs? `cargo bench --bench scoring` times the kernels on
//! drawn masks at three sizes; with `JETBENCH_BENCH_DATA=DIR` (DIR/truth, DIR/pred; see benches/compare.py) it also
//! times decoding alone against scoring end to end on those files, on one thread. Figures are CPU time, the least of
//! several passes, and go to stdout.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jetbench::dataset::LabelImage;
use jetbench::score::{BOUNDARY_THRESHOLD, FrameScorer, ScoreOptions, boundary_iou, score};
use jetbench_runners::types::Mask;

/// CPU time of this process, all threads: other programs on the machine do not count.
fn cpu_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills in the structure it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// CPU time of the cheapest of `passes` runs.
fn fastest(passes: usize, mut run: impl FnMut()) -> Duration {
    let time = |run: &mut dyn FnMut()| {
        let start = cpu_time();
        run();
        cpu_time() - start
    };
    (0..passes).map(|_| time(&mut run)).min().unwrap_or_default()
}

/// An object with a wavy outline that covers about a tenth of the frame, and one a few pixels off.
fn pair(w: u32, h: u32, off: f64) -> (Mask, Mask) {
    let blob = |cx: f64, cy: f64| {
        Mask::from_fn(w, h, |x, y| {
            let (dx, dy) = (f64::from(x) - cx, f64::from(y) - cy);
            let angle = dy.atan2(dx);
            let radius = f64::from(h) * (0.22 + 0.04 * (7.0 * angle).sin() + 0.01 * (31.0 * angle).cos());
            dx.hypot(dy) < radius
        })
    };
    let (cx, cy) = (f64::from(w) * 0.45, f64::from(h) * 0.5);
    (blob(cx, cy), blob(cx + off, cy - off / 2.0))
}

fn kernels(only: &str) {
    for (name, w, h) in [("480p", 854, 480), ("720p", 1280, 720), ("1080p", 1920, 1080)] {
        for (kind, off) in [("near", 3.0), ("far", 60.0)] {
            if !format!("{name} {kind}").contains(only) {
                continue;
            }
            let (truth, pred) = pair(w, h, off * f64::from(h) / 1080.0);
            let mut scorer = FrameScorer::new(w, h, BOUNDARY_THRESHOLD);
            let rounds = 50;
            let time = fastest(7, || {
                for _ in 0..rounds {
                    std::hint::black_box(scorer.counts(std::hint::black_box(&pred), &truth));
                }
            });
            let rate = f64::from(rounds) / time.as_secs_f64();
            let border = fastest(5, || {
                std::hint::black_box(boundary_iou(&pred, &truth));
            });
            println!(
                "kernels {name} {kind}: {rate:.0} object-frames/s ({:.3} ms), boundary IoU {:.3} ms",
                1e3 / rate,
                border.as_secs_f64() * 1e3
            );
        }
    }
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        std::fs::read_dir(dir).expect("readable folder").map(|e| e.expect("entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "png") {
            found.push(path);
        }
    }
}

fn end_to_end(dir: &Path) {
    let mut paths = Vec::new();
    files(&dir.join("truth"), &mut paths);
    files(&dir.join("pred"), &mut paths);
    let decode = fastest(9, || {
        for path in &paths {
            std::hint::black_box(LabelImage::read(path).expect("a mask"));
        }
    });
    let mut options = ScoreOptions::new(dir.join("truth"), dir.join("pred"));
    (options.threads, options.keep_first_last) = (Some(1), true);
    let mut object_frames = 0;
    let whole = fastest(9, || {
        let report = score(&options, &|_, _| ()).expect("scores");
        object_frames = report.objects.iter().map(|o| o.frames).sum();
    });
    println!(
        "{}: {} files, CPU seconds: decoding alone {:.3} s, end to end {:.3} s (x{:.2}), {:.0} object-frames per CPU-second",
        dir.display(),
        paths.len(),
        decode.as_secs_f64(),
        whole.as_secs_f64(),
        whole.as_secs_f64() / decode.as_secs_f64(),
        object_frames as f64 / whole.as_secs_f64()
    );
}

fn main() {
    // `cargo bench --bench scoring -- "480p far"` times one case.
    let only = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    kernels(&only);
    if let Some(dirs) = std::env::var_os("JETBENCH_BENCH_DATA") {
        std::env::split_paths(&dirs).for_each(|dir| end_to_end(&dir));
    }
}
