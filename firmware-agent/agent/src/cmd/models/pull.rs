//! `models pull`: fetches a model file by its manifest, once its licence is accepted.
//!
//! The file grows as `NAME.part` under a lock and is renamed when size and SHA-256 are the manifest's: a half file never
//! stands in place. What is there of an earlier attempt is continued by a range request; a server that does not know
//! ranges sends all of it again. A cut connection is tried again as long as each attempt brings something.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::CertificateError;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::manifest::{Manifest, Place};
use crate::cli::ModelsPullArgs;
use crate::exit::{Outcome, bad_input, usage};
use crate::show::{put, say};

/// Attempts in a row that may bring nothing.
const MAX_FRUITLESS: u32 = 4;
/// Wait before the second attempt; doubled before each further one.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest wait for a connection and for the head of an answer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest silence within the body.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes read at a time.
const PIECE: usize = 1 << 20;

pub(crate) fn pull(args: &ModelsPullArgs) -> anyhow::Result<Outcome> {
    let manifest = Manifest::read(&args.manifest)?;
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(&manifest.file));
    say!("{}: {} bytes, licence {}: {}", manifest.file, manifest.size, manifest.licence, manifest.licence_url);
    if !args.accept_licence {
        return Err(usage("nothing is fetched before its licence is accepted: read it and give --accept-licence"));
    }
    let shown = out.display();
    if out.exists() && sha256(&out)? == manifest.sha256 {
        say!("{shown} is there already");
        return finished(&manifest, &out, 0);
    }
    let mut part = Part::open(&out, manifest.size)?;
    let resumed = part.have;
    match &manifest.place {
        Place::File(path) => copy(path, &mut part)?,
        Place::Remote { url, secure } => fetch(url, *secure, &mut part)?,
    }
    part.settle(&manifest, &out)?;
    finished(&manifest, &out, resumed)
}

fn finished(manifest: &Manifest, out: &Path, resumed: u64) -> anyhow::Result<Outcome> {
    put!(
        "{}",
        json!({"file": out, "bytes": manifest.size, "sha256": manifest.sha256, "licence": manifest.licence,
               "resumed_from": resumed})
    )?;
    Ok(Outcome::Done)
}

/// The file while it grows.
struct Part {
    path: PathBuf,
    file: File,
    /// Bytes that it has.
    have: u64,
    /// Bytes that it will have.
    size: u64,
}

impl Part {
    /// Opens what an earlier attempt left, or a new one. More than the manifest's size cannot be of this file.
    fn open(out: &Path, size: u64) -> anyhow::Result<Self> {
        let mut name = out.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        let shown = |e: std::io::Error| anyhow::anyhow!("{}: {e}", path.display());
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(shown)?;
        if file.try_lock().is_err() {
            return Err(anyhow::anyhow!("{}: another pull is writing it", path.display()));
        }
        let mut have = file.seek(SeekFrom::End(0)).map_err(shown)?;
        if have > size {
            have = 0;
            file.set_len(0).map_err(shown)?;
            file.rewind().map_err(shown)?;
        }
        Ok(Self { path, file, have, size })
    }

    fn restart(&mut self) -> std::io::Result<()> {
        self.have = 0;
        self.file.set_len(0)?;
        self.file.rewind()
    }

    /// Appends all of `from`; what came before an error stays. Refuses more than the size.
    fn append(&mut self, from: &mut dyn Read) -> Result<(), Fault> {
        let mut buffer = vec![0; PIECE];
        loop {
            let n = from.read(&mut buffer).map_err(|e| Fault::Cut(e.to_string()))?;
            if n == 0 {
                return Ok(());
            }
            if n as u64 > self.size - self.have {
                self.restart().map_err(|e| Fault::Disk(e.to_string()))?;
                return Err(Fault::Wrong(format!("more than the {} bytes of the manifest", self.size)));
            }
            let bytes = buffer.get(..n).unwrap_or_default();
            self.file.write_all(bytes).map_err(|e| Fault::Disk(e.to_string()))?;
            self.have += n as u64;
        }
    }

    /// Checks size and hash, syncs, and renames into place. A file that is another than the manifest's is removed:
    /// to continue it would never end well.
    fn settle(mut self, manifest: &Manifest, out: &Path) -> anyhow::Result<()> {
        let failed = |e: std::io::Error| anyhow::anyhow!("{}: {e}", out.display());
        self.file.flush().map_err(failed)?;
        let found = sha256(&self.path)?;
        if self.have != manifest.size || found != manifest.sha256 {
            std::fs::remove_file(&self.path).map_err(failed)?;
            let what = format!(
                "{}: {} bytes with SHA-256 {found}, the manifest says {} with {}: not kept",
                out.display(),
                self.have,
                manifest.size,
                manifest.sha256
            );
            return Err(bad_input(what));
        }
        self.file.sync_all().map_err(failed)?;
        std::fs::rename(&self.path, out).map_err(failed)?;
        let folder = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|f| f.sync_all()).map_err(failed)
    }
}

/// Why an attempt ended.
enum Fault {
    /// The connection or the server: worth another attempt.
    Cut(String),
    /// The server answers with something else than the file: another attempt brings the same.
    Wrong(String),
    /// Our disk.
    Disk(String),
}

