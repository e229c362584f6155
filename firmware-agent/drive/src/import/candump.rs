//! Candump logs (`candump -l`): `(seconds) interface ID#DATA`, one frame a line; `ID#R` a remote request, `ID##FDATA`
//! CAN FD with flags `F`. Identifiers of three digits are 11 bits, of eight 29 bits. The number at the end of the
//! interface's name is the bus. Bad lines are counted and the first ones named with their line numbers.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use agent_core::samples::CanFrame;
use agent_core::time::MonoTime;

use super::{ImportError, Item, Notes, Source, io_error, open_text, read_line};

pub(crate) struct Candump {
    path: PathBuf,
    input: Box<dyn BufRead>,
    line: Vec<u8>,
    number: u64,
    notes: Notes,
}

impl Candump {
    pub(crate) fn open(path: &Path) -> Result<Self, ImportError> {
        let input = open_text(path)?;
        Ok(Self { path: path.to_owned(), input, line: Vec::new(), number: 0, notes: Notes::default() })
    }
}

impl Source for Candump {
    fn next(&mut self) -> Result<Option<Item>, ImportError> {
        loop {
            match read_line(&mut *self.input, &mut self.line) {
                Ok(None) => return Ok(None),
                Ok(Some(_)) => {}
                // A log cut in the middle of its gzip stream: what came before it counts.
                Err(e)
                    if e.kind() == std::io::ErrorKind::UnexpectedEof
                        || e.kind() == std::io::ErrorKind::InvalidInput =>
                {
                    self.notes.skip(|| format!("the gzip stream is cut or damaged behind line {}: {e}", self.number));
                    return Ok(None);
                }
                Err(e) => return Err(io_error(&self.path)(e)),
            }
            self.number += 1;
            let text = self.line.trim_ascii();
            if text.is_empty() || text.starts_with(b"#") {
                continue;
            }
            match parse(text) {
                Ok(frame) => return Ok(Some(Item::Can(frame))),
                Err(reason) => self.notes.skip(|| format!("line {}: {reason}", self.number)),
            }
        }
    }

    fn notes(&mut self) -> &mut Notes {
        &mut self.notes
    }
}

/// Parses one line.
fn parse(line: &[u8]) -> Result<CanFrame, &'static str> {
    let line = std::str::from_utf8(line).map_err(|_| "not text")?;
    let mut parts = line.split_ascii_whitespace();
    let stamp = parts.next().and_then(|s| s.strip_prefix('(')).and_then(|s| s.strip_suffix(')'));
    let t = stamp.and_then(time).ok_or("no time in parentheses at its start")?;
    let interface = parts.next().ok_or("no interface")?;
    let (id, rest) = parts.next().and_then(|f| f.split_once('#')).ok_or("no ID#DATA")?;
    let extended = match id.len() {
        3 => false,
        8 => true,
        _ => return Err("an identifier of neither 3 nor 8 digits"),
    };
    // from_str_radix alone would take a plus sign.
    let plain = if id.bytes().all(|b| b.is_ascii_hexdigit()) { id } else { "" };
    let id = u32::from_str_radix(plain, 16).map_err(|_| "an identifier that is not hexadecimal")?;
    if extended && id > 0x1FFF_FFFF {
        return Err("an error frame or an identifier above 29 bits");
    }
    if !extended && id > 0x7FF {
        return Err("an identifier above 11 bits in 3 digits");
    }
    let digits = interface.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let bus = interface.get(digits..).and_then(|d| d.parse().ok()).unwrap_or(0);
    let mut frame = CanFrame { t, bus, id, extended, fd: false, remote: false, len: 0, data: [0; 64] };
    let data = match rest.strip_prefix('#') {
        Some(fd) => {
            frame.fd = true;
            fd.get(1..).ok_or("CAN FD without its flags")?
        }
        None if rest.starts_with(['R', 'r']) => {
            frame.remote = true;
            let dlc = rest.get(1..2).map_or(Ok(0), str::parse).map_err(|_| "a remote request with a bad length")?;
            frame.len = u8::min(dlc, 8);
            return Ok(frame);
        }
        None => rest,
    };
    let most = if frame.fd { 64 } else { 8 };
    let mut digits = data.bytes().filter(|b| *b != b'.');
    while let Some(high) = digits.next() {
        let low = digits.next().ok_or("an odd number of data digits")?;
        let byte = hex(high).zip(hex(low)).map(|(h, l)| h << 4 | l).ok_or("data that are not hexadecimal")?;
        if frame.len >= most {
            return Err(if frame.fd { "more than 64 bytes" } else { "more than 8 bytes" });
        }
        if let Some(place) = frame.data.get_mut(usize::from(frame.len)) {
            *place = byte;
        }
        frame.len += 1;
    }
    Ok(frame)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|d| d as u8)
}

/// Seconds with decimals to nanoseconds, without the rounding of a float: Unix times need all 64 bits.
fn time(text: &str) -> Option<MonoTime> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let s: u64 = whole.parse().ok()?;
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let ns: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scale = 10u64.pow(9 - fraction.len() as u32);
    s.checked_mul(1_000_000_000)?.checked_add(ns * scale).map(MonoTime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_forms_of_a_line() {
        let f = parse(b"(1700000000.123456) can0 260#08FF").unwrap();
        assert_eq!(
            (f.t.0, f.bus, f.id, f.extended, f.payload()),
            (1_700_000_000_123_456_000, 0, 0x260, false, &[8, 255][..])
        );
        let f = parse(b"(0.5) vcan12 18FEF100#").unwrap();
        assert_eq!((f.t.0, f.bus, f.id, f.extended, f.len), (500_000_000, 12, 0x18FE_F100, true, 0));
        let f = parse(b"(1) can1 123#R4").unwrap();
        assert!(f.remote && f.len == 4);
        let f = parse(b"(1) can1 123##1000102030405060708090A0B").unwrap();
        assert!(f.fd && f.payload() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    }

    #[test]
    fn bad_lines_say_what_is_wrong() {
        for (line, reason) in [
            ("x", "no time in parentheses at its start"),
            ("(1.5e3) can0 123#00", "no time in parentheses at its start"),
            ("(1.5)", "no interface"),
            ("(1.5) can0 123", "no ID#DATA"),
            ("(1.5) can0 1234#00", "an identifier of neither 3 nor 8 digits"),
            ("(1.5) can0 XYZ#00", "an identifier that is not hexadecimal"),
            ("(1.5) can0 +12#00", "an identifier that is not hexadecimal"),
            ("(1.5) can0 FFF#00", "an identifier above 11 bits in 3 digits"),
            ("(1.5) can0 20000080#00", "an error frame or an identifier above 29 bits"),
            ("(1.5) can0 123#0", "an odd number of data digits"),
            ("(1.5) can0 123#0G", "data that are not hexadecimal"),
            ("(1.5) can0 123#001122334455667788", "more than 8 bytes"),
            ("(1.5) can0 123##", "CAN FD without its flags"),
        ] {
            assert_eq!(parse(line.as_bytes()).unwrap_err(), reason, "{line}");
        }
    }
}
