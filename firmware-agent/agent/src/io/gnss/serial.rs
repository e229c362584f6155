//! A serial line for reading: raw, at a rate, each read at most 100 ms.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, isatty, tcgetattr, tcsetattr};

/// Opens the line without becoming its session's terminal.
///
/// # Errors
/// The device is not there, is no serial line, or takes no such rate; the text names it.
pub(super) fn open(device: &Path, baud: u32) -> std::io::Result<File> {
    let told = |e: std::io::Error| std::io::Error::new(e.kind(), format!("{}: {e}", device.display()));
    // Non-blocking while opening: a line without a carrier would wait for one.
    let flags = rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let line = OpenOptions::new().read(true).write(true).custom_flags(flags).open(device).map_err(told)?;
    if !isatty(&line) {
        return Err(std::io::Error::other(format!("{} is no serial line", device.display())));
    }
    let mut settings = tcgetattr(&line).map_err(|e| told(e.into()))?;
    settings.make_raw();
    settings.local_modes -= LocalModes::ECHO;
    settings.set_speed(baud).map_err(|e| told(e.into()))?;
    settings.special_codes[SpecialCodeIndex::VMIN] = 0;
    settings.special_codes[SpecialCodeIndex::VTIME] = 1;
    tcsetattr(&line, OptionalActions::Now, &settings).map_err(|e| told(e.into()))?;
    let flags = rustix::fs::fcntl_getfl(&line)?;
    rustix::fs::fcntl_setfl(&line, flags - rustix::fs::OFlags::NONBLOCK)?;
    Ok(line)
}
