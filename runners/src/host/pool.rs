//! One pool of host memory for the inner values and packed weights of all graphs of this process, in huge pages.
//!
//! One pool, because the graphs of a pack run in turn: together they need what the largest needs instead of the sum. Huge pages, because a
//! pass over one map of 67 MB needs 16,000 address translations in pages of 4 KiB and 32 in pages of 2 MiB; an image encoder at 1024 px takes
//! a seventh to a fifth less time (`docs/performance.md`). Linux gives huge pages to whoever asks (`transparent_hugepage` set to `madvise`), to
//! everybody (`always`) or to nobody (`never`); ONNX Runtime never asks. glibc can be told to ask by a tunable, but its releases 2.35
//! and 2.36 compare the kernel's setting with a byte of uninitialised memory behind it, and ask in some processes only.
//!
//! The pool is one range of addresses that grows in place. A block is cut from the smallest hole that holds it; before the pool grows, the
//! pages of its holes go back to the system, so that what is resident is little more than what was in use at once. (A general allocator for such
//! a range, two-level segregated fit, was tried: 1.4 and 1.5 times the memory, because it passes over holes of just the right size, of which
//! repeated runs leave many, and keeps their pages.) ONNX Runtime takes the pool as an allocator of the environment, which a session
//! uses when it is told to (`cpu_arena=shared`).

use std::ffi::{CStr, c_void};
use std::path::Path;
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::files;
use ort::AsPointer;
use ort::environment::Environment;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::sys::{OrtAllocator, OrtMemoryInfo};

/// Where the kernel's setting stands below the root directory: `always [madvise] never`.
pub const SETTING: &str = "sys/kernel/mm/transparent_hugepage/enabled";

/// What changes the kernel's setting, as long as the machine runs.
pub const REMEDY: &str = "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled";

/// Size of a huge page on x86-64, and on Arm with pages of 4 KiB.
const HUGE: usize = 2 << 20;

/// Linux's advice to gather pages at once; the `libc` crate does not name it.
#[cfg(target_os = "linux")]
const MADV_COLLAPSE: libc::c_int = 25;

/// Alignment of every block: the largest that any ONNX Runtime asks of its own allocator.
const ALIGN: usize = 256;

/// Blocks and holes that there is room for without another allocation; packs have some hundred.
const ROOM: usize = 4096;

/// Bytes from the start of the range, and how many.
type Extent = (usize, usize);

/// A reserved range of addresses and what is where in it. Blocks and holes are in order of place, cover `0..top` without a gap, and no two
/// holes are neighbours.
struct AllocatorState {
    start: usize,
    /// Bytes reserved.
    most: usize,
    /// Bytes that may be touched.
    usable: usize,
    /// End of the last block that there ever was.
    top: usize,
    huge: bool,
    blocks: Vec<Extent>,
    holes: Vec<Extent>,
}

impl AllocatorState {
    /// Reserves addresses for twice the machine's memory, or half of those that the process may have; nothing of it is backed yet.
    fn reserve(&mut self) -> Option<()> {
        // SAFETY: plain system calls; the new mapping overlaps nothing.
        unsafe {
            let (pages, page) = (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE));
            let memory = usize::try_from(pages).ok()?.checked_mul(usize::try_from(page).ok()?)?;
            let mut limit: libc::rlimit = std::mem::zeroed();
            let limited = libc::getrlimit(libc::RLIMIT_AS, &mut limit) == 0 && limit.rlim_cur != libc::RLIM_INFINITY;
            let allowed = if limited { usize::try_from(limit.rlim_cur / 2).unwrap_or(usize::MAX) } else { usize::MAX };
            let most = memory.saturating_mul(2).min(allowed) / HUGE * HUGE + HUGE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            let at = libc::mmap(null_mut(), most, libc::PROT_NONE, flags, -1, 0);
            if at == libc::MAP_FAILED {
                return None;
            }
            (self.start, self.most) = ((at as usize).next_multiple_of(HUGE), most - HUGE);
            #[cfg(target_os = "linux")]
            {
                // Without effect where the kernel has none; `AnonHugePages` in the record says what came of it.
                let advice = if self.huge { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
                libc::madvise(self.start as *mut c_void, self.most, advice);
            }
        }
        self.blocks.reserve(ROOM);
        self.holes.reserve(ROOM);
        Some(())
    }

