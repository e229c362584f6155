//! `import`
use crate::cli::ImportArgs;
use crate::exit::Outcome;
pub(crate) fn import(_args: &ImportArgs) -> anyhow::Result<Outcome> {
    anyhow::bail!("not wired")
}
