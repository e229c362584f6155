//! Kinds of keys and what TLS signs with them: how a message becomes what a token is given, and what it gives a signature.
//!
//! The hash is made here and not in the token: every token signs a hash, few hash.

use core::ffi::c_ulong;

use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::KeyType;
use ring::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rumqttc::tokio_rustls::rustls::pki_types::{CertificateDer, alg_id};
use rumqttc::tokio_rustls::rustls::server::ParsedCertificate;
use rumqttc::tokio_rustls::rustls::{SignatureAlgorithm, SignatureScheme};

use crate::der::{SEQUENCE, inside};

const BIT_STRING: u8 = 3;
const INTEGER: u8 = 2;

/// What stands before a hash in a signature of PKCS#1 v1.5 (RFC 8017, 9.2), but for the hash's name and length.
const DIGEST_INFO: [u8; 19] = [0x30, 0, 0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 0, 5, 0, 4, 0];

/// A kind of key that TLS signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    P256,
    P384,
    Rsa,
    Ed25519,
}

impl KeyKind {
    pub(super) const fn algorithm(self) -> SignatureAlgorithm {
        match self {
            Self::P256 | Self::P384 => SignatureAlgorithm::ECDSA,
            Self::Rsa => SignatureAlgorithm::RSA,
            Self::Ed25519 => SignatureAlgorithm::ED25519,
        }
    }

    /// The token's word for it.
    pub(super) const fn in_token(self) -> KeyType {
        match self {
            Self::P256 | Self::P384 => KeyType::EC,
            Self::Rsa => KeyType::RSA,
            Self::Ed25519 => KeyType::EC_EDWARDS,
        }
    }

    /// What it can sign by, the preferred first. TLS 1.3 has PSS alone for RSA.
    pub(super) const fn schemes(self) -> &'static [SignatureScheme] {
        match self {
            Self::P256 => &[SignatureScheme::ECDSA_NISTP256_SHA256],
            Self::P384 => &[SignatureScheme::ECDSA_NISTP384_SHA384],
            Self::Rsa => &[
                SignatureScheme::RSA_PSS_SHA256,
                SignatureScheme::RSA_PSS_SHA384,
                SignatureScheme::RSA_PSS_SHA512,
                SignatureScheme::RSA_PKCS1_SHA256,
                SignatureScheme::RSA_PKCS1_SHA384,
                SignatureScheme::RSA_PKCS1_SHA512,
            ],
            Self::Ed25519 => &[SignatureScheme::ED25519],
        }
    }
}

/// The public key of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    pub(super) kind: KeyKind,
    key: Vec<u8>,
}

impl PublicKey {
    /// `None` if the certificate cannot be read or has a key of another kind.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let spki = ParsedCertificate::try_from(certificate).ok()?.subject_public_key_info();
        let (spki, _) = inside(&spki, SEQUENCE)?;
        let (algorithm, rest) = inside(spki, SEQUENCE)?;
        let (key, _) = inside(rest, BIT_STRING)?;
        let known = [
            (alg_id::ECDSA_P256, KeyKind::P256),
            (alg_id::ECDSA_P384, KeyKind::P384),
            (alg_id::RSA_ENCRYPTION, KeyKind::Rsa),
            (alg_id::ED25519, KeyKind::Ed25519),
        ];
        let kind = known.into_iter().find(|(id, _)| id.as_ref() == algorithm)?.1;
        // The first byte says how many bits of the last one are not used: none.
        Some(Self { kind, key: key.split_first()?.1.to_vec() })
    }

    pub(super) fn verifies(&self, scheme: SignatureScheme, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn VerificationAlgorithm = match scheme {
            SignatureScheme::ECDSA_NISTP256_SHA256 => &signature::ECDSA_P256_SHA256_ASN1,
            SignatureScheme::ECDSA_NISTP384_SHA384 => &signature::ECDSA_P384_SHA384_ASN1,
            SignatureScheme::ED25519 => &signature::ED25519,
            SignatureScheme::RSA_PSS_SHA256 => &signature::RSA_PSS_2048_8192_SHA256,
            SignatureScheme::RSA_PKCS1_SHA256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            _ => return false,
        };
        UnparsedPublicKey::new(algorithm, &self.key).verify(message, signature).is_ok()
    }
}

/// Whether a scheme is one of PSS.
pub(super) const fn is_pss(scheme: SignatureScheme) -> bool {
    matches!(
        scheme,
        SignatureScheme::RSA_PSS_SHA256 | SignatureScheme::RSA_PSS_SHA384 | SignatureScheme::RSA_PSS_SHA512
    )
}

/// How a token is asked to sign.
pub(super) struct Request {
    pub(super) mechanism: Mechanism<'static>,
    pub(super) data: Vec<u8>,
}

