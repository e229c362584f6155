//! The manifest of a model file to fetch: where it is, how large, its hash, and the licence that one accepts with it.
//!
//! ```toml
//! file = "student.gguf"
//! url = "https://host/path/student.gguf"   # https, a path or file://; http only to this machine
//! size = 1234
//! sha256 = "64 hexadecimal digits"
//! [licence]
//! name = "Apache-2.0"
//! url = "https://host/LICENSE"
//! ```
//! Unknown keys are refused, and errors name line and column. Reads a file; fetches nothing.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use crate::exit::bad_input;

/// Largest manifest, bytes.
const MAX_MANIFEST_BYTES: u64 = 64 << 10;
/// Largest file that is fetched: four times a 7B student of 16 bits.
const MAX_FILE_BYTES: u64 = 64 << 30;
/// Longest text in it, bytes.
const MAX_TEXT_BYTES: usize = 2_048;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    file: Spanned<String>,
    url: Spanned<String>,
    size: Spanned<u64>,
    sha256: Spanned<String>,
    licence: RawLicence,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLicence {
    name: Spanned<String>,
    url: Spanned<String>,
}

/// Where a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On a server; `secure` unless it is this machine.
    Remote {
        /// The whole URL.
        url: String,
        /// With https.
        secure: bool,
    },
    /// On this machine's disk.
    File(PathBuf),
}

/// A manifest, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Bare name of the file.
    pub(super) file: String,
    /// Where it is.
    pub(super) place: Place,
    /// Its size, bytes.
    pub(super) size: u64,
    /// Its SHA-256, lower-case hexadecimal.
    pub(super) sha256: String,
    /// Name of its licence.
    pub(super) licence: String,
    /// Where the licence's text is.
    pub(super) licence_url: String,
}

impl Manifest {
    /// Reads and checks a manifest.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let bytes = std::fs::metadata(path).map_err(|e| bad_input(format!("{shown}: {e}")))?.len();
        if bytes > MAX_MANIFEST_BYTES {
            return Err(bad_input(format!("{shown}: {bytes} bytes, a manifest has at most {MAX_MANIFEST_BYTES}")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| bad_input(format!("{shown}: {e}")))?;
        let raw: Raw = toml::from_str(&text).map_err(|e| bad_input(format!("{shown}: {e}")))?;
        raw.checked(path).map_err(|(span, what)| {
            let line = text.get(..span).unwrap_or_default().matches('\n').count() + 1;
            bad_input(format!("{shown}: line {line}: {what}"))
        })
    }
}

/// Where in the text something is wrong, and what.
type Fault = (usize, String);

impl Raw {
    fn checked(self, path: &Path) -> Result<Manifest, Fault> {
        for text in [&self.file, &self.url, &self.sha256, &self.licence.name, &self.licence.url] {
            let n = text.get_ref().len();
            if n == 0 || n > MAX_TEXT_BYTES || text.get_ref().chars().any(char::is_control) {
                return Err((text.span().start, format!("a text of {n} bytes: 1 to {MAX_TEXT_BYTES}, in one line")));
            }
        }
        let at = self.file.span().start;
        let file = self.file.into_inner();
        if Path::new(&file).file_name().is_none_or(|n| n != file.as_str()) {
            return Err((at, format!("{file:?} is not a bare file name")));
        }
        let (at, size) = (self.size.span().start, self.size.into_inner());
        if size == 0 || size > MAX_FILE_BYTES {
            return Err((at, format!("size {size}, must be 1 to {MAX_FILE_BYTES}")));
        }
        let (at, sha256) = (self.sha256.span().start, self.sha256.into_inner().to_ascii_lowercase());
        if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err((at, "sha256 is not 64 hexadecimal digits".into()));
        }
        let at = self.url.span().start;
        let place = place(&self.url.into_inner(), path).map_err(|what| (at, what))?;
        let (licence, licence_url) = (self.licence.name.into_inner(), self.licence.url.into_inner());
        Ok(Manifest { file, place, size, sha256, licence, licence_url })
    }
}

/// https anywhere, http to this machine alone, or a path, which is taken from the manifest's folder.
fn place(url: &str, manifest: &Path) -> Result<Place, String> {
    if url.starts_with("https://") {
        return Ok(Place::Remote { url: url.into(), secure: true });
    }
    if let Some(rest) = url.strip_prefix("http://") {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = match authority.strip_prefix('[') {
            Some(v6) => v6.split(']').next().unwrap_or_default(),
            None => authority.split(':').next().unwrap_or_default(),
        };
        // A user name could make another host look like this one.
        let local = !authority.contains('@') && matches!(host, "localhost" | "127.0.0.1" | "::1");
        return if local {
            Ok(Place::Remote { url: url.into(), secure: false })
        } else {
            Err(format!("{url}: http only to this machine; https elsewhere"))
        };
    }
    let path = url.strip_prefix("file://").unwrap_or(url);
    if path.contains("://") {
        return Err(format!("{url}: https, http to this machine, or a path"));
    }
    Ok(Place::File(manifest.parent().unwrap_or(Path::new("")).join(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_in_the_clear() {
        let at = |url: &str| place(url, Path::new("models/m.toml"));
        assert_eq!(
            at("https://example.org/a").unwrap(),
            Place::Remote { url: "https://example.org/a".into(), secure: true }
        );
        for url in ["http://127.0.0.1:81/a", "http://localhost/a", "http://[::1]:8080/a"] {
            assert_eq!(at(url).unwrap(), Place::Remote { url: url.into(), secure: false });
        }
        for url in [
            "http://example.org/a",
            "http://127.0.0.1@example.org/a",
            "http://localhost.example.org/",
            "http://127.0.0.1.example.org/",
            "http://example.org#127.0.0.1/",
            "ftp://localhost/a",
        ] {
            assert!(at(url).is_err(), "{url}");
        }
        assert_eq!(at("a.gguf").unwrap(), Place::File("models/a.gguf".into()));
        assert_eq!(at("file:///b/a.gguf").unwrap(), Place::File("/b/a.gguf".into()));
    }

    #[test]
    fn faults_name_their_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.toml");
        let good = format!(
            "file = \"a.gguf\"\nurl = \"https://example.org/a\"\nsize = 5\nsha256 = \"{}\"\n[licence]\nname = \"MIT\"\nurl = \"https://example.org/l\"\n",
            "0".repeat(64)
        );
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Manifest::read(&path).map_err(|e| e.to_string())
        };
        assert_eq!(read(&good).unwrap().size, 5);
        for (from, to, says) in [
            ("a.gguf", "../a.gguf", "line 1: \"../a.gguf\" is not a bare file name"),
            ("a.gguf", "..", "line 1: "),
            ("https://example.org/a", "http://example.org/a", "line 2: http://example.org/a: http only"),
            ("size = 5", "size = 0", "line 3: size 0"),
            ("0000", "zzzz", "line 4: sha256"),
            ("size = 5", "size = 5\nsizes = 6", "line 4, column 1"),
            ("name = \"MIT\"", "name = \"\"", "line 6: a text of 0 bytes"),
            ("[licence]", "[license]", "license"),
        ] {
            let error = read(&good.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(says), "{to}: {error}");
        }
    }
}
