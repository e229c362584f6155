//! Probe files: what tract answers to an input that anybody can make, so that a network is held to tract's word where there is no
//! tract, or where it need not be asked again (it takes most of a start's time and memory).
//!
//! Text beside the ONNX file, `trigger.probe.txt` for `trigger.onnx`: `sha256` and the hash of the ONNX file, then numbers, one a line.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::detector::hex;
use crate::limits::MAX_PROBE_BYTES;

/// What a probe file says, nothing where there is none, or what is wrong with it.
pub(crate) type Known = Result<Option<Vec<f32>>, String>;

/// That there is none, in words.
pub(crate) fn missing(onnx: &Path) -> String {
    format!("there is no {} (made by `firmware-agent models probe`)", beside(onnx).display())
}

/// Where the probe file of a network (an ONNX file) is: beside it, `X.probe.txt` for `X.onnx`.
#[must_use]
pub fn beside(onnx: &Path) -> PathBuf {
    onnx.with_extension("probe.txt")
}

/// The text of a probe file.
pub(crate) fn text(sha256: &[u8; 32], values: &[f32]) -> String {
    values.iter().fold(format!("sha256 {}\n", hex(sha256)), |mut text, v| {
        let _ = writeln!(text, "{v}");
        text
    })
}

/// What tract answered, of a text about the network of this hash.
///
/// # Errors
/// What is wrong with the text.
pub(crate) fn parse(text: &str, sha256: &[u8; 32]) -> Result<Vec<f32>, String> {
    let mut lines = text.lines();
    let found = lines.next().and_then(|l| l.strip_prefix("sha256 ")).ok_or("line 1: not `sha256` and a hash")?;
    if !found.eq_ignore_ascii_case(&hex(sha256)) {
        return Err("line 1: it is about another network".to_owned());
    }
    let number = |(i, line): (usize, &str)| {
        line.trim()
            .parse::<f32>()
            .map_err(|_| format!("line {}: {:?} is no number", i + 2, line.get(..40).unwrap_or(line)))
    };
    lines.enumerate().map(number).collect()
}

/// What the file beside a network says; nothing if there is none.
///
/// # Errors
/// The file, and what is wrong with it.
pub(crate) fn read(onnx: &Path, sha256: &[u8; 32]) -> Known {
    let path = beside(onnx);
    let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(wrong(&e)),
    };
    let mut text = String::new();
    let bytes = file.take(MAX_PROBE_BYTES + 1).read_to_string(&mut text).map_err(|e| wrong(&e))?;
    if bytes as u64 > MAX_PROBE_BYTES {
        return Err(wrong(&format!("more than {MAX_PROBE_BYTES} bytes")));
    }
    parse(&text, sha256).map(Some).map_err(|why| wrong(&why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_file_comes_back_and_a_broken_one_names_its_line() {
        let values = [0.25, -1e-7, 123.456_79, f32::MAX];
        assert_eq!(parse(&text(&[7; 32], &values), &[7; 32]).unwrap(), values);
        assert!(parse(&text(&[7; 32], &values), &[8; 32]).unwrap_err().contains("another network"));
        assert!(parse("", &[7; 32]).unwrap_err().contains("line 1"));
        let broken = text(&[7; 32], &values).replace("-0.0000001", "ten");
        assert_eq!(parse(&broken, &[7; 32]).unwrap_err(), "line 3: \"ten\" is no number");
        let folder = tempfile::tempdir().unwrap();
        let onnx = folder.path().join("a.onnx");
        assert_eq!(read(&onnx, &[7; 32]), Ok(None));
        std::fs::write(beside(&onnx), [0xff, 0xfe]).unwrap();
        assert!(read(&onnx, &[7; 32]).unwrap_err().contains("a.probe.txt: "));
        std::fs::write(beside(&onnx), "0\n".repeat(MAX_PROBE_BYTES as usize)).unwrap();
        assert!(read(&onnx, &[7; 32]).unwrap_err().ends_with("more than 262144 bytes"));
        std::fs::write(beside(&onnx), text(&[7; 32], &values)).unwrap();
        assert_eq!(read(&onnx, &[7; 32]), Ok(Some(values.to_vec())));
    }
}
