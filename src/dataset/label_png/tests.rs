use super::*;
use proptest::prelude::*;

pub(in crate::dataset) fn encode(width: u32, height: u32, depth: BitDepth, colour: ColorType, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_depth(depth);
    encoder.set_color(colour);
    if colour == ColorType::Indexed {
        encoder.set_palette(vec![0; 3 << (depth as usize)]);
    }
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(data).unwrap();
    writer.finish().unwrap();
    out
}

#[test]
fn values_are_those_of_pil() {
    let read = |depth, colour, data: &[u8], width| {
        let image = LabelImage::decode(&encode(width, 1, depth, colour, data)).unwrap();
        (0..width).map(|x| image.get(x, 0)).collect::<Vec<_>>()
    };
    assert_eq!(read(BitDepth::One, ColorType::Grayscale, &[0b0110_0000], 4), [0, 1, 1, 0]);
    assert_eq!(read(BitDepth::Two, ColorType::Grayscale, &[0b0001_1011], 4), [0, 85, 170, 255]);
    assert_eq!(read(BitDepth::Four, ColorType::Grayscale, &[0x0f, 0x20], 3), [0, 255, 34]);
    assert_eq!(read(BitDepth::Two, ColorType::Indexed, &[0b0001_1011], 4), [0, 1, 2, 3]);
    assert_eq!(read(BitDepth::Four, ColorType::Indexed, &[0x0f, 0x20], 3), [0, 15, 2]);
    assert_eq!(read(BitDepth::Eight, ColorType::Grayscale, &[0, 7, 255], 3), [0, 7, 255]);
    assert_eq!(read(BitDepth::Sixteen, ColorType::Grayscale, &[1, 0, 0, 3], 2), [256, 3]);
}

/// Found by fuzzing: every row was there, but the chunk that they came in went on past the end of the file.
#[test]
fn a_chunk_that_ends_after_the_file_is_refused_by_both_readers() {
    let mut file = encode(80, 60, BitDepth::One, ColorType::Grayscale, &[0x5a; 600]);
    let idat = file.windows(4).position(|w| w == b"IDAT").unwrap();
    file[idat - 3] = 4; // length + 2^18
    assert!(LabelImage::decode(&file).unwrap_err().contains("truncated"));
    assert!(LabelMasks::decode(&file).unwrap_err().contains("truncated"));
}

#[test]
fn every_bit_depth_splits_as_it_reads() {
    for (depth, per_byte) in [(BitDepth::One, 8), (BitDepth::Two, 4), (BitDepth::Four, 2)] {
        for colour in [ColorType::Grayscale, ColorType::Indexed] {
            for width in [1u32, 7, 64, 67, 130] {
                let line = (width as usize).div_ceil(per_byte);
                let data: Vec<u8> = (0..line * 3).map(|i| (i * 89 + 31) as u8).collect();
                let file = encode(width, 3, depth, colour, &data);
                let image = LabelImage::decode(&file).unwrap();
                let split = LabelMasks::decode(&file).unwrap();
                assert_eq!(split, image.clone().into_masks());
                for (id, mask) in &split.masks {
                    assert_eq!(*mask, Mask::from_fn(width, 3, |x, y| image.get(x, y) == *id));
                }
            }
        }
    }
}

#[test]
fn colour_is_refused_with_a_remedy() {
    let fault = LabelImage::decode(&encode(1, 1, BitDepth::Eight, ColorType::Rgb, &[1, 2, 3])).unwrap_err();
    assert!(fault.contains("RGB") && fault.contains("object ids"), "{fault}");
}

#[test]
fn truncation_is_an_error_at_every_length() {
    let data: Vec<u8> = (0..64 * 48).map(|i| (i % 7) as u8).collect();
    let whole = encode(64, 48, BitDepth::Eight, ColorType::Grayscale, &data);
    let image_ends = whole.len() - 12 - 4;
    for length in 0..image_ends - 8 {
        assert!(LabelImage::decode(&whole[..length]).is_err(), "accepted {length} of {} bytes", whole.len());
        assert!(LabelMasks::decode(&whole[..length]).is_err(), "accepted {length} of {} bytes", whole.len());
    }
}

#[test]
fn a_forged_header_is_refused_before_allocation() {
    let mut forged = encode(8, 8, BitDepth::Eight, ColorType::Grayscale, &[0; 64]);
    forged[16..24].copy_from_slice(&[0, 0, 0x3f, 0xff, 0, 0, 0x1f, 0xff]);
    let crc = crc32(&forged[12..29]);
    forged[29..33].copy_from_slice(&crc.to_be_bytes());
    let fault = LabelImage::decode(&forged).unwrap_err();
    assert!(fault.contains("16383x8191") && fault.contains("cannot hold"), "{fault}");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 })
    })
}

proptest! {
    #[test]
    fn splitting_by_value_agrees_with_a_look_at_each_pixel(
        width in 1u32..150, height in 1u32..5, ids in prop::collection::vec(any::<u8>(), 1..6), seed in any::<u64>()
    ) {
        let mut state = seed | 1;
        let mut value = 0u8;
        let data: Vec<u8> = (0..width * height).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if state >> 60 == 0 { value = ids[(state >> 33) as usize % ids.len()]; }
            value
        }).collect();
        let file = encode(width, height, BitDepth::Eight, ColorType::Indexed, &data);
        let image = LabelImage::decode(&file).unwrap();
        let wide: Vec<u8> = data.iter().flat_map(|&v| u16::from(v).to_be_bytes()).collect();
        let wide = encode(width, height, BitDepth::Sixteen, ColorType::Grayscale, &wide);
        let LabelMasks { masks, background, .. } = image.clone().into_masks();
        let direct = LabelMasks::decode(&file).unwrap();
        prop_assert_eq!(&masks, &direct.masks);
        prop_assert_eq!(background, direct.background);
        prop_assert_eq!(background, data.contains(&0));
        prop_assert_eq!(&direct, &LabelMasks::decode(&wide).unwrap());
        let mut present: Vec<u16> = data.iter().map(|&v| v.into()).filter(|&v| v != 0).collect();
        present.sort_unstable();
        present.dedup();
        prop_assert_eq!(masks.iter().map(|(id, _)| *id).collect::<Vec<_>>(), present);
        for (id, mask) in &masks {
            prop_assert_eq!(mask, &Mask::from_fn(width, height, |x, y| image.get(x, y) == *id));
        }
        let (all, values) = direct.into_foreground();
        prop_assert_eq!(values, masks.len() + usize::from(background));
        prop_assert_eq!(all, Mask::from_fn(width, height, |x, y| image.get(x, y) > 0));
    }
}
