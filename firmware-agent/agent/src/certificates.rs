//! Certificates of the link: said in time before they end, because a unit whose certificate has ended is silent.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use agent_link::expiry::first_end;

use crate::config::Config;
use crate::show::say;

/// A certificate that ends in fewer days is spoken of.
pub(crate) const WARN_DAYS: i64 = 30;
/// Between two looks.
const EVERY: Duration = Duration::from_secs(24 * 3600);
/// While the clock is not set.
const SOON: Duration = Duration::from_secs(600);
/// A clock before 2025 was never set.
const CLOCK_SET: i64 = 1_735_689_600;
const DAY: i64 = 86_400;
/// Largest file that is read, bytes.
const MAX_BYTES: u64 = 1 << 20;

/// One configured file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// Key of the configuration that names it.
    pub(crate) key: &'static str,
    pub(crate) file: PathBuf,
    /// Days until it ends, below 0 once it has; or why that is not known.
    pub(crate) days: Result<i64, String>,
}

impl Expiry {
    /// What there is to say against it.
    pub(crate) fn complaint(&self) -> Option<String> {
        let what = format!("{} ({})", self.key, self.file.display());
        match &self.days {
            Ok(days) if *days < 0 => Some(format!("{what} has expired {} days ago: the broker refuses it", -days)),
            Ok(days) if *days < WARN_DAYS => Some(format!("{what} expires in {days} days")),
            Ok(_) => None,
            Err(why) => Some(format!("{what}: {why}")),
        }
    }
}

/// What is configured, at a time in Unix seconds.
pub(crate) fn look(config: &Config, now: i64) -> Vec<Expiry> {
    let tls = &config.link.tls;
    let files = [("link.tls.ca", &tls.ca), ("link.tls.certificate", &tls.certificate)];
    let named = files.into_iter().filter_map(|(key, file)| Some((key, config.resolve(file.as_deref()?))));
    named.map(|(key, file)| Expiry { key, days: days(&file, now), file }).collect()
}

fn days(file: &Path, now: i64) -> Result<i64, String> {
    let mut pem = Vec::new();
    let read = std::fs::File::open(file).and_then(|f| f.take(MAX_BYTES).read_to_end(&mut pem));
    read.map_err(|e| e.to_string())?;
    let end = first_end(&pem).ok_or_else(|| "no certificate in it can be read".to_owned())?;
    Ok((end - now).div_euclid(DAY))
}

/// Unix seconds, if the clock was ever set.
pub(crate) fn now() -> Option<i64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok().filter(|now| *now >= CLOCK_SET)
}

/// Looks once a day, for the daemon.
#[derive(Debug, Default)]
pub(crate) struct DailyLook {
    next: Option<Instant>,
}

impl DailyLook {
    pub(crate) fn tick(&mut self, config: &Config) {
        if self.next.is_some_and(|next| Instant::now() < next) {
            return;
        }
        let now = now();
        self.next = Some(Instant::now() + if now.is_some() { EVERY } else { SOON });
        for complaint in now.into_iter().flat_map(|now| look(config, now)).filter_map(|e| e.complaint()) {
            say!("{complaint}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_ends_soon_is_said_and_one_that_does_not_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default_embedded().unwrap();
        config.folder = folder.path().to_owned();
        assert_eq!(look(&config, 0), []);
        let mut params = rcgen::CertificateParams::new(vec!["unit".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2026, 11, 28);
        let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.path().join("unit.pem"), made.pem()).unwrap();
        config.link.tls.certificate = Some("unit.pem".into());
        let end = 1_795_824_000;
        let says = |now: i64| look(&config, now)[0].complaint();
        assert_eq!(says(end - 40 * DAY), None);
        assert!(says(end - 10 * DAY).unwrap().ends_with("unit.pem) expires in 10 days"));
        assert!(says(end + 3 * DAY).unwrap().contains("has expired 3 days ago"));
        config.link.tls.ca = Some("none.pem".into());
        let found = look(&config, end);
        assert!(found.len() == 2 && found[0].complaint().unwrap().contains("No such file"), "{found:?}");
    }
}
