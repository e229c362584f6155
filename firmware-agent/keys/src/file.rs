//! Key files: a secret one is made once, under another name first, and only its owner may read it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::{KeyError, MAX_FILE_BYTES, PublicKey, SecretKey, new_pem};

/// A secret key that was read.
#[derive(Debug)]
pub struct Found {
    /// The key.
    pub key: SecretKey,
    /// Whether others than its owner may read the file.
    pub open_to_others: bool,
}

/// Reads the secret key in the file `path`.
///
/// # Errors
/// It is not there, cannot be read, or is no key.
pub fn load(path: &Path) -> Result<Found, KeyError> {
    let (bytes, mode) = read(path)?;
    Ok(Found { key: SecretKey::from_pem(&bytes)?, open_to_others: mode & 0o077 != 0 })
}

/// Makes a secret key in the file `path`, for its owner alone, and waits until it is safe on disk. After a power cut there is a
/// whole key or none.
///
/// # Errors
/// There is a file already, or the system's.
pub fn make(path: &Path) -> Result<SecretKey, KeyError> {
    if path.symlink_metadata().is_ok() {
        return Err(KeyError::Exists);
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let (key, text) = new_pem()?;
    let mut name = path.as_os_str().to_owned();
    name.push("-new");
    let new = PathBuf::from(name);
    // What a power cut left half made; whoever put a link there does not get the key.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()?;
    Ok(key)
}

/// The public key that `text` is, or that stands in the file of that name: a PEM of either half, or hexadecimal digits.
///
/// # Errors
/// Neither.
pub fn read_public(text: &str) -> Result<PublicKey, KeyError> {
    if let Ok(key) = PublicKey::parse(text) {
        return Ok(key);
    }
    let (bytes, _) = read(Path::new(text))?;
    if let Ok(secret) = SecretKey::from_pem(&bytes) {
        return Ok(secret.public());
    }
    PublicKey::parse(std::str::from_utf8(&bytes).map_err(|_| KeyError::NotPublic)?)
}

/// The bytes of a small file, and its mode.
fn read(path: &Path) -> Result<(Vec<u8>, u32), KeyError> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode();
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(KeyError::TooLarge);
    }
    Ok((bytes, mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/unit.pem");
        let made = make(&path).unwrap();
        let found = load(&path).unwrap();
        assert_eq!(found.key.public(), made.public());
        assert!(!found.open_to_others);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let before = fs::read(&path).unwrap();
        assert!(matches!(make(&path), Err(KeyError::Exists)));
        assert_eq!(fs::read(&path).unwrap(), before, "never replaced");
        assert_eq!(read_public(path.to_str().unwrap()).unwrap(), made.public());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(load(&path).unwrap().open_to_others);
        assert_ne!(make(&folder.path().join("other.pem")).unwrap().public(), made.public());
    }

    #[test]
    fn what_a_power_cut_left_half_made_is_made_anew_and_what_is_no_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("unit.pem");
        fs::write(folder.path().join("unit.pem-new"), b"half").unwrap();
        make(&path).unwrap();
        assert!(!folder.path().join("unit.pem-new").exists());
        fs::write(&path, vec![b'x'; MAX_FILE_BYTES as usize + 1]).unwrap();
        assert!(matches!(load(&path), Err(KeyError::TooLarge)));
        fs::write(&path, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
        assert!(matches!(load(&path), Err(KeyError::NotSecret)));
        assert!(matches!(load(&folder.path().join("none")), Err(KeyError::Io(_))));
        assert!(matches!(read_public("no such file"), Err(KeyError::Io(_))));
    }
}
