//! Ed25519 keys: that of a unit, with which it signs evidence, and those of a fleet, with which it signs commands.
//!
//! Terms: a *secret key* stands in a file that its owner alone may read, as PKCS#8 in PEM (what `openssl genpkey -algorithm
//! ed25519` makes); a *public key* is 64 hexadecimal digits, or a PEM file; a *key id* is the beginning of the SHA-256 of a
//! public key, to name it in a line.
//!
//! The arithmetic is ring's, which TLS brings already. Never known here: what is signed, and who may sign what. A secret key
//! is never shown, not even in an error.

mod file;

use core::fmt;

use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

pub use file::{Found, load, make, read_public};

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;
/// Bytes of a public key, and of the seed that a secret key is made of.
pub const KEY_BYTES: usize = 32;
/// Largest key file, bytes: a PEM of an Ed25519 key has about 120.
pub const MAX_FILE_BYTES: u64 = 16 << 10;

/// What PKCS#8 puts before the 32 bytes of a seed (RFC 8410).
const PKCS8_HEAD: [u8; 16] = [0x30, 0x2E, 2, 1, 0, 0x30, 5, 6, 3, 0x2B, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// What a SubjectPublicKeyInfo puts before the 32 bytes of a public key (RFC 8410).
const SPKI_HEAD: [u8; 12] = [0x30, 0x2A, 0x30, 5, 6, 3, 0x2B, 0x65, 0x70, 3, 0x21, 0];

/// Why a key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not text of a public key.
    #[error("not a public key: 64 hexadecimal digits, or a PEM file of an Ed25519 public key, are one")]
    NotPublic,
    /// Not a secret key.
    #[error("not a secret key: a PEM file of an Ed25519 key in PKCS#8 is one")]
    NotSecret,
    /// There is a file already.
    #[error("is there already, and a key is never replaced")]
    Exists,
    /// Larger than a key.
    #[error("larger than any key file")]
    TooLarge,
    /// The system's.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandom,
}

/// Names a public key in a line: the first eight bytes of its SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

/// The public half of a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    /// Takes its 32 bytes. Whether they are a point of the curve, [`Self::verifies`] finds out.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Reads 64 hexadecimal digits, or a PEM.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.len() == 2 * KEY_BYTES && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            let mut key = [0; KEY_BYTES];
            for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                let digits = core::str::from_utf8(digits).map_err(|_| KeyError::NotPublic)?;
                *byte = u8::from_str_radix(digits, 16).map_err(|_| KeyError::NotPublic)?;
            }
            return Ok(Self(key));
        }
        let der = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes()).map_err(|_| KeyError::NotPublic)?;
        let key = der.strip_prefix(&SPKI_HEAD).and_then(|key| key.try_into().ok());
        key.map(Self).ok_or(KeyError::NotPublic)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Its short name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.0);
        let mut id = [0; 8];
        id.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        KeyId(id)
    }

    /// Whether `signature` is this key's over `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// A secret key. It is shown by its public half alone.
pub struct SecretKey(Ed25519KeyPair);

impl SecretKey {
    /// The key of a seed: the same seed, the same key.
    ///
    /// # Errors
    /// Never for 32 bytes; the type says so rather than a panic.
    pub fn from_seed(seed: &[u8; KEY_BYTES]) -> Result<Self, KeyError> {
        Ed25519KeyPair::from_seed_unchecked(seed).map(Self).map_err(|_| KeyError::NotSecret)
    }

    /// Reads PKCS#8 in PEM, with or without the public half.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| KeyError::NotSecret)?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).map(Self).map_err(|_| KeyError::NotSecret)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut key = [0; KEY_BYTES];
        key.iter_mut().zip(self.0.public_key().as_ref()).for_each(|(to, from)| *to = *from);
        PublicKey(key)
    }

    /// The signature over `message`: always the same for the same key and message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut out = [0; SIGNATURE_BYTES];
        out.iter_mut().zip(self.0.sign(message).as_ref()).for_each(|(to, from)| *to = *from);
        out
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}

/// A new secret key as PEM.
fn new_pem() -> Result<(SecretKey, String), KeyError> {
    let mut seed = [0; KEY_BYTES];
    SystemRandom::new().fill(&mut seed).map_err(|_| KeyError::NoRandom)?;
    let key = SecretKey::from_seed(&seed)?;
    Ok((key, pem("PRIVATE KEY", &[&PKCS8_HEAD[..], &seed].concat())))
}

/// Bytes in PEM. What we write fits in a line of 64 characters.
fn pem(name: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {name}-----\n");
    for three in der.chunks(3) {
        let byte = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * i)) as usize & 63).copied().unwrap_or(b'A');
            text.push(if i > three.len() { '=' } else { char::from(digit) });
        }
    }
    text.push_str(&format!("\n-----END {name}-----\n"));
    text
}

fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, 7.1, test 2.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let bytes = |hex: &str| -> Vec<u8> {
            hex.as_bytes()
                .chunks(2)
                .map(|d| u8::from_str_radix(core::str::from_utf8(d).unwrap(), 16).unwrap())
                .collect()
        };
        let seed = bytes("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let key = SecretKey::from_seed(&seed.try_into().unwrap()).unwrap();
        assert_eq!(key.public().to_string(), "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        let signature = key.sign(&[0x72]);
        assert_eq!(
            signature.to_vec(),
            bytes(
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                 085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
            )
        );
        assert!(key.public().verifies(&[0x72], &signature) && !key.public().verifies(&[0x73], &signature));
        assert!(!key.public().verifies(&[0x72], &signature[..63]));
        assert!(!format!("{key:?}").contains("4ccd089b"), "a secret is never shown");
    }

    #[test]
    fn a_public_key_is_read_as_digits_and_as_pem_and_nothing_else_is_one() {
        let (key, secret) = new_pem().unwrap();
        let public = key.public();
        assert_eq!(PublicKey::parse(&format!(" {public}\n")).unwrap(), public);
        let spki = pem("PUBLIC KEY", &[&SPKI_HEAD[..], public.as_bytes()].concat());
        assert_eq!(PublicKey::parse(&spki).unwrap(), public);
        assert_eq!(SecretKey::from_pem(secret.as_bytes()).unwrap().public(), public);
        for bad in ["", "abc", &"g".repeat(64), &secret, &pem("PUBLIC KEY", &[1; 44])] {
            assert!(matches!(PublicKey::parse(bad), Err(KeyError::NotPublic)), "{bad}");
        }
        for bad in [b"".as_slice(), spki.as_bytes(), pem("PRIVATE KEY", &[7; 48]).as_bytes()] {
            assert!(matches!(SecretKey::from_pem(bad), Err(KeyError::NotSecret)));
        }
        assert_eq!(public.id().to_string().len(), 16);
    }
}