    /// Moves the top to `top`, behind giving the pages of all holes back.
    fn grow(&mut self, top: usize) -> Option<()> {
        let usable = top.checked_next_multiple_of(HUGE).filter(|&n| n <= self.most)?;
        if usable > self.usable {
            // SAFETY: inside the reserved range, behind what is in use; and whole pages of holes, which nobody reads.
            unsafe {
                let (fresh, bytes) = (self.start + self.usable, usable - self.usable);
                if libc::mprotect(fresh as *mut c_void, bytes, libc::PROT_READ | libc::PROT_WRITE) != 0 {
                    return None;
                }
                for &(at, len) in &self.holes {
                    let (first, end) = (at.next_multiple_of(HUGE), (at + len) / HUGE * HUGE);
                    if first < end {
                        libc::madvise((self.start + first) as *mut c_void, end - first, libc::MADV_DONTNEED);
                    }
                }
            }
            self.usable = usable;
        }
        self.top = top;
        Some(())
    }

    /// Place of a block of `len` bytes.
    fn allocate(&mut self, len: usize) -> Option<usize> {
        if self.start == 0 {
            self.reserve()?;
        }
        let fitting = self.holes.iter().enumerate().filter(|(_, hole)| hole.1 >= len);
        let at = match fitting.min_by_key(|(_, hole)| hole.1).map(|(i, _)| i) {
            Some(i) => {
                let (at, hole) = self.holes[i];
                if hole == len {
                    self.holes.remove(i);
                } else {
                    self.holes[i] = (at + len, hole - len);
                }
                at
            }
            None => {
                let last = self.holes.pop_if(|(at, hole)| *at + *hole == self.top);
                let at = last.map_or(self.top, |(at, _)| at);
                if at.checked_add(len).and_then(|top| self.grow(top)).is_none() {
                    self.holes.extend(last);
                    return None;
                }
                at
            }
        };
        let i = self.blocks.partition_point(|block| block.0 < at);
        self.blocks.insert(i, (at, len));
        Some(at)
    }

    /// Makes the block at `at` a hole, joined with its neighbours.
    fn free(&mut self, at: usize) {
        let Ok(i) = self.blocks.binary_search_by_key(&at, |block| block.0) else { return };
        let (_, mut len) = self.blocks.remove(i);
        let next = self.holes.partition_point(|hole| hole.0 < at);
        if let Some(&(after, more)) = self.holes.get(next).filter(|hole| hole.0 == at + len) {
            debug_assert!(after > at);
            len += more;
            self.holes.remove(next);
        }
        match next.checked_sub(1).map(|i| &mut self.holes[i]).filter(|hole| hole.0 + hole.1 == at) {
            Some(before) => before.1 += len,
            None => self.holes.insert(next, (at, len)),
        }
    }
}

struct Pool(Mutex<AllocatorState>);

