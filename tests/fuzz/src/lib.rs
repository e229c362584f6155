//! What every fuzz target has: one judge, and an allocator that ends the run when a small input takes much memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use agent_tests::hostile;
pub use libfuzzer_sys;

/// Most bytes that may be allocated at once: inputs are a few kilobytes. The largest that is meant is a chunk of a drive
/// (`agent_drive::limits::MAX_CHUNK_BYTES`) in a list that has doubled.
const MOST_BYTES: usize = 160 << 20;

/// Counts what is allocated; libFuzzer's own `-malloc_limit_mb` needs a sanitizer.
struct Meter {
    live: AtomicUsize,
}

#[global_allocator]
static METER: Meter = Meter { live: AtomicUsize::new(0) };

impl Meter {
    fn take(&self, bytes: usize) {
        let live = self.live.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if live > MOST_BYTES {
            // Nothing may be allocated here.
            let mut text = [0; 64];
            let mut left = &mut text[..];
            let _ = writeln!(left, "OUT OF MEMORY: {bytes} more bytes, {live} in all");
            let _ = std::io::stderr().write_all(&text);
            std::process::abort();
        }
    }

    fn give(&self, bytes: usize) {
        self.live.fetch_sub(bytes, Ordering::Relaxed);
    }
}

// SAFETY: everything is handed on to the system's allocator; counting touches no memory of the caller.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.take(layout.size());
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.take(layout.size());
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.give(layout.size());
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.take(size);
        self.give(layout.size());
        // SAFETY: the caller's promise, handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Puts the seeds of a target into the folder that `FUZZ_SEEDS` names, if it does.
///
/// # Panics
/// When they cannot be written.
pub fn write_seeds(seeds: fn() -> Vec<Vec<u8>>) {
    let Some(folder) = std::env::var_os("FUZZ_SEEDS") else { return };
    for (i, seed) in seeds().iter().enumerate() {
        std::fs::write(std::path::Path::new(&folder).join(format!("seed-{i:02}")), seed).expect("a writable folder");
    }
}

/// Lets the product catch the panics of its libraries, as it does: libfuzzer-sys ends the process at the first word of any. A panic
/// of our own code still does.
pub fn let_panics_of_libraries_be_caught() {
    let ends_the_process = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let of_a_library = |file: &str| ["/registry/", "/rustc/", "/library/"].iter().any(|part| file.contains(part));
        if !panic.location().is_some_and(|place| of_a_library(place.file())) {
            ends_the_process(panic);
        }
    }));
}

/// Makes a fuzz target of a judge; `caught` where the product catches panics of its libraries.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        $crate::target!($name, ());
    };
    ($name:ident, caught) => {
        $crate::target!($name, $crate::let_panics_of_libraries_be_caught());
    };
    ($name:ident, $before:expr) => {
        $crate::libfuzzer_sys::fuzz_target!(
            init: {
                $crate::write_seeds($crate::hostile::$name::seeds);
                $before;
            },
            |data: &[u8]| $crate::hostile::$name::judge(data)
        );
    };
}
