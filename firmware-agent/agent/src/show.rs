//! What people see: lines on stderr, and figures of this process.

/// One line on stderr. A closed stderr leaves nobody to tell, so the error is dropped.
macro_rules! say {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr().lock(), $($arg)*);
    }};
}
/// One line on stdout, for results; ends the command by an error when nobody reads any more.
macro_rules! put {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        writeln!(std::io::stdout().lock(), $($arg)*)
    }};
}
pub(crate) use {put, say};

/// A figure of `/proc/self/status`, bytes; `None` where there is no such file.
fn status_bytes(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Largest resident memory so far, bytes.
pub(crate) fn peak_resident_bytes() -> Option<u64> {
    status_bytes("VmHWM")
}
