//! How is content named? SHA-256 as text, the one form in manifests, keys and records.

use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::files;

/// Bytes as lower-case hexadecimal text.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 as lower-case hexadecimal text.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Size and SHA-256 of a plain file, which may be larger than memory.
///
/// # Errors
/// It is no plain file, or cannot be read.
pub(crate) fn sha256_of(path: &Path) -> io::Result<(u64, String)> {
    let mut file = Hashed::new(files::plain(path)?);
    let bytes = io::copy(&mut file, &mut io::sink())?;
    Ok((bytes, file.digest()))
}

/// Digests what is read through it.
pub(crate) struct Hashed<R> {
    inner: R,
    hasher: Sha256,
}

impl<R> Hashed<R> {
    /// Nothing is read yet.
    pub(crate) fn new(inner: R) -> Self {
        Hashed { inner, hasher: Sha256::new() }
    }

    /// Of what was read so far, hexadecimal.
    pub(crate) fn digest(self) -> String {
        hex(&self.hasher.finalize())
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}
