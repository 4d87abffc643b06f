//! Mask files: no panic, no unbounded allocation, and both ways of reading agree.
#![no_main]

use jetbench::dataset::{LabelImage, LabelMasks};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let image = LabelImage::decode(data);
    let masks = LabelMasks::decode(data);
    match (image, masks) {
        (Ok(image), Ok(masks)) => assert_eq!(image.into_masks(), masks),
        (Err(_), Err(_)) => {}
        (a, b) => panic!("one reader accepts what the other refuses: {:?} {:?}", a.err(), b.err()),
    }
});
