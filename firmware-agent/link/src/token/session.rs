//! One login at a token, and the key in it: found, tried against the certificate, signed with, and opened anew when it is lost.
//!
//! Whatever a session fails by, a fresh one is tried once, with the module started anew if nobody else uses it. A wrong PIN is never
//! given twice, and none when the token says that it would be the last.

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error, RvError};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use ring::rand::{SecureRandom as _, SystemRandom};
use rumqttc::tokio_rustls::rustls::SignatureScheme;
use secrecy::ExposeSecret as _;

use super::module::Module;
use super::scheme::{PublicKey, encoded, is_pss, request};
use super::{Answer, Ask, TokenError, TokenUri, pin};
use crate::limits::TOKEN_SLOTS;

/// What is signed to see whether key and certificate belong together, with random bytes behind it: nothing that means anything elsewhere.
const TRIAL: &[u8] = b"firmware-agent: is this the key of the certificate?";
/// Keys that fit are counted so far.
const COUNTED: usize = 8;

/// The key in the token, whether it can be reached or not.
pub(super) struct Keeper {
    uri: TokenUri,
    public: PublicKey,
    open: Option<Open>,
    /// Not tried again.
    refused_pin: Option<AuthPin>,
    refused: u32,
}

/// In the order in which they are dropped: a session ends before its module does.
struct Open {
    session: Session,
    key: ObjectHandle,
    _module: Module,
    /// By which it was tried and verified.
    scheme: SignatureScheme,
}

impl Keeper {
    pub(super) const fn new(uri: TokenUri, public: PublicKey) -> Self {
        Self { uri, public, open: None, refused_pin: None, refused: 0 }
    }

    /// Does what was asked.
    pub(super) fn answer(&mut self, ask: &Ask) -> Result<Answer, TokenError> {
        if let Some(open) = &self.open {
            let again = match ask {
                Ask::Check => self.trial(&open.session, open.key, open.scheme).map(|()| Vec::new()),
                Ask::Sign(scheme, message) => sign(&open.session, open.key, *scheme, message),
            };
            if let Ok(signature) = again {
                return Ok(Answer { signature, pss: is_pss(open.scheme) });
            }
            self.open = None;
        }
        let open = self.open()?;
        let signature = match ask {
            Ask::Check => Vec::new(),
            Ask::Sign(scheme, message) => sign(&open.session, open.key, *scheme, message)?,
        };
        let pss = is_pss(open.scheme);
        self.open = Some(open);
        Ok(Answer { signature, pss })
    }

    fn open(&mut self) -> Result<Open, TokenError> {
        let module = Module::open(&self.uri.module)?;
        let (slot, info) = self.slot(&module.context)?;
        let session = module.context.open_ro_session(slot).map_err(call)?;
        self.login(&session, &info)?;
        let key = self.key(&session)?;
        let first = self.public.kind.schemes().first().copied().unwrap_or(SignatureScheme::ED25519);
        let scheme = match self.trial(&session, key, first) {
            Ok(()) => first,
            // A token that signs RSA by the older way alone still does for TLS 1.2.
            Err(_) if is_pss(first) => {
                self.trial(&session, key, SignatureScheme::RSA_PKCS1_SHA256)?;
                SignatureScheme::RSA_PKCS1_SHA256
            }
            Err(error) => return Err(error),
        };
        Ok(Open { session, key, _module: module, scheme })
    }

    /// The one token that fits.
    fn slot(&self, context: &Pkcs11) -> Result<(Slot, TokenInfo), TokenError> {
        let (mut fit, mut there) = (Vec::new(), Vec::new());
        for slot in context.get_slots_with_token().map_err(call)?.into_iter().take(TOKEN_SLOTS) {
            // One that was pulled out in between is not there.
            let Ok(info) = context.get_token_info(slot) else { continue };
            if !info.token_initialized() {
                continue;
            }
            there.push(format!("{:?}", info.label()));
            let pairs = [
                (&self.uri.token, info.label()),
                (&self.uri.serial, info.serial_number()),
                (&self.uri.manufacturer, info.manufacturer_id()),
                (&self.uri.model, info.model()),
            ];
            if pairs.into_iter().all(|(wanted, has)| wanted.as_ref().is_none_or(|wanted| wanted == has.trim_end())) {
                fit.push((slot, info));
            }
        }
        there.truncate(COUNTED);
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        let count = fit.len();
        match fit.pop() {
            None => Err(TokenError::NoToken { wanted: self.token_words(), there }),
            Some(found) if count == 1 => Ok(found),
            Some(_) => Err(TokenError::SeveralTokens { wanted: self.token_words(), count }),
        }
    }

