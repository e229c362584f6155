//! Bytes to lines, bounded.

/// Longest line: gpsd's list of satellites has a few thousand bytes, an NMEA sentence 82.
const MOST: usize = 16 << 10;

/// Collects a line. The buffer is made once.
#[derive(Debug)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    over: bool,
}

/// What ended with a line's end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A line without its end; not UTF-8 means noise, which no checksum will pass, so it reads as an empty one.
    Whole(&'a str),
    /// It had more bytes than any line has.
    TooLong,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::with_capacity(MOST), over: false }
    }

    /// The line that this byte ends, if it does.
    pub(super) fn push(&mut self, byte: u8) -> Option<Line<'_>> {
        // The line before was handed out until now.
        if self.bytes.last() == Some(&b'\n') {
            self.bytes.clear();
        }
        if byte != b'\n' {
            if self.bytes.len() + 1 < MOST {
                self.bytes.push(byte);
            } else {
                self.over = true;
            }
            return None;
        }
        self.bytes.push(byte);
        if std::mem::take(&mut self.over) {
            return Some(Line::TooLong);
        }
        Some(Line::Whole(std::str::from_utf8(&self.bytes).unwrap_or("").trim()))
    }
}
