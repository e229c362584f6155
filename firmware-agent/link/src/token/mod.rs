//! The unit's TLS key in a PKCS#11 token: an HSM, a TPM behind tpm2-pkcs11, OP-TEE, SoftHSM in tests. The token signs; the private key
//! never leaves it.
//!
//! Terms: a *module* is the library that speaks to tokens; a *token* holds keys, and a *PIN* opens it. A token has a thread of its
//! own here, because a call to a module may hang and cannot be taken back: whoever asks waits for [`SIGN_WITHIN`] and is told;
//! while the call lasts, the next one is told at once.
//!
//! What it never does: give a token a PIN that it refused (a token locks itself after a few), show a PIN, or take a key out.

mod error;
mod module;
mod pin;
mod scheme;
mod session;
mod signer;
mod uri;

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rumqttc::tokio_rustls::rustls::pki_types::CertificateDer;
use rumqttc::tokio_rustls::rustls::{SignatureAlgorithm, SignatureScheme};

pub use error::TokenError;
pub(crate) use signer::TokenKey;
pub use uri::{SCHEME, TokenUri, UriError};

use crate::limits::{SIGN_WITHIN, TOKEN_CHECK_WITHIN, TOKEN_END_WITHIN};
use scheme::{KeyKind, PublicKey, is_pss};

/// What a token is asked.
enum Ask {
    /// Whether it would sign for the certificate.
    Check,
    /// To sign this.
    Sign(SignatureScheme, Vec<u8>),
}

/// What it says.
struct Answer {
    signature: Vec<u8>,
    /// Its last trial was by PSS.
    pss: bool,
}

struct Job {
    ask: Ask,
    answer: SyncSender<Result<Answer, TokenError>>,
}

/// What happened since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenState {
    /// Signatures and checks that worked.
    pub answers: u64,
    /// Those that did not.
    pub faults: u64,
    /// Why the last one did not; none once one works.
    pub fault: Option<TokenError>,
}

#[derive(Default)]
struct Shared {
    state: TokenState,
    /// Since when the thread is at work for somebody.
    busy: Option<Instant>,
    /// What is known of an RSA key: whether PSS works.
    pss: Option<bool>,
}

/// The key of a unit in a token, for all connections. Dropping it ends the session with the token.
pub struct Token {
    uri: TokenUri,
    kind: KeyKind,
    jobs: Option<SyncSender<Job>>,
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<()>>,
    sign_within: Duration,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("uri", &self.uri).field("state", &self.state()).finish_non_exhaustive()
    }
}

impl Token {
    /// Starts the token's thread for the key at `uri` that belongs to `certificate`. Does not touch the token yet: that is what
    /// [`Self::check`] is for, and a token that is away may come.
    ///
    /// # Errors
    /// `None` when the certificate's key is of a kind that is not signed with here.
    pub(crate) fn start(uri: TokenUri, certificate: &CertificateDer<'_>) -> Option<std::io::Result<Self>> {
        let public = PublicKey::of(certificate)?;
        let kind = public.kind;
        let mut keeper = session::Keeper::new(uri.clone(), public);
        Some(Self::run(uri, kind, SIGN_WITHIN, move |ask| keeper.answer(ask)))
    }

    fn run(
        uri: TokenUri,
        kind: KeyKind,
        sign_within: Duration,
        answer: impl FnMut(&Ask) -> Result<Answer, TokenError> + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (jobs, queue) = sync_channel(1);
        let for_thread = Arc::clone(&shared);
        let thread =
            thread::Builder::new().name("token".to_owned()).spawn(move || serve(&queue, &for_thread, answer))?;
        Ok(Self { uri, kind, jobs: Some(jobs), shared, thread: Some(thread), sign_within })
    }

    /// Where the key is.
    #[must_use]
    pub const fn uri(&self) -> &TokenUri {
        &self.uri
    }

    /// Counts, and the fault if the last answer was one.
    #[must_use]
    pub fn state(&self) -> TokenState {
        lock(&self.shared).state.clone()
    }