impl Pool {
    const fn new() -> Pool {
        Pool(Mutex::new(AllocatorState {
            start: 0,
            most: 0,
            usable: 0,
            top: 0,
            huge: true,
            blocks: Vec::new(),
            holes: Vec::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, AllocatorState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block of at least `size` bytes; null for none.
    fn allocate(&self, size: usize) -> *mut u8 {
        let Some(len) = size.checked_next_multiple_of(ALIGN).filter(|&len| len > 0) else { return null_mut() };
        let mut state = self.lock();
        state.allocate(len).map_or(null_mut(), |at| (state.start + at) as *mut u8)
    }

    /// Takes back a block that `take` handed out; nobody may use it any more. Null is passed over.
    fn free(&self, block: *mut u8) {
        let mut state = self.lock();
        if let Some(at) = (block as usize).checked_sub(state.start) {
            state.free(at);
        }
    }

    /// Is it in use, and does it ask for huge pages?
    fn uses_huge_pages(&self) -> bool {
        let state = self.lock();
        state.start != 0 && state.huge
    }

    /// Decides about huge pages; `false` when the pool was begun the other way.
    fn set_huge_pages(&self, huge: bool) -> bool {
        let mut state = self.lock();
        if state.start == 0 {
            state.huge = huge;
        }
        state.huge == huge
    }
}

static POOL: Pool = Pool::new();

/// What ONNX Runtime gets to see.
#[repr(C)]
struct Shared {
    calls: OrtAllocator,
    info: MemoryInfo<'static>,
}

// SAFETY: the calls are functions, the description of the memory is never changed, the pool has a lock.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

unsafe extern "system" fn allocate(_: *mut OrtAllocator, size: usize) -> *mut c_void {
    POOL.allocate(size).cast()
}

unsafe extern "system" fn reserve(_: *const OrtAllocator, size: usize) -> *mut c_void {
    POOL.allocate(size).cast()
}

unsafe extern "system" fn free(_: *mut OrtAllocator, block: *mut c_void) {
    POOL.free(block.cast());
}

unsafe extern "system" fn describe(this: *const OrtAllocator) -> *const OrtMemoryInfo {
    // SAFETY: it is the first field of a `Shared` that lives as long as the process.
    unsafe { &*this.cast::<Shared>() }.info.ptr()
}

/// Registers the pool as the allocator that sessions may share. The binding has no call for this, so the C API is called.
///
/// # Errors
/// ONNX Runtime's own words.
pub(crate) fn register(environment: &Environment) -> Result<(), String> {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    let info = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)
        .map_err(|e| e.to_string())?;
    let shared = SHARED.get_or_init(|| {
        let calls = OrtAllocator {
            Alloc: Some(allocate),
            Free: Some(free),
            Info: Some(describe),
            Reserve: Some(reserve),
            // SAFETY: an allocator without functions, which are filled in above.
            ..unsafe { OrtAllocator::default() }
        };
        Shared { calls, info }
    });
    let api = ort::api();
    let calls = std::ptr::from_ref(&shared.calls).cast_mut();
    // SAFETY: both pointers are of objects that live as long as the process; ONNX Runtime changes nothing in the allocator. The
    // environment is not changed in any way that Rust code could see, and nobody else has it yet.
    let status = unsafe { (api.RegisterAllocator)(environment.ptr().cast_mut(), calls) };
    if status.0.is_null() {
        return Ok(());
    }
    // SAFETY: the status is not null; its message lives until it is released, once.
    unsafe {
        let text = CStr::from_ptr((api.GetErrorMessage)(status.0)).to_string_lossy().into_owned();
        (api.ReleaseStatus)(status.0);
        Err(format!("no common memory arena: {text}"))
    }
}

/// Has the C library take all blocks below 32 MiB, of all threads, from the one heap that `trim_heap` gathers: reordered weights are such
/// blocks. By itself glibc gives other threads heaps of their own, and takes blocks above a limit, which starts at 128 KiB and rises with what
/// is freed, straight from the system; where the weights come to lie would depend on which graph is loaded when. (32 and 64 MiB are the
/// values at which its own rise ends.) Called when a pack is opened on the CPU; a process with threads calls it before it starts them,
/// because heaps that exist already go on being used. Not for GPUs, where engines are built on many threads.
pub fn use_one_malloc_arena() {
    #[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
    // SAFETY: takes two numbers, and may be called at any time.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 20);
    }
}

/// Puts the C library's heap in order after loading, once, before anything is timed.
///
/// What was freed goes back to the system: while it loads a graph ONNX Runtime frees more than it keeps, in pieces that glibc would hold
/// on to (180 MB after 108 MB of weights). What was kept, mostly weights in the order that its convolutions want, is gathered in
/// huge pages. Linux does that on request since 6.1; an older kernel would do it bit by bit for a minute, in the middle of
/// what is measured, and is not asked.
pub(crate) fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes a number, touches the allocator only and may be called from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
    #[cfg(target_os = "linux")]
    if POOL.uses_huge_pages()
        && kernel(&setting()).is_some_and(|setting| setting != "never")
        && let Some((start, end)) =
            files::read_text(Path::new("/proc/self/maps"), files::SMALL).ok().as_deref().and_then(heap)
    {
        // SAFETY: whole pages of a mapping of this process, whose contents the call leaves as they are. It may fail for any of them,
        // which then stay small: `AnonHugePages` in the record has what came of it.
        unsafe {
            libc::madvise(start as *mut c_void, end - start, MADV_COLLAPSE);
        }
    }
}

/// The part of the heap that huge pages can hold, from the text of `/proc/self/maps`.
fn heap(maps: &str) -> Option<(usize, usize)> {
    let line = maps.lines().find(|line| line.ends_with("[heap]"))?;
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?.checked_next_multiple_of(HUGE)?, address(end)? / HUGE * HUGE);
    (start < end).then_some((start, end))
}

