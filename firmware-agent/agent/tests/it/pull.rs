//! `models pull` over https, against a server on this machine with certificates made here: one that is trusted, those that
//! are not, and a connection that is cut within the file.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::program::{Ended, Running, text};

/// An authority that signs, and its certificate as a system keeps it.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// What a server needs to be `name`, from the start of one year to the start of another.
    fn server(&self, name: &str, years: [i32; 2]) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        [params.not_before, params.not_after] = years.map(|year| date_time_ymd(year, 1, 1));
        let chain = vec![CertificateDer::from(params.signed_by(&key, &self.issuer).unwrap().der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key);
        Arc::new(config.unwrap())
    }
}

/// A server of one file: its first answer ends after `cut` bytes without a goodbye, the next are whole.
struct Server {
    port: u16,
    /// The begins of the ranges that were asked for; none for the whole file.
    asked: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Server {
    fn start(config: Arc<ServerConfig>, content: Vec<u8>, cut: Option<usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut cut = cut;
            for stream in listener.incoming().map_while(Result::ok) {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                // A client that refuses the certificate ends the connection before it asks.
                if let Some(from) = question(StreamOwned::new(connection, stream), &content, cut) {
                    kept.lock().unwrap().push(from);
                    cut = None;
                }
            }
        });
        Self { port, asked }
    }
}

/// Answers one request; gives the begin of the range that it asked for.
fn question(
    mut stream: StreamOwned<ServerConnection, TcpStream>,
    content: &[u8],
    cut: Option<usize>,
) -> Option<Option<usize>> {
    let mut from = None;
    let mut lines = BufReader::new(&mut stream).lines();
    loop {
        let line = lines.next()?.ok()?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.strip_suffix('-').and_then(|n| n.parse().ok());
        }
    }
    let (start, total) = (from.unwrap_or(0), content.len());
    let status = match from {
        Some(_) => format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{total}", total - 1),
        None => "200 OK".to_owned(),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", total - start);
    stream.write_all(head.as_bytes()).ok()?;
    let end = cut.map_or(total, |cut| total.min(start + cut));
    // The client may be gone.
    let _ = stream.write_all(&content[start..end]).and_then(|()| stream.flush());
    if cut.is_none() {
        stream.conn.send_close_notify();
        let _ = stream.flush();
    }
    Some(from)
}

fn content() -> Vec<u8> {
    (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Pulls from that server on a system that trusts `trusted` alone.
fn pull(folder: &Path, server: &Server, trusted: &Authority) -> Ended {
    let hash: String = Sha256::digest(content()).iter().map(|b| format!("{b:02x}")).collect();
    let manifest = format!(
        "file = \"m.gguf\"\nurl = \"https://localhost:{}/m.gguf\"\nsize = {}\nsha256 = \"{hash}\"\n\
         [licence]\nname = \"MIT\"\nurl = \"https://example.invalid/MIT\"\n",
        server.port,
        content().len()
    );
    let [path, roots, out] = ["m.toml", "roots.pem", "m.gguf"].map(|name| folder.join(name));
    fs::write(&path, manifest).unwrap();
    fs::write(&roots, &trusted.pem).unwrap();
    let args = ["models", "pull", text(&path), "--accept-licence", "--out", text(&out)];
    // A proxy of the machine that runs the tests has no business here.
    let variables = [("SSL_CERT_FILE", text(&roots)), ("SSL_CERT_DIR", ""), ("NO_PROXY", "localhost")];
    Running::start_with(&args, &variables).end(|_| ())
}

#[test]
fn a_trusted_server_is_believed_and_a_cut_file_is_continued() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let server = Server::start(authority.server("localhost", [2020, 2090]), content(), Some(100_000));
    let ended = pull(folder.path(), &server, &authority).with_code(0);
    assert!(ended.stderr.contains("cut at byte "), "{}", ended.stderr);
    let asked = server.asked.lock().unwrap().clone();
    assert!(matches!(asked[..], [None, Some(1..=100_000)]), "{asked:?}");
    assert_eq!(fs::read(folder.path().join("m.gguf")).unwrap(), content());
    assert!(!folder.path().join("m.gguf.part").exists());
    let said: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&said["bytes"], &said["resumed_from"]), (&json!(300_000), &json!(0)));
}

#[test]
fn a_file_cut_in_an_earlier_call_is_continued_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    fs::write(folder.path().join("m.gguf.part"), &content()[..123_456]).unwrap();
    let server = Server::start(authority.server("localhost", [2020, 2090]), content(), None);
    let ended = pull(folder.path(), &server, &authority).with_code(0);
    assert_eq!(*server.asked.lock().unwrap(), [Some(123_456)]);
    assert_eq!(fs::read(folder.path().join("m.gguf")).unwrap(), content());
    let said: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(said["resumed_from"], 123_456);
}

#[test]
fn a_certificate_that_does_not_verify_is_refused_at_once_and_named() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    for (config, says) in [
        (theirs.server("localhost", [2020, 2090]), "is not signed by an authority that this system trusts"),
        (ours.server("other.example", [2020, 2090]), "is for another host name"),
        (ours.server("localhost", [2020, 2021]), "has expired, or the clock of this machine is wrong"),
        (ours.server("localhost", [2080, 2090]), "is not valid yet: the clock of this machine is probably not set"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(config, content(), None);
        let ended = pull(folder.path(), &server, &ours).with_code(4);
        let wanted = format!("https://localhost:{}/m.gguf: the server's certificate {says} (", server.port);
        assert!(ended.stderr.contains(&wanted), "{}", ended.stderr);
        assert!(!ended.stderr.contains("cut at byte"), "it was tried again: {}", ended.stderr);
        assert!(server.asked.lock().unwrap().is_empty(), "something was asked of a server that is not trusted");
        assert!(!folder.path().join("m.gguf").exists());
    }
}
