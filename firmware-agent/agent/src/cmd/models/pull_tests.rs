//! `models pull` against a server on this machine that cuts, lies and refuses.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};

use super::*;
use crate::exit::outcome_of;

/// What the server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Serves at most so many bytes of what was asked, then cuts.
    Cut(usize),
    /// Serves what was asked.
    Serve,
    /// Knows no ranges: sends all of it.
    NoRanges,
    /// Sends a byte too many, as all of it.
    TooMuch,
    /// Answers a range request with another range.
    OtherRange,
    /// Redirects elsewhere.
    Redirect,
    /// Answers with a status.
    Status(u16),
}

/// A server that answers each request in the next manner, the last one for ever; it keeps the ranges asked for.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Server {
    fn start(content: Vec<u8>, manners: Vec<Manner>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut manners = manners.into_iter().peekable();
            for stream in listener.incoming().map_while(Result::ok) {
                let Some(manner) = manners.peek().copied() else { return };
                if manners.len() > 1 {
                    manners.next();
                }
                answer(stream, &content, manner, &kept);
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<Option<usize>> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(mut stream: TcpStream, content: &[u8], manner: Manner, asked: &Mutex<Vec<Option<usize>>>) {
    let mut from = None;
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while let Some(Ok(line)) = lines.next().filter(|l| l.as_ref().is_ok_and(|l| !l.is_empty())) {
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            from = range.strip_suffix('-').and_then(|n| n.parse().ok());
        }
    }
    asked.lock().unwrap().push(from);
    let total = content.len();
    let start = from.unwrap_or(0);
    let close = "Connection: close\r\n\r\n";
    let ranged = |shown: usize| {
        if from.is_some() {
            let range = format!("Content-Range: bytes {shown}-{}/{total}", total - 1);
            format!("HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\n{range}\r\n{close}", total - start)
        } else {
            format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n{close}")
        }
    };
    let (head, body) = match manner {
        Manner::Cut(n) => (ranged(start), content[start..total.min(start + n)].to_vec()),
        Manner::Serve => (ranged(start), content[start..].to_vec()),
        Manner::NoRanges => (format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n{close}"), content.to_vec()),
        Manner::TooMuch => (
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{close}", total + 1),
            content.iter().copied().chain([0]).collect(),
        ),
        Manner::OtherRange => (ranged(start + 1), content[start..].to_vec()),
        Manner::Redirect => (format!("HTTP/1.1 302 Found\r\nLocation: http://example.invalid/\r\n{close}"), Vec::new()),
        Manner::Status(s) => (format!("HTTP/1.1 {s} X\r\nContent-Length: 0\r\n{close}"), Vec::new()),
    };
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

fn content() -> Vec<u8> {
    (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn manifest(dir: &Path, url: &str, content: &[u8]) -> ModelsPullArgs {
    let hash: String = Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect();
    let text = format!(
        "file = \"m.gguf\"\nurl = \"{url}\"\nsize = {}\nsha256 = \"{hash}\"\n[licence]\nname = \"MIT\"\nurl = \"https://example.invalid/MIT\"\n",
        content.len()
    );
    let path = dir.join("m.toml");
    std::fs::write(&path, text).unwrap();
    ModelsPullArgs { manifest: path, out: Some(dir.join("m.gguf")), accept_licence: true }
}

/// Pulls from a server with these manners; gives what stands there afterwards and what was asked.
fn pulled(dir: &Path, manners: Vec<Manner>) -> (anyhow::Result<Outcome>, Vec<Option<usize>>) {
    let server = Server::start(content(), manners);
    let args = manifest(dir, &format!("http://{}/m.gguf", server.address), &content());
    let ended = pull(&args);
    (ended, server.asked())
}

#[test]
fn a_cut_connection_is_continued_where_it_broke() {
    let dir = tempfile::tempdir().unwrap();
    let (ended, asked) =
        pulled(dir.path(), vec![Manner::Cut(100_000), Manner::Status(503), Manner::Cut(1), Manner::Serve]);
    assert_eq!(ended.unwrap(), Outcome::Done);
    assert_eq!(asked, [None, Some(100_000), Some(100_000), Some(100_001)]);
    assert_eq!(std::fs::read(dir.path().join("m.gguf")).unwrap(), content());
    assert!(!dir.path().join("m.gguf.part").exists());
}

#[test]
fn a_later_call_continues_and_a_third_fetches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (ended, _) = pulled(dir.path(), vec![Manner::Cut(70_000), Manner::Status(503)]);
    let error = ended.unwrap_err();
    assert_eq!(outcome_of(&error), Outcome::Failed);
    assert!(error.to_string().contains("given up at byte 70000"), "{error}");
    assert!(!dir.path().join("m.gguf").exists());
    let (ended, asked) = pulled(dir.path(), vec![Manner::Serve]);
    assert_eq!((ended.unwrap(), asked), (Outcome::Done, vec![Some(70_000)]));
    let (ended, asked) = pulled(dir.path(), vec![Manner::Serve]);
    assert_eq!((ended.unwrap(), asked), (Outcome::Done, vec![]));
}

#[test]
fn a_server_without_ranges_starts_again() {
    let dir = tempfile::tempdir().unwrap();
    let (ended, asked) = pulled(dir.path(), vec![Manner::Cut(50_000), Manner::NoRanges]);
    assert_eq!((ended.unwrap(), asked), (Outcome::Done, vec![None, Some(50_000)]));
    assert_eq!(std::fs::read(dir.path().join("m.gguf")).unwrap(), content());
}

#[test]
fn what_is_not_the_file_is_never_put_in_place() {
    for (manners, says) in [
        (vec![Manner::TooMuch], "more than the 300000 bytes"),
        (vec![Manner::Cut(9), Manner::OtherRange], "the server sends \"bytes 10-299999/300000\""),
        (vec![Manner::Status(404)], "status 404"),
        (vec![Manner::Cut(9), Manner::Status(416)], "shorter than the manifest says"),
        (vec![Manner::Redirect], "302"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let before = b"an older model".to_vec();
        std::fs::write(dir.path().join("m.gguf"), &before).unwrap();
        let (ended, _) = pulled(dir.path(), manners.clone());
        let error = ended.unwrap_err();
        assert_eq!(outcome_of(&error), Outcome::BadInput, "{manners:?}: {error}");
        assert!(error.to_string().contains(says), "{manners:?}: {error}");
        assert_eq!(std::fs::read(dir.path().join("m.gguf")).unwrap(), before);
    }
}

#[test]
fn a_wrong_hash_is_refused_and_leaves_nothing_to_continue() {
    let dir = tempfile::tempdir().unwrap();
    let mut other = content();
    other[123_456] ^= 1;
    let server = Server::start(other, vec![Manner::Serve]);
    let error = pull(&manifest(dir.path(), &format!("http://{}/m", server.address), &content())).unwrap_err();
    assert_eq!(outcome_of(&error), Outcome::BadInput);
    assert!(error.to_string().contains("SHA-256"), "{error}");
    assert!(!dir.path().join("m.gguf").exists() && !dir.path().join("m.gguf.part").exists());
}

#[test]
fn nothing_is_asked_before_the_licence_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(content(), vec![Manner::Serve]);
    let mut args = manifest(dir.path(), &format!("http://{}/m", server.address), &content());
    args.accept_licence = false;
    assert_eq!(outcome_of(&pull(&args).unwrap_err()), Outcome::Usage);
    assert!(server.asked().is_empty());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_file_of_this_machine_is_copied_under_the_same_checks() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("source.gguf"), content()).unwrap();
    // What an earlier attempt left, and what is too long to be of this file.
    for left in [content()[..1000].to_vec(), vec![0; 300_001]] {
        std::fs::write(dir.path().join("m.gguf.part"), left).unwrap();
        let args = manifest(dir.path(), "source.gguf", &content());
        assert_eq!(pull(&args).unwrap(), Outcome::Done);
        assert_eq!(std::fs::read(dir.path().join("m.gguf")).unwrap(), content());
        std::fs::remove_file(dir.path().join("m.gguf")).unwrap();
    }
    let args = manifest(dir.path(), "absent.gguf", &content());
    assert_eq!(outcome_of(&pull(&args).unwrap_err()), Outcome::BadInput);
}

#[test]
fn two_pulls_of_one_file_do_not_mix() {
    let dir = tempfile::tempdir().unwrap();
    let held = Part::open(&dir.path().join("m.gguf"), 10).unwrap();
    let error = Part::open(&dir.path().join("m.gguf"), 10).err().unwrap();
    assert!(error.to_string().contains("another pull"), "{error}");
    drop(held);
    assert!(Part::open(&dir.path().join("m.gguf"), 10).is_ok());
}