    /// One try, and only with a PIN that the token has not refused, and only if the token would not lock itself over it.
    fn login(&mut self, session: &Session, info: &TokenInfo) -> Result<(), TokenError> {
        let Some(file) = &self.uri.pin else { return Ok(()) };
        let pin = pin::read(file)?;
        if self.refused_pin.as_ref().is_some_and(|refused| refused.expose_secret() == pin.expose_secret()) {
            return Err(TokenError::PinRefused { file: file.clone(), refused: self.refused });
        }
        may_try(info.user_pin_locked(), info.user_pin_final_try(), info.user_pin_initialized())?;
        match session.login(UserType::User, Some(&pin)) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
                self.refused_pin = None;
                Ok(())
            }
            Err(Error::Pkcs11(RvError::PinLocked, _)) => Err(TokenError::Locked),
            Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _)) => {
                self.refused = self.refused.saturating_add(1);
                self.refused_pin = Some(pin);
                Err(TokenError::PinRefused { file: file.clone(), refused: self.refused })
            }
            Err(error) => Err(call(error)),
        }
    }

    /// The one private key that fits.
    fn key(&self, session: &Session) -> Result<ObjectHandle, TokenError> {
        let mut template = vec![Attribute::Class(ObjectClass::PRIVATE_KEY)];
        template.extend(self.uri.object.as_ref().map(|label| Attribute::Label(label.clone().into_bytes())));
        template.extend(self.uri.id.as_ref().map(|id| Attribute::Id(id.clone())));
        let mut keys = Vec::new();
        for key in session.iter_objects(&template).map_err(call)?.take(COUNTED) {
            keys.push(key.map_err(call)?);
        }
        let key = match keys.as_slice() {
            [] => return Err(TokenError::NoKey { wanted: self.key_words(), login: self.uri.pin.is_some() }),
            [key] => *key,
            several => return Err(TokenError::SeveralKeys { wanted: self.key_words(), count: several.len() }),
        };
        let attributes = session.get_attributes(key, &[AttributeType::KeyType]).map_err(call)?;
        match attributes.first() {
            Some(Attribute::KeyType(kind)) if *kind != self.public.kind.in_token() => Err(self.other_key()),
            _ => Ok(key),
        }
    }

    /// Whether a signature of this key is one of the certificate's key.
    fn trial(&self, session: &Session, key: ObjectHandle, scheme: SignatureScheme) -> Result<(), TokenError> {
        let mut message = TRIAL.to_vec();
        let mut random = [0; 16];
        SystemRandom::new().fill(&mut random).map_err(|_| TokenError::Call("no random numbers".to_owned()))?;
        message.extend_from_slice(&random);
        // Of another length: a key on another curve.
        let signature = encoded(scheme, sign_raw(session, key, scheme, &message)?);
        let verifies = signature.is_some_and(|signature| self.public.verifies(scheme, &message, &signature));
        if verifies { Ok(()) } else { Err(self.other_key()) }
    }

    fn other_key(&self) -> TokenError {
        TokenError::OtherKey { wanted: self.key_words() }
    }

    fn token_words(&self) -> String {
        let named = [
            ("token", &self.uri.token),
            ("serial", &self.uri.serial),
            ("manufacturer", &self.uri.manufacturer),
            ("model", &self.uri.model),
        ];
        let named = named.into_iter().filter_map(|(name, value)| Some(format!("{name}={:?}", value.as_deref()?)));
        let named: Vec<String> = named.collect();
        if named.is_empty() { "the URI, which names none".to_owned() } else { named.join(" ") }
    }

    fn key_words(&self) -> String {
        let label = self.uri.object.as_ref().map(|label| format!("object={label:?}"));
        let id = self.uri.id.as_ref().map(|id| format!("id={}", id.escape_ascii()));
        [label, id].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// Whether a PIN may be given to a token with these flags.
fn may_try(locked: bool, final_try: bool, initialized: bool) -> Result<(), TokenError> {
    match (initialized, locked, final_try) {
        (false, ..) => Err(TokenError::NoPin),
        (_, true, _) => Err(TokenError::Locked),
        (_, _, true) => Err(TokenError::LastTry),
        _ => Ok(()),
    }
}

fn sign(session: &Session, key: ObjectHandle, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, TokenError> {
    let signature = sign_raw(session, key, scheme, message)?;
    let len = signature.len();
    encoded(scheme, signature)
        .ok_or_else(|| TokenError::Call(format!("a signature of {len} bytes is none by {scheme:?}")))
}

fn sign_raw(
    session: &Session,
    key: ObjectHandle,
    scheme: SignatureScheme,
    message: &[u8],
) -> Result<Vec<u8>, TokenError> {
    let asked = request(scheme, message).ok_or_else(|| TokenError::Call(format!("no way to sign by {scheme:?}")))?;
    session.sign(&asked.mechanism, key, &asked.data).map_err(call)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn call(error: Error) -> TokenError {
    TokenError::Call(words(&error))
}

/// Which call failed and how, by the standard's names: its own texts are paragraphs.
pub(super) fn words(error: &Error) -> String {
    match error {
        Error::Pkcs11(code, function) => format!("C_{function:?} says {code:?}"),
        Error::LibraryLoading(error) => error.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pin_is_given_that_could_lock_the_token() {
        assert_eq!(may_try(false, false, true), Ok(()));
        assert_eq!(may_try(false, true, true), Err(TokenError::LastTry));
        assert_eq!(may_try(true, true, true), Err(TokenError::Locked));
        assert_eq!(may_try(false, false, false), Err(TokenError::NoPin));
    }
}
