//! A Mosquitto of our own on a free loopback port, and the fleet side that listens to it.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::binary::{LIMIT, Running, eventually, json_lines};

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Stopped when dropped.
pub(crate) struct Mosquitto {
    pub(crate) port: u16,
    child: Child,
    folder: tempfile::TempDir,
}

impl Mosquitto {
    /// `None`, said in one line, where there is no Mosquitto.
    pub(crate) fn start(port: u16) -> Option<Self> {
        Self::start_with(port, &[], "")
    }

    /// With these lines in its configuration besides, in which `FOLDER` stands for the folder of these files.
    pub(crate) fn start_with(port: u16, files: &[(&str, String)], lines: &str) -> Option<Self> {
        let places = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"];
        let Some(binary) = places.into_iter().find(|p| Path::new(p).exists()) else {
            println!("SKIPPED: no mosquitto on this machine");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mosquitto.conf");
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let lines = lines.replace("FOLDER", folder.path().to_str().unwrap());
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_dest stderr\n");
        std::fs::write(&file, text + "log_type all\n" + &lines).unwrap();
        // Started by root it becomes another user, who may not write into our folder: it gets an open file.
        let log = File::create(folder.path().join("log")).unwrap();
        let child = Command::new(binary).arg("-c").arg(&file).stdout(Stdio::null()).stderr(log).spawn();
        let this = Self { port, child: child.unwrap(), folder };
        eventually("mosquitto listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(this)
    }

    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Waits until its log has a line with `text`.
    pub(crate) fn wait_log(&self, text: &str) {
        self.wait_log_times(text, 1);
    }

    /// Waits until its log has `text` so many times.
    pub(crate) fn wait_log_times(&self, text: &str, times: usize) {
        let log = self.folder.path().join("log");
        let count = |l: Vec<u8>| String::from_utf8_lossy(&l).matches(text).count();
        eventually(text, || std::fs::read(&log).is_ok_and(|l| count(l) >= times));
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `listen --json`.
pub(crate) struct Ear(Running);

impl Ear {
    /// Listens for `count` messages; returns when the subscription stands.
    pub(crate) fn start(broker: &Mosquitto, topic: &str, count: usize) -> Self {
        Self::with(broker, topic, &["--count", &count.to_string(), "--seconds", "100"])
    }

    /// Listens until [`Ear::until`] has what it wants.
    pub(crate) fn open(broker: &Mosquitto, topic: &str) -> Self {
        Self::with(broker, topic, &[])
    }

    fn with(broker: &Mosquitto, topic: &str, more: &[&str]) -> Self {
        let url = broker.url();
        let mut args = vec!["listen", "--broker", &url, "--json", "--topic", topic];
        args.extend(more);
        let running = Running::start(&crate::tidy::root(), &args);
        broker.wait_log(&format!("Sending SUBACK to listen-{}", running.id()));
        Self(running)
    }

    /// What was received, each line as JSON.
    pub(crate) fn end(self) -> Vec<Value> {
        self.0.end(LIMIT).with_code(0).json_lines()
    }

    /// Waits until what was received is enough, and gives it.
    pub(crate) fn until(&self, what: &str, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let mut lines = Vec::new();
        eventually(what, || {
            lines = json_lines(&self.0.lines());
            enough(&lines)
        });
        lines
    }
}

/// The messages of JSON lines of `listen`, refused ones as a failure.
pub(crate) fn messages(lines: &[Value]) -> Vec<Value> {
    lines
        .iter()
        .map(|line| {
            assert_eq!(line["error"], Value::Null, "{line}");
            line["message"].clone()
        })
        .collect()
}
