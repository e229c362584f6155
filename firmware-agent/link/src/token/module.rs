//! PKCS#11 modules of this process. A module is loaded once and stays; it is started by its first user and ended after its last, because
//! many look for their tokens only when they start: ending and starting is how a token that was plugged in again is found.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};

use super::TokenError;
use super::session::words;
use crate::limits::TOKEN_MODULES;

struct Loaded {
    file: PathBuf,
    context: Pkcs11,
    users: usize,
}

/// Held while a module starts or ends: a module must not be told both at once.
static MODULES: Mutex<Vec<Loaded>> = Mutex::new(Vec::new());

/// A started module, in use until this is dropped.
#[derive(Debug)]
pub(super) struct Module {
    file: PathBuf,
    pub(super) context: Pkcs11,
}

impl Module {
    pub(super) fn open(file: &Path) -> Result<Self, TokenError> {
        let fails = |why: String| TokenError::Module { module: file.to_owned(), why };
        let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
        let at = match modules.iter().position(|module| module.file == file) {
            Some(at) => at,
            None if modules.len() >= TOKEN_MODULES => return Err(fails(format!("{TOKEN_MODULES} others are loaded"))),
            None => {
                let context = Pkcs11::new(file).map_err(|e| fails(words(&e)))?;
                modules.push(Loaded { file: file.to_owned(), context, users: 0 });
                modules.len() - 1
            }
        };
        let Some(module) = modules.get_mut(at) else { return Err(TokenError::Ended) };
        if module.users == 0 {
            match module.context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
                Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
                Err(error) => return Err(fails(words(&error))),
            }
        }
        module.users += 1;
        Ok(Self { file: file.to_owned(), context: module.context.clone() })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(module) = modules.iter_mut().find(|module| module.file == self.file) else { return };
        module.users = module.users.saturating_sub(1);
        if module.users == 0 {
            // One that does not end well is started again all the same.
            let _ = self.context.clone().finalize();
        }
    }
}