    /// Loads the module, logs in, looks for the key and has it sign something for the certificate. Waits for at most ten seconds.
    ///
    /// # Errors
    /// Each cause by its name: see [`TokenError`].
    pub fn check(&self) -> Result<(), TokenError> {
        self.ask(Ask::Check, TOKEN_CHECK_WITHIN).map(|_| ())
    }

    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        self.ask(Ask::Sign(scheme, message.to_vec()), self.sign_within)
    }

    const fn algorithm(&self) -> SignatureAlgorithm {
        self.kind.algorithm()
    }

    /// What the key signs by, as far as that is known.
    fn schemes(&self) -> impl Iterator<Item = SignatureScheme> {
        let pss = self.signs_pss();
        self.kind.schemes().iter().copied().filter(move |scheme| pss || !is_pss(*scheme))
    }

    /// False if it is known that an RSA key does not sign by PSS, which TLS 1.3 wants.
    pub(crate) fn signs_pss(&self) -> bool {
        lock(&self.shared).pss != Some(false)
    }

    fn ask(&self, ask: Ask, within: Duration) -> Result<Vec<u8>, TokenError> {
        let answer = self.wait(ask, within);
        let mut shared = lock(&self.shared);
        match answer {
            Ok(answer) => {
                shared.state.answers += 1;
                shared.state.fault = None;
                shared.pss = (self.kind == KeyKind::Rsa).then_some(answer.pss);
                Ok(answer.signature)
            }
            Err(error) => {
                shared.state.faults += 1;
                shared.state.fault = Some(error.clone());
                Err(error)
            }
        }
    }

    fn wait(&self, ask: Ask, within: Duration) -> Result<Answer, TokenError> {
        let hangs = |since: Instant| TokenError::Hangs(since.elapsed());
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            return Err(TokenError::Ended);
        }
        if let Some(since) = lock(&self.shared).busy.filter(|since| since.elapsed() >= self.sign_within) {
            return Err(hangs(since));
        }
        let (answer, answered) = sync_channel(1);
        let (jobs, asked) = (self.jobs.as_ref().ok_or(TokenError::Ended)?, Instant::now());
        jobs.try_send(Job { ask, answer }).map_err(|error| match error {
            TrySendError::Full(_) => hangs(asked),
            TrySendError::Disconnected(_) => TokenError::Ended,
        })?;
        answered.recv_timeout(within).unwrap_or_else(|error| match error {
            RecvTimeoutError::Timeout => Err(hangs(asked)),
            RecvTimeoutError::Disconnected => Err(TokenError::Ended),
        })
    }
}

impl Drop for Token {
    /// A module that is at work while the process ends may take it down: its thread gets the time to finish, if it does not hang.
    fn drop(&mut self) {
        self.jobs = None;
        let begun = Instant::now();
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) && begun.elapsed() < TOKEN_END_WITHIN {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The token's thread: one job after the other until nobody can ask any more.
fn serve(queue: &Receiver<Job>, shared: &Mutex<Shared>, mut answer: impl FnMut(&Ask) -> Result<Answer, TokenError>) {
    while let Ok(job) = queue.recv() {
        lock(shared).busy = Some(Instant::now());
        let answered = answer(&job.ask);
        lock(shared).busy = None;
        // Whoever asked may have stopped waiting.
        let _ = job.answer.try_send(answered);
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // Counts stay usable after a panic elsewhere.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn uri() -> TokenUri {
        "pkcs11:object=k?module-path=/m.so".parse().unwrap()
    }

    #[test]
    fn a_call_that_hangs_is_said_and_asked_again_only_after_it_came_back() {
        let (let_go, held) = channel::<()>();
        let token = Token::run(uri(), KeyKind::P256, Duration::from_millis(30), move |_| {
            let _ = held.recv();
            Ok(Answer { signature: vec![7], pss: false })
        });
        let token = token.unwrap();
        let sign = || token.sign(SignatureScheme::ECDSA_NISTP256_SHA256, b"x");
        for faults in 1..=5 {
            assert!(matches!(sign(), Err(TokenError::Hangs(_))));
            let state = token.state();
            assert!(state.faults == faults && matches!(state.fault, Some(TokenError::Hangs(_))), "{state:?}");
            // From then on nothing is asked of a thread that could not hear it.
            while lock(&token.shared).busy.is_none_or(|since| since.elapsed() < token.sign_within) {
                thread::yield_now();
            }
        }
        let (answer, _answered) = sync_channel(1);
        assert!(token.jobs.as_ref().unwrap().try_send(Job { ask: Ask::Check, answer }).is_ok(), "one is queued");
        drop(let_go);
        while sign() != Ok(vec![7]) {}
        let state = token.state();
        assert_eq!((state.answers, state.fault), (1, None));
    }

    #[test]
    fn what_a_key_signs_by_is_what_it_was_seen_to_sign_by() {
        let token =
            |kind| Token::run(uri(), kind, SIGN_WITHIN, |_| Ok(Answer { signature: Vec::new(), pss: false })).unwrap();
        let rsa = token(KeyKind::Rsa);
        assert_eq!(rsa.schemes().count(), 6);
        rsa.check().unwrap();
        assert!(rsa.schemes().count() == 3 && !rsa.schemes().any(is_pss) && !rsa.signs_pss());
        let ec = token(KeyKind::P384);
        ec.check().unwrap();
        assert!(ec.signs_pss() && ec.schemes().eq([SignatureScheme::ECDSA_NISTP384_SHA384]));
    }

    #[test]
    fn a_module_that_brings_its_thread_down_is_said() {
        let token = Token::run(uri(), KeyKind::P256, SIGN_WITHIN, |_| panic!("as a module might"));
        let token = token.unwrap();
        assert_eq!(token.check(), Err(TokenError::Ended));
        assert_eq!(token.check(), Err(TokenError::Ended));
    }
}