/// What the kernel does, from the text of [`SETTING`]: the word in brackets.
pub fn kernel(setting: &str) -> Option<&str> {
    setting.split_once('[')?.1.split_once(']').map(|(word, _)| word)
}

fn setting() -> String {
    files::read_text(&Path::new("/").join(SETTING), files::SMALL).unwrap_or_default()
}

/// Settles whether the pool asks for huge pages, and says what that comes to. The first opening of a process decides.
pub(crate) fn configure_huge_pages(wanted: bool) -> String {
    let decided = POOL.set_huge_pages(wanted);
    huge_pages_note(if decided { wanted } else { !wanted }, decided, kernel(&setting()))
}

/// The state in words, for the record.
fn huge_pages_note(asking: bool, as_wanted: bool, kernel: Option<&str>) -> String {
    let state = match (asking, kernel) {
        (false, _) => "off".to_string(),
        (true, Some("never")) => format!("none, the kernel's setting is never; `{REMEDY}` permits them"),
        (true, None) => "none, the kernel does not offer them".to_string(),
        (true, Some(_)) => "requested".to_string(),
    };
    format!("huge pages: {state}{}", if as_wanted { "" } else { ", as this process began" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Blocks do not overlap, are aligned, keep what was written, and what was given back is used again.
    fn exercise(steps: &[(u32, bool)]) {
        let pool = Pool::new();
        let mut held: Vec<(*mut u8, usize, u8)> = Vec::new();
        let whole = |&(block, size, mark): &(*mut u8, usize, u8)| {
            // SAFETY: the block is ours and `size` bytes long.
            unsafe { *block == mark && *block.add(size - 1) == mark && *block.add(size / 2) == mark }
        };
        for (n, &(size, give)) in steps.iter().enumerate() {
            if give && !held.is_empty() {
                let one = held.swap_remove(size as usize % held.len());
                assert!(whole(&one));
                pool.free(one.0);
            } else {
                let (size, mark) = (size as usize + 1, n as u8);
                let block = pool.allocate(size);
                assert!(!block.is_null() && (block as usize).is_multiple_of(ALIGN));
                // SAFETY: the block is `size` bytes long.
                unsafe { block.write_bytes(mark, size) };
                held.push((block, size, mark));
            }
            let state = pool.lock();
            let mut spans: Vec<(Extent, bool)> = state.blocks.iter().map(|&span| (span, true)).collect();
            spans.extend(state.holes.iter().map(|&span| (span, false)));
            spans.sort_unstable();
            let end = spans.iter().fold(0, |end, &((at, len), _)| {
                assert_eq!(at, end, "no gap, no overlap");
                at + len
            });
            assert_eq!(end, state.top);
            assert!(spans.windows(2).all(|w| w[0].1 || w[1].1), "neighbouring holes are one");
        }
        assert!(held.iter().all(whole));
        let top = pool.lock().top;
        held.drain(..).for_each(|one| pool.free(one.0));
        pool.free(pool.allocate(top));
        assert_eq!(pool.lock().top, top, "what was given back is joined and used again");
        let state = pool.lock();
        // SAFETY: nobody holds a block any more.
        unsafe { libc::munmap(state.start as *mut c_void, state.most) };
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn blocks_are_disjoint_and_used_again(steps in prop::collection::vec((0u32..3_000_000, any::<bool>()), 1..60)) {
            exercise(&steps);
        }
    }

    #[test]
    fn the_smallest_hole_that_fits_is_taken() {
        let pool = Pool::new();
        let [big, _, small, _] = [4096, 256, 1024, 256].map(|size| pool.allocate(size));
        pool.free(big);
        pool.free(small);
        assert_eq!(pool.allocate(1000), small);
        assert_eq!(pool.allocate(1000), big);
        assert_eq!(pool.allocate(3072), big.wrapping_add(1024));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn holes_are_not_resident_once_the_pool_grows() {
        let pool = Pool::new();
        let size = 8 * HUGE;
        let [first, behind] = [size, 256].map(|size| pool.allocate(size));
        let resident = || {
            let mut pages = vec![0u8; size / 4096];
            // SAFETY: the range is mapped, and there is a byte for every page.
            assert_eq!(unsafe { libc::mincore(first.cast(), size, pages.as_mut_ptr()) }, 0);
            pages.iter().filter(|&&page| page & 1 == 1).count()
        };
        // SAFETY: the block is `size` bytes long.
        unsafe { first.write_bytes(1, size) };
        assert_eq!(resident(), size / 4096);
        pool.free(first);
        assert!(pool.allocate(2 * size) > behind);
        assert_eq!(resident(), 0);
        assert_eq!(pool.allocate(size), first);
        // SAFETY: the block is `size` bytes long and was just taken.
        assert_eq!(unsafe { *first }, 0);
    }

    #[test]
    fn nothing_and_too_much_are_null() {
        let pool = Pool::new();
        assert!(pool.allocate(0).is_null());
        assert!(pool.allocate(usize::MAX).is_null() && pool.allocate(1 << 45).is_null());
        assert!(!pool.allocate(1).is_null(), "a refusal leaves the pool as it was");
        pool.free(null_mut());
    }

    #[test]
    fn the_first_opening_decides_about_huge_pages() {
        let pool = Pool::new();
        assert!(pool.set_huge_pages(false));
        assert!(pool.set_huge_pages(true), "nothing was taken yet");
        pool.allocate(1);
        assert!(!pool.set_huge_pages(false));
    }

    #[test]
    fn the_heap_is_found_and_cut_to_whole_huge_pages() {
        let maps = "55d0ffe00000-55d100000000 r--p 00000000 08:01 42 /bin/x\n55d100001000-55d100a01000 rw-p 00000000 00:00 0    [heap]\n";
        assert_eq!(heap(maps), Some((0x55d1_0020_0000, 0x55d1_00a0_0000)));
        assert_eq!(heap("55d100001000-55d100201000 rw-p 00000000 00:00 0 [heap]"), None);
        assert_eq!(heap("garbage [heap]\n"), None);
        assert_eq!(heap(""), None);
    }

    #[test]
    fn what_is_in_effect_is_said_with_its_reason() {
        assert_eq!(kernel("always [madvise] never\n"), Some("madvise"));
        assert_eq!(kernel(""), None);
        assert_eq!(huge_pages_note(true, true, Some("madvise")), "huge pages: requested");
        assert_eq!(huge_pages_note(false, true, Some("always")), "huge pages: off");
        assert_eq!(huge_pages_note(true, false, Some("always")), "huge pages: requested, as this process began");
        assert!(huge_pages_note(true, true, Some("never")).contains("echo madvise"));
        assert!(huge_pages_note(true, true, None).contains("does not offer"));
    }
}
