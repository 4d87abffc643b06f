//! A tracked frame allocates nothing: once every size has been seen, [`Runner::step`] on the CPU makes not one call to the
//! Rust allocator, with one object or several, as long as masks are handed back. Counted are the calls on the thread that
//! steps; ONNX Runtime allocates by itself, in C++, which no Rust allocator sees. Needs ONNX Runtime; without it the test
//! says so and passes. In a binary of its own, because the allocator is the whole program's.

mod clip;
mod real_packs;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::path::Path;

use clip::{click, frame};
use jetbench_runners::types::{Device, Dtype, Frame, OpenRequest, Options, Prompt};
use jetbench_runners::{Runner, packs, runtime};
use real_packs::trackers;

/// The system's allocator, with a count of the calls that can take memory.
struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // A thread that is being torn down has no counter any more.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the call goes on as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the call goes on as it came.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the call goes on as it came.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the call goes on as it came.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls to the allocator while `work` runs on this thread.
fn allocations(work: impl FnOnce()) -> usize {
    let before = CALLS.with(Cell::get);
    work();
    CALLS.with(Cell::get) - before
}

const WIDTH: u32 = 210;
const HEIGHT: u32 = 130;

/// Allocator calls of each of 12 tracked frames, the first six left out; masks are handed back or not.
fn per_frame(runner: &mut dyn Runner, prompts: &[Prompt], hand_back: bool) -> Vec<usize> {
    let frames: Vec<Vec<u8>> = (0..12).map(|t| frame(WIDTH, HEIGHT, t)).collect();
    runner.reset();
    let mut calls = Vec::with_capacity(frames.len());
    let mut held = Vec::with_capacity(frames.len());
    for (t, rgb) in frames.iter().enumerate() {
        let prompts = if t == 0 { prompts } else { &[] };
        calls.push(allocations(|| {
            let masks = runner.step(Frame { width: WIDTH, height: HEIGHT, rgb }, prompts).unwrap();
            let _ = runner.take_stage_times();
            assert_eq!(masks.objects.len(), held.first().map_or(masks.objects.len(), |n| *n));
            held.push(masks.objects.len());
            if hand_back {
                runner.recycle(masks);
            }
        }));
    }
    calls.split_off(6)
}

#[test]
fn a_tracked_frame_allocates_nothing() {
    if let Some(reason) = runtime::probe(None).problem {
        let _ = writeln!(std::io::stderr(), "skipped a_tracked_frame_allocates_nothing: {reason}");
        return;
    }
    assert!(allocations(|| drop(std::hint::black_box(vec![1u8; 100]))) == 1, "the counter counts");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/packs");
    for pack in trackers(&[root], Device::Cpu) {
        for overlaps in ["keep", "exclusive"] {
            let extra = [("overlaps".to_string(), overlaps.to_string())].into();
            let options = Options { threads: Some(2), spinning: None, extra };
            let request = OpenRequest { options, ..OpenRequest::new(pack.clone(), Dtype::Fp32, Device::Cpu) };
            let mut runner = packs::open(&request).unwrap();
            let one = [click(1, 60.0, 50.0)];
            let three = [click(1, 60.0, 50.0), click(2, 150.0, 90.0), click(3, 62.0, 52.0)];
            for prompts in [&one[..], &three] {
                let calls = per_frame(runner.as_mut(), prompts, true);
                assert_eq!(calls, [0; 6], "{}, {} objects, overlaps {overlaps}", pack.display(), prompts.len());
            }
            let calls = per_frame(runner.as_mut(), &three, false);
            assert!(calls.iter().all(|&n| n >= 3), "masks that are kept must be new ones: {calls:?}");
        }
    }
}
