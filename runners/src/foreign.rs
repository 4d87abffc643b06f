//! How do graphs run that other people exported?

pub mod sam2_image;
pub mod sam2export;
