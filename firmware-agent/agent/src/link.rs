//! The link as the commands use it: opened with the outbox of a folder, fed message by message, finished with a limit.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent_core::outbox::OutboxLimits;
use agent_core::time::Span;
use agent_link::{Broker, CommandPolicy, EnqueueError, Link, LinkConfig, Store, Tls};
use agent_wire::{Command, Health, Message};
use anyhow::Context as _;

use crate::config::Config;
use crate::exit::{bad_input, usage};
use crate::show::say;

/// How long a message may take to reach the disk before it is said that it did not.
const STORE_WITHIN: Duration = Duration::from_secs(10);

/// Refused commands are said no more often than this.
const REFUSALS_EVERY: Duration = Duration::from_secs(10);

/// A running link.
pub(crate) struct RunningLink {
    link: Link,
    /// Which start of the agent this is.
    pub(crate) boot: u32,
    refused: u64,
    /// Refused commands that were said, and when the last word of them was.
    commands_said: (u64, Option<Instant>),
}

/// Opens the outbox at `store` and connects to `url` in the background.
pub(crate) fn start(config: &Config, url: &str, store: &Path) -> anyhow::Result<RunningLink> {
    let broker = Broker::parse(url).map_err(usage)?;
    if let Some(folder) = store.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("making {} for the outbox", folder.display()))?;
    }
    let (mut store, opened) = Store::open(store).map_err(|error| anyhow::anyhow!("{error}"))?;
    if let Some(aside) = &opened.set_aside {
        say!("the outbox was unreadable and was set aside: {aside:?}");
    }
    let boot = store.next_boot()?;
    let mut link = LinkConfig::new(broker, config.unit.fleet.clone(), config.unit.name.clone(), boot);
    link.config = config.hash8();
    let tls = &config.link.tls;
    let file = |path: &Option<PathBuf>| path.as_ref().map(|path| config.resolve(path));
    link.tls = certificates(file(&tls.ca).as_deref(), file(&tls.certificate).as_deref(), file(&tls.key).as_deref())?;
    link.commands =
        CommandPolicy { keys: config.commands.keys.clone(), max_per_minute: config.commands.max_per_minute };
    link.keep_alive = Duration::from_secs(u64::from(config.link.keep_alive_s));
    let outbox = &config.link.outbox;
    link.limits = OutboxLimits {
        window: config.link.in_flight as usize,
        entries: outbox.max_messages as usize,
        lesser_entries: outbox.max_messages as usize / 4 * 3,
        bytes: (outbox.max_mb as usize).saturating_mul(1_000_000),
        lesser_max_age: Span::from_s(u64::from(outbox.lesser_max_age_h) * 3600),
        ..OutboxLimits::default()
    }
    .clamped();
    Ok(RunningLink { link: Link::start(link, store, opened)?, boot, refused: 0, commands_said: (0, None) })
}

/// Largest PEM file that is read, bytes.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// The certificates in some files; `None` if none are named. Never says what stands in a key.
pub(crate) fn certificates(
    ca: Option<&Path>,
    certificate: Option<&Path>,
    key: Option<&Path>,
) -> anyhow::Result<Option<Tls>> {
    let read = |path: &Path| -> anyhow::Result<Vec<u8>> {
        let unreadable = |why: &dyn std::fmt::Display| bad_input(format!("{}: {why}", path.display()));
        let file = std::fs::File::open(path).map_err(|e| unreadable(&e))?;
        let mut pem = Vec::new();
        file.take(MAX_PEM_BYTES + 1).read_to_end(&mut pem).map_err(|e| unreadable(&e))?;
        if pem.len() as u64 > MAX_PEM_BYTES {
            return Err(unreadable(&"larger than any certificate"));
        }
        Ok(pem)
    };
    let client_pem = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
        (None, None) => None,
        _ => return Err(usage("a certificate and its key are needed together")),
    };
    if ca.is_none() && client_pem.is_none() {
        return Ok(None);
    }
    Ok(Some(Tls { ca_pem: ca.map(read).transpose()?.unwrap_or_default(), client_pem }))
}

impl RunningLink {
    /// Takes a message without waiting. A refusal (the written policy, or a full queue) is said and counted.
    pub(crate) fn send(&mut self, message: &Message) {
        if let Err(error) = self.link.enqueue(message) {
            self.refused += 1;
            say!("{:?} not taken by the outbox ({} so far): {error}", message.kind(), self.refused);
        }
    }

    /// Takes a message and waits until it is on disk.
    pub(crate) fn send_durable(&mut self, message: &Message) -> anyhow::Result<()> {
        match self.link.enqueue_durable(message, STORE_WITHIN) {
            Ok(_) => Ok(()),
            Err(EnqueueError::QueueFull) => {
                // Only a caller that never waits can fill the queue: let the link catch up once.
                let _ = self.link.drain(STORE_WITHIN);
                self.link.enqueue_durable(message, STORE_WITHIN).map(|_| ()).map_err(Into::into)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Fills in what only the link knows.
    pub(crate) fn complete(&self, health: &mut Health) {
        let stats = self.link.stats();
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        health.outbox_waiting = small(stats.waiting as u64);
        health.outbox_expired = small(stats.given_up.total());
    }

    /// The next command from the fleet. Refused ones are said, with their number and the reason of the last; never what was in
    /// them.
    pub(crate) fn command(&mut self) -> Option<Command> {
        if self.commands_said.1.is_none_or(|at| at.elapsed() >= REFUSALS_EVERY) {
            self.say_refusals();
        }
        self.link.try_command()
    }

    fn say_refusals(&mut self) {
        let (refused, why) = self.link.refusals();
        let said = self.commands_said.0;
        if refused > said {
            let why = why.map(|why| why.to_string()).unwrap_or_default();
            say!("{} commands refused, the last one: {why} ({refused} since the start)", refused - said);
            self.commands_said = (refused, Some(Instant::now()));
        }
    }

    /// Waits for the acknowledgements for at most `within` and says goodbye. True when nothing waits any more.
    pub(crate) fn finish(mut self, within: Duration) -> bool {
        self.say_refusals();
        let delivered = self.link.drain(within);
        let stats = self.link.stop(Duration::from_secs(1));
        delivered && stats.waiting == 0
    }
}
