//! The file that carries an update: a signed head, then the contents one after the other.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `FAUP` |
//! | 1 | form, 1 |
//! | 32 | Ed25519 public key |
//! | 64 | its signature over `firmware-agent update 1`, a zero, and the head |
//! | 4 | length of the head, little endian |
//! | so many | the head: a [`Manifest`] as JSON, with the SHA-256 of each content |
//! | the rest | the contents, in the order of the head |
//!
//! The signature is checked before anything of the head is read, and the head's hashes hold the contents.

use std::io::{self, Read, Write};

use agent_keys::{KEY_BYTES, PublicKey, SIGNATURE_BYTES, SecretKey};
use sha2::{Digest as _, Sha256};

use crate::UpdateError;
use crate::limits::{MAX_HEAD_BYTES, PIECE_BYTES};
use crate::manifest::{Digest, Manifest};

const MAGIC: [u8; 4] = *b"FAUP";
const FORM: u8 = 1;
/// What stands before the head, bytes.
pub(crate) const PREFIX_BYTES: usize = MAGIC.len() + 1 + KEY_BYTES + SIGNATURE_BYTES + 4;

/// The beginning of an update: nothing in it is believed before it was judged.
#[derive(Clone, Debug)]
pub struct Head {
    key: PublicKey,
    signature: [u8; SIGNATURE_BYTES],
    text: Vec<u8>,
}

impl Head {
    /// Reads it; what follows are the contents.
    ///
    /// # Errors
    /// It is no update, or cut, or too long; the reader's.
    pub fn read(from: &mut dyn Read) -> Result<Self, UpdateError> {
        let mut prefix = [0; PREFIX_BYTES];
        fill(from, &mut prefix, || "its head".to_owned())?;
        let parts = prefix.split_first_chunk::<4>().and_then(|(magic, rest)| {
            let (form, rest) = rest.split_first()?;
            let (key, rest) = rest.split_first_chunk::<KEY_BYTES>()?;
            let (signature, rest) = rest.split_first_chunk::<SIGNATURE_BYTES>()?;
            Some((*magic, *form, *key, *signature, *rest.first_chunk::<4>()?))
        });
        let Some((_, form, key, signature, len)) = parts.filter(|p| p.0 == MAGIC) else {
            return Err(UpdateError::NotAnUpdate);
        };
        if form != FORM {
            return Err(UpdateError::Form(form));
        }
        let len = usize::try_from(u32::from_le_bytes(len)).unwrap_or(usize::MAX);
        if len > MAX_HEAD_BYTES {
            return Err(UpdateError::HeadTooLong(len));
        }
        let mut text = vec![0; len];
        fill(from, &mut text, || "its head".to_owned())?;
        Ok(Self { key: PublicKey::from_bytes(key), signature, text })
    }

    /// The head of a manifest, signed.
    ///
    /// # Errors
    /// The manifest breaks a rule.
    pub fn make(key: &SecretKey, manifest: &Manifest) -> Result<Self, UpdateError> {
        manifest.check()?;
        let text = serde_json::to_vec(manifest).map_err(|e| UpdateError::Head(e.to_string()))?;
        if text.len() > MAX_HEAD_BYTES {
            return Err(UpdateError::HeadTooLong(text.len()));
        }
        let signature = key.sign(&signed(&text));
        Ok(Self { key: key.public(), signature, text })
    }

    /// As it stands in the file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(PREFIX_BYTES + self.text.len());
        out.extend_from_slice(&MAGIC);
        out.push(FORM);
        out.extend_from_slice(self.key.as_bytes());
        out.extend_from_slice(&self.signature);
        // At most 64 KiB.
        out.extend_from_slice(&u32::try_from(self.text.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&self.text);
        out
    }

    /// The key that it names as its own.
    #[must_use]
    pub const fn key(&self) -> PublicKey {
        self.key
    }

    /// Size in the file, bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        (PREFIX_BYTES + self.text.len()) as u64
    }

    /// What it says, if one of `keys` signed it.
    ///
    /// # Errors
    /// None did, or it breaks a rule.
    pub fn judge(&self, keys: &[PublicKey]) -> Result<Manifest, UpdateError> {
        if keys.is_empty() {
            return Err(UpdateError::NoKeys);
        }
        if !keys.contains(&self.key) {
            return Err(UpdateError::UnknownKey(self.key.id()));
        }
        if !self.key.verifies(&signed(&self.text), &self.signature) {
            return Err(UpdateError::BadSignature);
        }
        Manifest::parse(&self.text)
    }
}

/// What is signed.
fn signed(text: &[u8]) -> Vec<u8> {
    [b"firmware-agent update 1\0", text].concat()
}

/// Fills `into`, or says in which part the file ends.
fn fill(from: &mut dyn Read, into: &mut [u8], part: impl Fn() -> String) -> Result<(), UpdateError> {
    from.read_exact(into).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => UpdateError::Cut(part()),
        _ => UpdateError::Read(error),
    })
}

/// Hands a content to `take` piece by piece and gives its hash.
///
/// # Errors
/// The file ends in it; the reader's; those of `take`.
pub fn stream(
    from: &mut dyn Read,
    name: &str,
    bytes: u64,
    take: &mut dyn FnMut(&[u8]) -> Result<(), UpdateError>,
) -> Result<Digest, UpdateError> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX).min(PIECE_BYTES)];
    let mut left = bytes;
    while left > 0 {
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        let piece = piece.get_mut(..n).unwrap_or_default();
        fill(from, piece, || format!("\"{name}\""))?;
        hash.update(&*piece);
        take(piece)?;
        left -= n as u64;
    }
    Ok(Digest(hash.finalize().into()))
}

/// Writes an update: head and contents, each of which is hashed again on its way.
///
/// # Errors
/// A content that is not what the manifest says; readers' and the writer's.
pub fn write(
    to: &mut dyn Write,
    head: &Head,
    manifest: &Manifest,
    open: &mut dyn FnMut(usize) -> io::Result<Box<dyn Read>>,
) -> Result<(), UpdateError> {
    to.write_all(&head.to_bytes()).map_err(UpdateError::Read)?;
    for (i, entry) in manifest.files.iter().enumerate() {
        let mut content = open(i).map_err(UpdateError::Read)?;
        let take = &mut |piece: &[u8]| to.write_all(piece).map_err(UpdateError::Read);
        if stream(&mut *content, &entry.name, entry.bytes, take)? != entry.sha256 {
            return Err(UpdateError::Altered(entry.name.clone()));
        }
    }
    Ok(())
}

/// Reads all contents behind a head and holds them against it; nothing may follow.
///
/// # Errors
/// A content is another, is cut, or something follows.
pub fn verify(from: &mut dyn Read, manifest: &Manifest) -> Result<(), UpdateError> {
    for entry in &manifest.files {
        if stream(from, &entry.name, entry.bytes, &mut |_| Ok(()))? != entry.sha256 {
            return Err(UpdateError::Altered(entry.name.clone()));
        }
    }
    let mut more = [0; 1];
    match from.read(&mut more) {
        Ok(0) => Ok(()),
        Ok(n) => Err(UpdateError::Longer(n as u64)),
        Err(error) => Err(UpdateError::Read(error)),
    }
}
