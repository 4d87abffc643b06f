//! What decoding a JPEG costs with each well-kept crate, on one core: decoders take turns on the same bytes in memory, and
//! the medians of the thread's CPU time and of wall time are printed, with how far each one's pixels are from libjpeg-turbo's.
//! `zune-jpeg, as jetbench` has the options of the program's frame reader.
//!
//! `cargo run --release --manifest-path benches/jpeg/Cargo.toml -- FILE.jpg [ROUNDS]`

use std::time::Instant;

use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

fn cpu() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the struct it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Reads one file, whose pixels go into a buffer that is used again.
type Decode = Box<dyn FnMut(&[u8], &mut Vec<u8>)>;

fn zune(bytes: &[u8], pixels: &mut Vec<u8>) {
    let options = DecoderOptions::default().set_strict_mode(true).jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().expect("a JPEG");
    pixels.resize(decoder.output_buffer_size().expect("headers are read"), 0);
    decoder.decode_into(pixels).expect("a JPEG");
}

fn turbo() -> Decode {
    let mut decoder = turbojpeg::Decompressor::new().expect("libturbojpeg");
    Box::new(move |bytes, pixels| {
        let header = decoder.read_header(bytes).expect("a JPEG");
        let pitch = header.width * 3;
        pixels.resize(pitch * header.height, 0);
        let image = turbojpeg::Image {
            pixels: pixels.as_mut_slice(),
            width: header.width,
            pitch,
            height: header.height,
            format: turbojpeg::PixelFormat::RGB,
        };
        decoder.decompress(bytes, image).expect("a JPEG");
    })
}

fn main() {
    let mut args = std::env::args().skip(1);
    let file = args.next().expect("a JPEG file");
    let rounds = args.next().and_then(|n| n.parse().ok()).unwrap_or(40);
    let bytes = std::fs::read(&file).expect("a readable file");
    let mut decoders: Vec<(&str, Decode)> = vec![
        ("turbojpeg (libjpeg-turbo)", turbo()),
        ("zune-jpeg, as jetbench", Box::new(zune)),
        (
            "image",
            Box::new(|bytes, pixels| {
                let image = image::load_from_memory_with_format(bytes, image::ImageFormat::Jpeg).expect("a JPEG");
                *pixels = image.into_rgb8().into_raw();
            }),
        ),
        (
            "jpeg-decoder",
            Box::new(|bytes, pixels| *pixels = jpeg_decoder::Decoder::new(bytes).decode().expect("a JPEG")),
        ),
    ];
    let mut times = vec![[const { Vec::new() }; 2]; decoders.len()];
    let mut pixels = vec![Vec::new(); decoders.len()];
    for round in 0..rounds + 2 {
        for (((_, decode), times), pixels) in decoders.iter_mut().zip(&mut times).zip(&mut pixels) {
            let (started, before) = (Instant::now(), cpu());
            decode(&bytes, pixels);
            let (used, wall) = (cpu() - before, started.elapsed().as_secs_f64() * 1e3);
            if round >= 2 {
                times[0].push(used);
                times[1].push(wall);
            }
        }
    }
    println!("{file}: {} bytes, {} samples, {rounds} rounds, medians", bytes.len(), pixels[0].len());
    for (((name, _), times), own) in decoders.iter().zip(times).zip(&pixels) {
        let [used, wall] = times.map(median);
        let apart = || own.iter().zip(&pixels[0]).map(|(a, b)| a.abs_diff(*b));
        let (most, other) = (apart().max().unwrap_or(0), apart().filter(|d| *d > 0).count());
        let share = 100.0 * other as f64 / own.len() as f64;
        println!("{name}: CPU {used:.2} ms, wall {wall:.2} ms; samples unlike libjpeg-turbo's: {share:.2} %, by {most} at most");
    }
}
