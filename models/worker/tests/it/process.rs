//! The worker process of these tests: this binary started again with one ignored test, its engine chosen by an
//! argument. It answers by rule from what it was sent, so that a test sees whether the right frames arrived.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use agent_wire::Hash8;
use agent_worker::client::Launch;
use agent_worker::job::{
    Answers, Codebook, Facts, FrameInput, JobSpec, LabelAnswer, TextAnswer, TimeAnswer, Timings, Window,
};
use agent_worker::protocol::Fault;
use agent_worker::pulse::Pulse;
use agent_worker::serve::{Engine, EngineError, serve, stdin_socket};

/// How to start it.
pub(crate) fn launch(mode: &str) -> Launch {
    let mode = format!("mode={mode}");
    let args = ["--ignored", "--exact", "process::worker_process", "--nocapture", &mode].map(Into::into).to_vec();
    Launch::Child { program: std::env::current_exe().unwrap(), args, env: Vec::new() }
}

/// Not a test by itself: the process that the others start.
#[test]
#[ignore = "the worker process of the other tests"]
fn worker_process() {
    let Some(mode) = std::env::args().find_map(|a| a.strip_prefix("mode=").map(str::to_owned)) else { return };
    let mut stream = stdin_socket().unwrap();
    let raw: Option<&[u8]> = match mode.as_str() {
        "garbage" => Some(b"HTTP/1.1 200 OK\r\n\r\n"),
        "version" => Some(&[b'F', b'S', 9, 3, 0, 0, 0, 0, 0, 0, 0, 0]),
        "oversized" => Some(&[b'F', b'S', 1, 3, 255, 255, 255, 255]),
        _ => None,
    };
    if let Some(raw) = raw {
        stream.write_all(raw).unwrap();
        std::thread::sleep(Duration::from_secs(20));
        return;
    }
    let mut load = || -> Result<Box<dyn Engine>, EngineError> {
        match mode.as_str() {
            "oom" => Err(EngineError::new(Fault::OutOfMemory, "4.1 GB needed, 1.2 GB there")),
            "corrupt" => Err(EngineError::new(Fault::Corrupt, "tensor blk.3.attn_q.weight is cut off")),
            "load-hang" => loop {
                std::thread::sleep(Duration::from_secs(1));
            },
            _ => Ok(Box::new(Rule::new(&mode))),
        }
    };
    // How it ended is seen at the other end.
    let _ = serve(stream, &mut None, &mut load, &Pulse::new(std::time::Instant::now()));
}

/// An engine that answers by rule.
struct Rule {
    mode: String,
    facts: Facts,
    sums: Vec<(f32, u64)>,
    rows: usize,
    budget: Option<u32>,
}

impl Rule {
    fn new(mode: &str) -> Self {
        let small = Window { frames: 4, fps: 1.5, before_s: 1.0, after_s: 1.0, width: 24, height: 16 };
        let facts = Facts {
            model: Hash8([7; 8]),
            name: mode.to_owned(),
            licence: "Apache-2.0".to_owned(),
            parameters: 1,
            device: "test".to_owned(),
            window: if mode == "small" { small } else { Window { width: 42, height: 24, ..Window::default() } },
            telemetry: mode == "telemetry",
            objects: false,
            trained_on: None,
            calibrated: true,
            codebook: Codebook {
                version: 3,
                description: vec!["car hits car".to_owned()],
                cause: vec![],
                prevention: vec![],
            },
        };
        Self { mode: mode.to_owned(), facts, sums: Vec::new(), rows: 0, budget: None }
    }
}

impl Engine for Rule {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn begin(&mut self, spec: &JobSpec) -> Result<(), EngineError> {
        (self.sums, self.rows, self.budget) = (Vec::new(), 0, spec.token_budget);
        Ok(())
    }

    fn push_frame(&mut self, frame: &FrameInput<'_>) -> Result<(), EngineError> {
        if self.mode == "dies" && self.sums.len() == 5 {
            std::process::exit(3);
        }
        while self.mode == "frame-hang" && self.sums.len() == 5 {
            std::thread::sleep(Duration::from_secs(1));
        }
        if self.mode == "frame-oom" && self.sums.len() == 5 {
            return Err(EngineError::new(Fault::OutOfMemory, "no room for the sixth frame"));
        }
        self.sums.push((frame.t_s, frame.rgb.iter().map(|b| u64::from(*b)).sum()));
        self.rows += usize::from(frame.telemetry.is_some());
        Ok(())
    }

    fn answer(
        &mut self,
        cancel: &dyn Fn() -> bool,
        on_label: &mut dyn FnMut(&LabelAnswer),
    ) -> Result<Answers, EngineError> {
        let probability = if self.mode == "nan" { f32::NAN } else { 0.75 };
        let label = LabelAnswer { probability, calibrated: true };
        on_label(&label);
        match self.mode.as_str() {
            "hang" => loop {
                std::thread::sleep(Duration::from_secs(1));
            },
            "slow" => loop {
                if cancel() {
                    return Err(EngineError::new(Fault::Cancelled, "cancelled"));
                }
                std::thread::sleep(Duration::from_millis(5));
            },
            "panics" => panic!("as asked"),
            _ => {}
        }
        let (first, last) = (self.sums.first().map_or(0.0, |s| s.0), self.sums.last().map_or(0.0, |s| s.0));
        let known = |code, text: &str| Some(TextAnswer { code: Some(code), text: text.to_owned(), probability: 0.5 });
        Ok(Answers {
            label,
            severity: None,
            description: known(0, "car hits car"),
            // A code that its own codebook does not have.
            cause: known(9, "unknown road"),
            prevention: Some(TextAnswer {
                code: None,
                text: format!(
                    "sum {} rows {} budget {:?}",
                    self.sums.iter().map(|s| s.1).sum::<u64>(),
                    self.rows,
                    self.budget
                ),
                probability: 1.0,
            }),
            crash: Some(TimeAnswer { from_s: first, to_s: last, probability: 0.5 }),
            pre_crash: None,
            frames: self.sums.len() as u16,
            telemetry: self.rows > 0,
            ladder_step: 0,
            timings: Timings::default(),
        })
    }

    fn ask(&mut self, question: &str, _: u16, _: &dyn Fn() -> bool) -> Result<String, EngineError> {
        Ok(format!("{question} {} frames", self.sums.len()))
    }
}

/// A path in which nothing is installed.
pub(crate) fn nowhere() -> Launch {
    Launch::Child { program: PathBuf::from("/nonexistent/student"), args: Vec::new(), env: Vec::new() }
}