fn copy(path: &Path, part: &mut Part) -> anyhow::Result<()> {
    let shown = path.display();
    let reading = |e: std::io::Error| bad_input(format!("{shown}: {e}"));
    let mut file = File::open(path).map_err(reading)?;
    file.seek(SeekFrom::Start(part.have)).map_err(reading)?;
    part.append(&mut file).map_err(|fault| match fault {
        Fault::Cut(what) | Fault::Wrong(what) => bad_input(format!("{shown}: {what}")),
        Fault::Disk(what) => anyhow::anyhow!("{}: {what}", part_name(&part.path)),
    })
}

fn part_name(path: &Path) -> String {
    path.display().to_string()
}

fn fetch(url: &str, secure: bool, part: &mut Part) -> anyhow::Result<()> {
    let agent = agent(secure);
    let mut fruitless = 0;
    while part.have < part.size {
        let before = part.have;
        match attempt(&agent, url, part) {
            Ok(()) if part.have == part.size => break,
            Err(Fault::Wrong(what)) => return Err(bad_input(format!("{url}: {what}"))),
            Err(Fault::Disk(what)) => return Err(anyhow::anyhow!("{}: {what}", part_name(&part.path))),
            Ok(()) => say!("{url}: ended at byte {} of {}", part.have, part.size),
            Err(Fault::Cut(what)) => say!("{url}: cut at byte {} of {}: {what}", part.have, part.size),
        }
        fruitless = if part.have > before { 0 } else { fruitless + 1 };
        if fruitless == MAX_FRUITLESS {
            let what = format!(
                "{url}: given up at byte {} of {}; {} is kept, the next call continues it",
                part.have,
                part.size,
                part_name(&part.path)
            );
            return Err(anyhow::anyhow!(what));
        }
        std::thread::sleep(PAUSE * (1 << fruitless));
    }
    Ok(())
}

/// One request for what is missing.
fn attempt(agent: &ureq::Agent, url: &str, part: &mut Part) -> Result<(), Fault> {
    let mut request = agent.get(url);
    if part.have > 0 {
        request = request.header("Range", format!("bytes={}-", part.have));
    }
    let mut response = request.call().map_err(|e| no_answer(&e))?;
    let status = response.status().as_u16();
    match status {
        200 => part.restart().map_err(|e| Fault::Disk(e.to_string()))?,
        206 => {
            let range = response.headers().get("content-range").and_then(|v| v.to_str().ok()).unwrap_or_default();
            let expected = format!("bytes {}-{}/{}", part.have, part.size - 1, part.size);
            if range != expected {
                part.restart().map_err(|e| Fault::Disk(e.to_string()))?;
                return Err(Fault::Wrong(format!("asked for {expected}, the server sends {range:?}")));
            }
        }
        // What we have is no beginning of what is there now.
        416 => {
            part.restart().map_err(|e| Fault::Disk(e.to_string()))?;
            return Err(Fault::Wrong("the file there is shorter than the manifest says".into()));
        }
        408 | 429 | 500..=599 => return Err(Fault::Cut(format!("status {status}"))),
        _ => return Err(Fault::Wrong(format!("status {status}"))),
    }
    let mut body = response.body_mut().as_reader();
    part.append(&mut body)
}

/// A certificate that does not verify is the same at the next attempt; everything else may pass.
fn no_answer(error: &ureq::Error) -> Fault {
    let tls = match error {
        ureq::Error::Rustls(e) => Some(e),
        ureq::Error::Io(e) => e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()),
        _ => None,
    };
    let Some(rustls::Error::InvalidCertificate(why)) = tls else { return Fault::Cut(error.to_string()) };
    let meaning = match why {
        CertificateError::UnknownIssuer => "is not signed by an authority that this system trusts",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has expired, or the clock of this machine is wrong"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet: the clock of this machine is probably not set"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is for another host name"
        }
        _ => "does not verify",
    };
    Fault::Wrong(format!("the server's certificate {meaning} ({why})"))
}

/// A client that waits for bounded times, and over https trusts the system's roots and never leaves https.
fn agent(secure: bool) -> ureq::Agent {
    let roots = rustls_native_certs::load_native_certs();
    let roots: Vec<Certificate<'static>> =
        roots.certs.iter().map(|c| Certificate::from_der(c.as_ref()).to_owned()).collect();
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .https_only(secure)
        // A redirect could lead from this machine elsewhere, in the clear.
        .max_redirects(if secure { 5 } else { 0 })
        .timeout_connect(Some(HEAD_TIMEOUT))
        .timeout_recv_response(Some(HEAD_TIMEOUT))
        .timeout_per_read(Some(READ_TIMEOUT))
        .tls_config(tls);
    // A proxy has no business between us and this machine.
    let config = if secure { config } else { config.proxy(None) };
    config.build().new_agent()
}

fn sha256(path: &Path) -> anyhow::Result<String> {
    let failed = |e: std::io::Error| anyhow::anyhow!("{}: {e}", path.display());
    let mut file = File::open(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; PIECE];
    loop {
        let n = file.read(&mut buffer).map_err(failed)?;
        if n == 0 {
            return Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect());
        }
        hash.update(buffer.get(..n).unwrap_or_default());
    }
}

#[cfg(test)]
#[path = "pull_tests.rs"]
mod tests;
