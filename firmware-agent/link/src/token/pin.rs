//! The PIN of a token: a small file that its owner alone may read.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use cryptoki::types::AuthPin;
use secrecy::zeroize::Zeroizing;

use super::TokenError;
use crate::limits::PIN_BYTES;

/// Reads the PIN in the first and only line of a file.
///
/// # Errors
/// Not there, not a file, open to others than its owner, empty, too long, or more than a line of text.
pub(super) fn read(path: &Path) -> Result<AuthPin, TokenError> {
    let refused = |why: &str| TokenError::PinFile { file: path.to_owned(), why: why.to_owned() };
    let system = |error: std::io::Error| refused(&error.to_string());
    // Before it is opened: a pipe would be waited for.
    if !fs::metadata(path).map_err(system)?.is_file() {
        return Err(refused("it is not a file"));
    }
    let file = File::open(path).map_err(system)?;
    if file.metadata().map_err(system)?.mode() & 0o077 != 0 {
        return Err(refused("others than its owner can read it; `chmod 600` it"));
    }
    let mut text = Zeroizing::new(String::with_capacity(PIN_BYTES + 3));
    file.take(PIN_BYTES as u64 + 3).read_to_string(&mut text).map_err(|_| refused("it cannot be read as text"))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(refused("it is empty"));
    }
    if line.len() > PIN_BYTES {
        return Err(refused("it is longer than any PIN"));
    }
    if line.chars().any(char::is_control) {
        return Err(refused("it holds more than one line"));
    }
    Ok(AuthPin::new(line.into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use cryptoki::types::AuthPin;

    use super::*;

    fn exposed(pin: &AuthPin) -> String {
        use secrecy::ExposeSecret as _;
        pin.expose_secret().to_owned()
    }

    #[test]
    fn a_pin_is_one_line_that_nobody_else_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pin");
        let with = |text: &[u8], mode: u32| {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            read(&file)
        };
        for good in [&b"12 34"[..], b"12 34\n", b"12 34\r\n"] {
            assert_eq!(exposed(&with(good, 0o600).unwrap()), "12 34");
        }
        for (text, mode, words) in [
            (&b"1234\n"[..], 0o640, "others than its owner"),
            (b"1234\n", 0o604, "others than its owner"),
            (b"\n", 0o600, "empty"),
            (b"1234\n5\n", 0o600, "more than one line"),
            (b"\xFF\xFE", 0o600, "as text"),
            (&[b'1'; PIN_BYTES + 1], 0o600, "longer"),
        ] {
            let error = with(text, mode).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("1234"), "{words}: {error}");
        }
        assert!(read(folder.path()).unwrap_err().to_string().contains("not a file"));
        assert!(read(&folder.path().join("none")).unwrap_err().to_string().contains("No such file"));
    }
}
