//! Masks as COCO writes them: run lengths in column order, background first, as numbers or as pycocotools' text.

use jetbench_runners::types::Mask;

/// Mask of `width` x `height` pixels from COCO's text form of its run lengths.
///
/// # Errors
/// What is wrong with size or text, without a file name.
pub(super) fn mask(width: u32, height: u32, text: &str) -> Result<Mask, String> {
    bound_size(width, height)?;
    let runs = runs(text.as_bytes()).ok_or("not a COCO run-length text")?;
    unpack(width, height, &runs).ok_or_else(|| format!("its run lengths do not fill {width}x{height} pixels"))
}

/// Refuses sizes that no mask has.
///
/// # Errors
/// Says the size, without a file name.
pub(crate) fn bound_size(width: u32, height: u32) -> Result<(), String> {
    super::label_png::bound_size(width, height, 0, 0)
}

/// Run lengths from COCO's text form; `None` for text that is none.
pub(super) fn runs(text: &[u8]) -> Option<Vec<u32>> {
    let mut runs = Vec::with_capacity(text.len());
    read_runs(text, false, &mut runs)?;
    Some(runs)
}

/// What takes the run lengths of a text, in order.
pub(crate) trait TakeRuns {
    /// The next `N` of them.
    fn take<const N: usize>(&mut self, runs: [u32; N]);
}

impl TakeRuns for Vec<u32> {
    fn take<const N: usize>(&mut self, runs: [u32; N]) {
        self.extend_from_slice(&runs);
    }
}

/// Reads COCO's text form of run lengths: groups of five bits, lowest first, each a character from `0` on, with a sixth bit
/// for "more follows"; from the third run on the difference to the run before the last (pycocotools, `rleFrString`).
/// `doubled`: the text is as JSON has it, two backslashes for each. `None` for text that is none, which may show after some runs were
/// taken.
pub(crate) fn read_runs(mut text: &[u8], doubled: bool, taker: &mut impl TakeRuns) -> Option<()> {
    // The run before, and the one before that; the third run is told as it is, so the first is not remembered.
    let (mut before, mut earlier) = (0, 0);
    let mut first = true;
    while !text.is_empty() {
        // Where a mask's edge is smooth, runs are of one group each, and eight are read at once.
        if let Some((eight, rest)) = text.split_first_chunk().filter(|_| !first)
            && let Some(differences) = single_groups(*eight)
        {
            let runs = differences.map(|difference| {
                let run = earlier + difference;
                (earlier, before) = (before, run);
                run
            });
            // A run below 0, or beyond 32 bits, shows in the upper half of one of them.
            if runs.iter().fold(0, |all, run| all | run) >> 32 != 0 {
                return None;
            }
            taker.take(runs.map(|run| run as u32));
            text = rest;
        } else {
            let run = u32::try_from(earlier + number(&mut text, doubled)?).ok()?;
            (earlier, before) = (before, if first { 0 } else { i64::from(run) });
            first = false;
            taker.take([run]);
        }
    }
    Some(())
}

/// Eight numbers of one group each; `None` where a character is another.
fn single_groups(text: [u8; 8]) -> Option<[i64; 8]> {
    const EACH: u64 = u64::MAX / 255;
    let groups = u64::from_le_bytes(text).wrapping_sub(EACH * u64::from(b'0'));
    (groups & (EACH * 0xe0) == 0).then(|| groups.to_le_bytes().map(last_group))
}

/// The value of a number's last group, whose top bit is the sign.
fn last_group(group: u8) -> i64 {
    i64::from(group ^ 16) - 16
}

/// Takes a number from the front.
#[inline(always)]
fn number(text: &mut &[u8], doubled: bool) -> Option<i64> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (byte, mut rest) = text.split_first()?;
        if doubled && *byte == b'\\' {
            rest = rest.strip_prefix(b"\\")?;
        }
        *text = rest;
        let group = byte.wrapping_sub(b'0');
        if group < 32 {
            return Some(value | last_group(group) << shift);
        }
        // Seven groups hold every difference of two 32-bit runs.
        if group >= 64 || shift == 30 {
            return None;
        }
        value |= i64::from(group & 31) << shift;
        shift += 5;
    }
}

/// Mask from runs in column order, background first; `None` when they do not fill it exactly.
pub(super) fn unpack(width: u32, height: u32, runs: &[u32]) -> Option<Mask> {
    let total = u64::from(width) * u64::from(height);
    if runs.iter().map(|&r| u64::from(r)).sum::<u64>() != total {
        return None;
    }
    let mut mask = Mask::empty(width, height);
    let (mut x, mut y) = (0u32, 0u32);
    for (i, &run) in runs.iter().enumerate() {
        let mut left = run;
        while left > 0 {
            let here = left.min(height - y);
            if i % 2 == 1 {
                (y..y + here).for_each(|y| mask.set(x, y));
            }
            (left, y) = (left - here, y + here);
            if y == height {
                (x, y) = (x + 1, 0);
            }
        }
    }
    Some(mask)
}

/// Runs of a mask in column order, background first: the inverse of [`unpack`]. Rows are compared a word at a time: where a pixel
/// differs from the one before it in its column, a run begins.
pub(super) fn columns(mask: &Mask) -> Vec<u32> {
    let (width, height) = (u64::from(mask.width()), u64::from(mask.height()));
    let mut starts: Vec<u64> = Vec::new();
    for y in 1..mask.height() {
        for (i, (here, above)) in mask.row(y).iter().zip(mask.row(y - 1)).enumerate() {
            let mut changed = here ^ above;
            while changed != 0 {
                let x = i as u64 * 64 + u64::from(changed.trailing_zeros());
                starts.push(x * height + u64::from(y));
                changed &= changed - 1;
            }
        }
    }
    for x in 0..mask.width() {
        let before = x > 0 && mask.get(x - 1, mask.height() - 1);
        if mask.get(x, 0) != before {
            starts.push(u64::from(x) * height);
        }
    }
    starts.sort_unstable();
    starts.push(width * height);
    let mut last = 0;
    let run = |start: u64| (start - std::mem::replace(&mut last, start)) as u32;
    starts.into_iter().map(run).collect()
}

