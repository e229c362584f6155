//! The token with the unit's TLS key, in words: what is wrong with it, once, and what to do about it.

use std::mem::discriminant;
use std::sync::Arc;

use agent_link::{Token, TokenError, TokenState};

/// Follows a token for the log.
#[derive(Debug)]
pub(crate) struct TokenWords {
    token: Arc<Token>,
    said: Said,
}

impl TokenWords {
    pub(crate) const fn new(token: Arc<Token>) -> Self {
        Self { token, said: Said(None) }
    }

    /// What has changed.
    pub(crate) fn look(&mut self) -> Option<String> {
        self.said.of(&self.token.state())
    }
}

/// The fault that was said, and how many there were then.
#[derive(Debug)]
struct Said(Option<(TokenError, u64)>);

impl Said {
    /// Once when a fault begins, once when it becomes another one, once when it is over.
    fn of(&mut self, state: &TokenState) -> Option<String> {
        match (&state.fault, &self.0) {
            (Some(fault), Some((said, _))) if discriminant(fault) == discriminant(said) => None,
            (Some(fault), said) => {
                let words = format!("{fault}. {}; messages wait on disk", advice(fault));
                let before = said.as_ref().map_or(state.faults, |(_, faults)| *faults);
                self.0 = Some((fault.clone(), before));
                Some(words)
            }
            (None, Some((_, before))) => {
                let tries = state.faults.saturating_sub(*before) + 1;
                self.0 = None;
                Some(format!("the token signs again after {tries} tries"))
            }
            (None, None) => None,
        }
    }
}

/// What to do about a fault.
pub(crate) const fn advice(error: &TokenError) -> &'static str {
    match error {
        TokenError::Module { .. } => "Install the module, or name the right file by module-path in link.tls.key",
        TokenError::NoToken { .. } => {
            "Is it plugged in, is its service running, may this user open its device? `pkcs11-tool --module FILE -T` lists tokens"
        }
        TokenError::SeveralTokens { .. } => "`pkcs11-tool --module FILE -T` lists their serial numbers",
        TokenError::PinFile { .. } => {
            "One line, the PIN, in a file that the agent's user owns and nobody else can read"
        }
        TokenError::PinRefused { .. } => "Put the right PIN into the file; it is taken by itself",
        TokenError::LastTry => "`pkcs11-tool --module FILE --login -O` with the right PIN sets its count back",
        TokenError::Locked => {
            "Its security officer must set a new PIN: `pkcs11-tool --module FILE --init-pin --login --login-type so`"
        }
        TokenError::NoPin => "`pkcs11-tool --module FILE --init-pin --login --login-type so` sets one",
        TokenError::NoKey { .. } | TokenError::SeveralKeys { .. } => {
            "`pkcs11-tool --module FILE --login -O` lists the keys with their labels and ids"
        }
        TokenError::OtherKey { .. } => {
            "Have a certificate made for the key in the token, or name the key of the certificate"
        }
        TokenError::Call(_) => {
            "It is tried again with each session; if it stays so, see the log of the token's service"
        }
        TokenError::Hangs(_) => "If it stays so, restart the token's service and the agent",
        TokenError::Ended => "Restart the agent; a module that does this is broken",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_fault_is_said_once_with_what_to_do_and_its_end_too() {
        let mut said = Said(None);
        let state = |faults, fault| TokenState { answers: 0, faults, fault };
        let refused = |refused| Some(TokenError::PinRefused { file: "/etc/pin".into(), refused });
        assert_eq!(said.of(&state(0, None)), None);
        let words = said.of(&state(1, refused(1))).unwrap();
        assert!(
            words.contains("refuses the PIN in /etc/pin (1 refused so far)") && words.contains("right PIN"),
            "{words}"
        );
        assert_eq!(said.of(&state(2, refused(2))), None);
        let words = said.of(&state(3, Some(TokenError::Hangs(Duration::from_secs(3))))).unwrap();
        assert!(words.contains("does not answer") && words.contains("3 s"), "{words}");
        assert_eq!(said.of(&state(3, None)).unwrap(), "the token signs again after 3 tries");
        assert_eq!(said.of(&state(3, None)), None);
    }
}
