//! Is a file here, or only Git LFS's pointer to it? A clone without `git lfs pull` has pointers where frames, masks and
//! graphs should be.

/// What is said of a pointer.
pub const LFS_POINTER: &str = "a Git LFS pointer, not the file itself; fetch it with `git lfs pull`";

/// Does a file that begins so hold a Git LFS pointer?
pub fn is_lfs_pointer(start: &[u8]) -> bool {
    start.starts_with(b"version https://git-lfs.github.com/spec/")
}
