//! The binary under test: built once, run with a limit, its output taken whole.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A command that takes longer than this hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// How a command ended and what it said.
pub(crate) struct Ended {
    /// Exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
    /// Killed because it took longer than its limit.
    pub(crate) hung: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The same, after the exit code was held against `code`.
    pub(crate) fn with_code(self, code: i32) -> Self {
        assert!(!self.hung, "it hangs\n{}\n{}", self.stdout, self.stderr);
        assert_eq!(self.code, Some(code), "exit code\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// Each line of stdout as JSON.
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        json_lines(&self.stdout)
    }
}

/// Each line as JSON.
pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

/// A JSON file.
pub(crate) fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Where the binary is. Cargo is asked to build it, so that it is never an old one, with the profile of this test; as part of the
/// whole workspace's tests, so that it has the same features and nothing is compiled twice.
pub(crate) fn path() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(crate::tidy::root());
        cargo.args(["test", "--locked", "--workspace", "--no-run", "--message-format", "json-render-diagnostics"]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let output = cargo.stdin(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
        assert!(output.status.success(), "cargo build: {}", String::from_utf8_lossy(&output.stderr));
        let made = |line: &str| {
            let message: Value = serde_json::from_str(line).ok()?;
            let ours = message["target"]["name"] == "firmware-agent" && message["profile"]["test"] == false;
            message["executable"].as_str().filter(|_| ours).map(PathBuf::from)
        };
        String::from_utf8_lossy(&output.stdout).lines().find_map(made).expect("cargo names the executable")
    })
}

/// The binary with `args`, not started.
pub(crate) fn command<S: AsRef<std::ffi::OsStr>>(folder: &Path, args: &[S]) -> Command {
    let mut command = Command::new(path());
    command.current_dir(folder).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_remove("RUST_BACKTRACE");
    command
}

/// Runs the binary in `folder`.
pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(folder: &Path, args: &[S]) -> Ended {
    Running::start(folder, args).end(LIMIT)
}

/// A command that was started. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    output: [Output; 2],
}

/// What came on one stream so far, and the thread that reads it.
struct Output {
    so_far: Arc<Mutex<Vec<u8>>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Output {
    fn read(mut from: impl Read + Send + 'static) -> Self {
        let so_far = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&so_far);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                into.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        Self { so_far, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.so_far.lock().unwrap()).into_owned()
    }

    fn end(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.text()
    }
}

impl Running {
    pub(crate) fn start<S: AsRef<std::ffi::OsStr>>(folder: &Path, args: &[S]) -> Self {
        Self::start_command(&mut command(folder, args))
    }

    pub(crate) fn start_command(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self { child, output: [Output::read(out), Output::read(err)] }
    }

    /// The whole lines of stdout so far.
    pub(crate) fn lines(&self) -> String {
        let text = self.output[0].text();
        text.rfind('\n').map_or(String::new(), |end| text[..end].to_owned())
    }

    /// Stderr so far.
    pub(crate) fn said(&self) -> String {
        self.output[1].text()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends the signal of that name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success(), "kill -{name}");
    }

    /// Waits for the end; after `limit` it is killed.
    pub(crate) fn end(mut self, limit: Duration) -> Ended {
        let status = wait(&mut self.child, limit);
        let hung = status.is_none();
        if hung {
            let _ = self.child.kill();
        }
        let status = status.unwrap_or_else(|| self.child.wait().unwrap());
        let [stdout, stderr] = self.output.each_mut().map(Output::end);
        Ended { code: status.code(), hung, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `done`; fails after [`LIMIT`].
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "did not happen: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
