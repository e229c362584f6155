//! What loading a model leaves behind in memory, given back to the system.
//!
//! Parsing and optimising a model of 1 MB takes some 15 MB of heap and 15 MB of program pages for a second, none of which
//! is needed again. glibc keeps freed heap for later, and its threshold above which a block has a mapping of its own
//! grows with each such block that is freed, so that the leftovers of loading stay between what lives on. So: a fixed
//! threshold while loading, then the free heap is trimmed, and the pages of the program's own file are let go, which come
//! back from the page cache when they are run or read again.
//!
//! The same heap is given back after other work that comes in bursts ([`give_back_heap`]): what an event leaves would stay between what
//! lives on, a little more with each for hours.
//!
//! It changes settings of the whole process's allocator, at no other time than loading. It touches no data, never fails,
//! and does nothing where the system is not Linux with glibc.

/// Blocks from this size have a mapping of their own while a model is loaded, bytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const WHILE_LOADING: i32 = 64 << 10;
/// The same afterwards: a piece of evidence or a chunk of a file has a mapping of its own, which goes with it; what is allocated
/// many times a second is smaller.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const AFTERWARDS: i32 = 128 << 10;
/// Heaps of the allocator for all threads together. Each keeps what its busiest moment took, and no thread allocates often.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS: i32 = 2;

/// Gives free heap back to the system: a matter of a millisecond, in which other threads wait when they allocate.
pub fn give_back_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    linux::trim();
}

/// Loads a model, and gives back what was only needed for that.
pub(crate) fn loading<T>(load: impl FnOnce() -> T) -> T {
    // Thousands of files a second: the code would be read back from the page cache for each.
    if cfg!(fuzzing) {
        return load();
    }
    before_load();
    let loaded = load();
    after_load();
    loaded
}

fn before_load() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        linux::set_heaps(HEAPS);
        linux::set_mmap_threshold(WHILE_LOADING);
    }
}

fn after_load() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        linux::set_mmap_threshold(AFTERWARDS);
        linux::trim();
        linux::forget_program();
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "the allocator's settings and the advice on code pages have no safe interface")]
mod linux {
    use std::fs;

    /// Lines of the list of mappings that are looked at: some twenty for each.
    const MAX_LINES: usize = 1 << 16;

    pub(super) fn set_mmap_threshold(bytes: i32) {
        // SAFETY: mallopt takes two integers and locks the allocator itself; a refusal changes nothing.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, bytes) };
    }

    pub(super) fn set_heaps(most: i32) {
        // SAFETY: as above.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, most) };
    }

    pub(super) fn trim() {
        // SAFETY: gives only free memory back and locks the allocator itself.
        unsafe { libc::malloc_trim(0) };
    }

    /// Lets go of the pages of this program's own file: code, constants and tables that are only read while it starts.
    pub(super) fn forget_program() {
        let Ok(program) = fs::read_link("/proc/self/exe") else { return };
        let (Some(program), Ok(maps)) = (program.to_str(), fs::read_to_string("/proc/self/smaps")) else { return };
        unwritten(&maps, program, |start, end| {
            // SAFETY: the range is one whole mapping of the program's file, private and not writable, of which no page differs from
            // the file (none is anonymous or swapped out): each one that is run or read again, by any thread, is the same as before.
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
        });
    }

    /// Gives the ranges of `/proc/self/smaps` that map this program's file, that nobody can write to and nobody has written to (what
    /// the linker relocated is read-only as well, but has pages of its own).
    pub(super) fn unwritten(maps: &str, program: &str, mut give: impl FnMut(usize, usize)) {
        let mut range = None;
        for line in maps.lines().take(MAX_LINES) {
            match line.split_once(':') {
                // Pages of its own may have been swapped out, and count as none then.
                Some(("Anonymous" | "Swap", pages)) if pages.trim() != "0 kB" => range = None,
                Some(("Swap", _)) => {
                    if let Some((start, end)) = range.take() {
                        give(start, end);
                    }
                }
                Some((name, _)) if !name.contains(' ') => {}
                _ => range = of_program(line, program),
            }
        }
    }

    /// The range of the first line of a mapping, if it is of this program and not writable.
    fn of_program(line: &str, program: &str) -> Option<(usize, usize)> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let (rights, path) = (words.next()?, words.nth(3)?);
        let range = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        (matches!(rights, "r-xp" | "r--p") && path == program && range.0 < range.1).then_some(range)
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::linux::unwritten;

    #[test]
    fn only_whole_mappings_of_the_program_that_nobody_wrote_to_are_let_go() {
        let swapped = |head: &str, anonymous: &str, swap: &str| {
            let (mut all, after) =
                (Vec::new(), "4000-5000 rw-p 00001000 fe:00 42 /bin/agent\nAnonymous: 0 kB\nSwap: 0 kB\n");
            let maps =
                format!("{head}\nSize:  8 kB\nAnonymous:   {anonymous}\nSwap:   {swap}\nVmFlags: rd ex\n{after}");
            unwritten(&maps, "/bin/agent", |start, end| all.push((start, end)));
            all
        };
        let given = |head: &str, anonymous: &str| swapped(head, anonymous, "0 kB");
        let line = |rights: &str, path: &str| format!("1000-3000 {rights} 00001000 fe:00 42     {path}");
        assert_eq!(given(&line("r-xp", "/bin/agent"), "0 kB"), [(0x1000, 0x3000)]);
        assert_eq!(given(&line("r--p", "/bin/agent"), "0 kB"), [(0x1000, 0x3000)]);
        assert_eq!(given(&line("r--p", "/bin/agent"), "4 kB"), [], "relocated");
        assert_eq!(swapped(&line("r--p", "/bin/agent"), "0 kB", "4 kB"), [], "relocated, and swapped out since");
        for (rights, path) in
            [("rwxp", "/bin/agent"), ("rw-p", "/bin/agent"), ("r-xs", "/bin/agent"), ("r-xp", "/x.so")]
        {
            assert_eq!(given(&line(rights, path), "0 kB"), [], "{rights} {path}");
        }
        for broken in
            ["", "x", "1000 r-xp 0 0 0 /bin/agent", "3000-1000 r-xp 0 0:0 1 /bin/agent", "zz-1 r-xp 0 0 0 /bin/agent"]
        {
            assert_eq!(given(broken, "0 kB"), [], "{broken:?}");
        }
        super::after_load(); // and the program still runs
        assert_eq!(given(&line("r-xp", "/bin/agent"), "0 kB"), [(0x1000, 0x3000)]);
    }
}
