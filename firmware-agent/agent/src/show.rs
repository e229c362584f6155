//! What people see: lines on stderr, and figures of this process.

/// One line on stderr. A closed stderr leaves nobody to tell, so the error is dropped.
///
/// The line is made before stderr is taken: an argument may take long, and may say something itself.
macro_rules! say {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let line = format!($($arg)*);
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }};
}
/// One line on stdout, for results; ends the command by an error when nobody reads any more.
macro_rules! put {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let line = format!($($arg)*);
        writeln!(std::io::stdout().lock(), "{line}")
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

#[cfg(test)]
mod tests {
    /// A thread's last words were once asked for inside the words of another: neither came, and the daemon stood still.
    #[test]
    fn an_argument_may_wait_for_somebody_who_says_something() {
        say!("{}", std::thread::spawn(|| say!("inside")).join().is_ok());
    }
}