/// COCO's text form of run lengths: the inverse of [`runs`] (pycocotools, `rleToString`).
pub(super) fn text(runs: &[u32]) -> String {
    let mut text = String::new();
    for (i, &run) in runs.iter().enumerate() {
        let mut value = i64::from(run) - if i > 2 { i64::from(runs[i - 2]) } else { 0 };
        loop {
            let group = (value & 31) as u8;
            value >>= 5;
            let more = if group & 16 != 0 { value != -1 } else { value != 0 };
            text.push(char::from(b'0' + (group | u8::from(more) << 5)));
            if !more {
                break;
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `pycocotools.mask.encode(np.asfortranarray(mask))["counts"]` of a 7x5 mask (h = 5, w = 7) with ones at
    /// (row, column) (1, 0), (2, 0), (1, 1), (4, 6), of an empty one and of a full one.
    #[test]
    fn texts_of_pycocotools_are_read() {
        let mask = unpack(7, 5, &runs(b"123Oh00").unwrap()).unwrap();
        let ones: Vec<(u32, u32)> =
            (0..5).flat_map(|y| (0..7).map(move |x| (y, x))).filter(|&(y, x)| mask.get(x, y)).collect();
        assert_eq!(ones, [(1, 0), (1, 1), (2, 0), (4, 6)]);
        assert!(unpack(7, 5, &runs(b"S1").unwrap()).unwrap().is_empty());
        assert!(unpack(7, 5, &runs(b"0S1").unwrap()).unwrap().is_full());
        let empty = Mask::empty(7, 5);
        let full = Mask::from_fn(7, 5, |_, _| true);
        let written = [&mask, &empty, &full].map(|mask| text(&columns(mask)));
        assert_eq!(written, ["123Oh00", "S1", "0S1"]);
    }

    #[test]
    fn damaged_texts_are_refused() {
        assert_eq!(runs(b"oo"), None, "ends inside a number");
        assert_eq!(runs(b"~"), None, "not a group");
        assert_eq!(runs(b"oooooooooo1"), None, "longer than any run");
        assert_eq!((runs(b"PPPPPP0"), runs(b"PPPPPPP0")), (Some(vec![0]), None), "seven groups, and eight");
        assert_eq!(runs(b"O"), None, "negative");
        assert_eq!(unpack(2, 2, &[3]), None);
    }

    /// The same read number by number, as pycocotools does.
    fn naive(text: &[u8]) -> Option<Vec<u32>> {
        let mut runs: Vec<u32> = Vec::new();
        let mut groups = text.iter().map(|byte| byte.checked_sub(b'0').filter(|group| *group < 64)).peekable();
        while groups.peek().is_some() {
            let (mut value, mut count) = (0i64, 0);
            loop {
                let group = i64::from(groups.next()??);
                value |= (group & 31) << (5 * count);
                count += 1;
                if group & 32 == 0 {
                    value |= if group & 16 != 0 { -1 << (5 * count) } else { 0 };
                    break;
                }
                if count == 7 {
                    return None;
                }
            }
            let before = if runs.len() > 2 { i64::from(runs[runs.len() - 2]) } else { 0 };
            runs.push(u32::try_from(value + before).ok()?);
        }
        Some(runs)
    }

    proptest! {
        #[test]
        fn texts_are_read_as_number_by_number(bytes in proptest::collection::vec(b'/'..b'q', 0..24)) {
            prop_assert_eq!(runs(&bytes), naive(&bytes));
        }

        /// Of one group each, as along smooth edges, so that eight are read at once; some runs are below 0.
        #[test]
        fn texts_of_small_numbers_are_read_likewise(start in "[Qo]{2}1", bytes in proptest::collection::vec(b'0'..b'Q', 0..40)) {
            let text = [start.as_bytes(), start.as_bytes(), &bytes].concat();
            prop_assert_eq!(runs(&text), naive(&text));
        }

        #[test]
        fn backslashes_are_read_alone_and_doubled(lengths in proptest::collection::vec(prop_oneof![0u32..16, 0u32..70_000], 0..40)) {
            let text = text(&lengths);
            let mut taken = Vec::new();
            prop_assert_eq!(read_runs(text.replace('\\', "\\\\").as_bytes(), true, &mut taken), Some(()));
            prop_assert_eq!(&taken, &lengths);
            let alone = read_runs(text.as_bytes(), true, &mut taken);
            let single = text.contains('\\') && !text.contains("\\\\");
            prop_assert!(alone.is_none() || !single, "one alone is no JSON");
        }

        #[test]
        fn any_runs_survive_the_text(lengths in proptest::collection::vec(any::<u32>(), 0..20)) {
            prop_assert_eq!(runs(text(&lengths).as_bytes()), Some(lengths));
        }

        #[test]
        fn any_mask_survives_the_text(w in 1u32..140, h in 1u32..40, seed in any::<u64>()) {
            let mask = Mask::from_fn(w, h, |x, y| (seed ^ (u64::from(x / 3) * 31) ^ (u64::from(y / 2) * 7)) % 3 == 0);
            let text = text(&columns(&mask));
            prop_assert_eq!(unpack(w, h, &runs(text.as_bytes()).unwrap()).unwrap(), mask);
        }

        #[test]
        fn any_bytes_end_with_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(runs) = runs(&bytes) {
                let _ = unpack(17, 11, &runs);
            }
        }
    }
}