/// `None` for a scheme that no key here has.
pub(super) fn request(scheme: SignatureScheme, message: &[u8]) -> Option<Request> {
    let hashed = |by: &'static Algorithm| digest(by, message).as_ref().to_vec();
    let (mechanism, data) = match scheme {
        SignatureScheme::ECDSA_NISTP256_SHA256 => (Mechanism::Ecdsa, hashed(&SHA256)),
        SignatureScheme::ECDSA_NISTP384_SHA384 => (Mechanism::Ecdsa, hashed(&SHA384)),
        SignatureScheme::ED25519 => (Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)), message.to_vec()),
        SignatureScheme::RSA_PSS_SHA256 => {
            (pss(MechanismType::SHA256, PkcsMgfType::MGF1_SHA256, &SHA256), hashed(&SHA256))
        }
        SignatureScheme::RSA_PSS_SHA384 => {
            (pss(MechanismType::SHA384, PkcsMgfType::MGF1_SHA384, &SHA384), hashed(&SHA384))
        }
        SignatureScheme::RSA_PSS_SHA512 => {
            (pss(MechanismType::SHA512, PkcsMgfType::MGF1_SHA512, &SHA512), hashed(&SHA512))
        }
        SignatureScheme::RSA_PKCS1_SHA256 => (Mechanism::RsaPkcs, digest_info(1, &hashed(&SHA256))),
        SignatureScheme::RSA_PKCS1_SHA384 => (Mechanism::RsaPkcs, digest_info(2, &hashed(&SHA384))),
        SignatureScheme::RSA_PKCS1_SHA512 => (Mechanism::RsaPkcs, digest_info(3, &hashed(&SHA512))),
        _ => return None,
    };
    Some(Request { mechanism, data })
}

/// The salt of TLS is as long as the hash (RFC 8446, 4.2.3).
fn pss(hash_alg: MechanismType, mgf: PkcsMgfType, hash: &'static Algorithm) -> Mechanism<'static> {
    Mechanism::RsaPkcsPss(PkcsPssParams { hash_alg, mgf, s_len: (hash.output_len() as c_ulong).into() })
}

/// `name`: the last part of the hash's object identifier.
fn digest_info(name: u8, hash: &[u8]) -> Vec<u8> {
    let mut out = DIGEST_INFO.to_vec();
    let len = hash.len() as u8;
    for (at, value) in [(1, len + 17), (14, name), (18, len)] {
        if let Some(byte) = out.get_mut(at) {
            *byte = value;
        }
    }
    out.extend_from_slice(hash);
    out
}

/// A token's signature in the form of TLS: ECDSA as two integers in DER, everything else as it is. `None` if it is not as long as such a
/// signature is.
pub(super) fn encoded(scheme: SignatureScheme, signature: Vec<u8>) -> Option<Vec<u8>> {
    let half = match scheme {
        SignatureScheme::ECDSA_NISTP256_SHA256 => 32,
        SignatureScheme::ECDSA_NISTP384_SHA384 => 48,
        _ => return Some(signature),
    };
    let (r, s) = signature.split_at_checked(half).filter(|(_, s)| s.len() == half)?;
    let both = [integer(r), integer(s)].concat();
    // At most 2 * 51 bytes: one byte holds the length.
    Some([&[SEQUENCE, both.len() as u8][..], &both].concat())
}

/// A number of at most 48 bytes, not negative, as an integer in DER.
fn integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count().min(number.len().saturating_sub(1));
    let digits = number.get(zeros..).unwrap_or_default();
    let sign = digits.first().is_none_or(|first| *first >= 0x80);
    let len = digits.len() + usize::from(sign);
    let head: &[u8] = if sign { &[INTEGER, len as u8, 0] } else { &[INTEGER, len as u8] };
    [head, digits].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_as_short_as_they_can_be_and_not_negative() {
        assert_eq!(integer(&[0, 0, 1]), [2, 1, 1]);
        assert_eq!(integer(&[0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(integer(&[0, 0]), [2, 1, 0]);
        assert_eq!(integer(&[]), [2, 1, 0]);
        let raw = [[0; 31].as_slice(), &[5], &[0xFF; 32]].concat();
        let der = encoded(SignatureScheme::ECDSA_NISTP256_SHA256, raw).unwrap();
        assert_eq!(der[..6], [0x30, 38, 2, 1, 5, 2]);
        assert_eq!((der[6..8].to_vec(), der.len()), (vec![33, 0], 40));
        for rubbish in [vec![], vec![7; 64], vec![9; 600]] {
            assert_eq!(encoded(SignatureScheme::ECDSA_NISTP384_SHA384, rubbish), None);
        }
    }

    #[test]
    fn a_hash_for_pkcs1_stands_behind_its_name() {
        // RFC 8017, 9.2, note 1.
        let sha256 = [0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];
        assert_eq!(digest_info(1, &[7; 32])[..19], sha256);
        assert_eq!(digest_info(3, &[7; 64])[..2], [0x30, 0x51]);
        let request = request(SignatureScheme::RSA_PKCS1_SHA384, b"x").unwrap();
        assert_eq!(request.data.len(), 19 + 48);
    }

    #[test]
    fn the_kind_of_a_key_is_the_certificates() {
        for (algorithm, kind) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, KeyKind::P256),
            (&rcgen::PKCS_ECDSA_P384_SHA384, KeyKind::P384),
            (&rcgen::PKCS_ED25519, KeyKind::Ed25519),
        ] {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let made = rcgen::CertificateParams::new(vec!["unit".to_owned()]).unwrap().self_signed(&key).unwrap();
            assert_eq!(PublicKey::of(made.der()).map(|key| key.kind), Some(kind));
        }
        assert_eq!(PublicKey::of(&CertificateDer::from(vec![0x30, 0])), None);
    }
}
