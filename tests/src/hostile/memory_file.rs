//! A file in memory with a path, for functions of the product that open what they read.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};

/// One file; made once and filled again and again, because making one costs more than most judges.
pub(super) struct MemoryFile(File);

impl MemoryFile {
    pub(super) fn new() -> Self {
        Self(memfd_create("hostile", MemfdFlags::CLOEXEC).expect("memory has files").into())
    }

    /// Its contents from now on.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.0
            .set_len(0)
            .and_then(|()| self.0.rewind())
            .and_then(|()| self.0.write_all(bytes))
            .expect("memory is writable");
    }

    /// Where the product finds it.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}
