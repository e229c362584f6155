//! The student as the commands use it: frames and telemetry of an event from the core to the worker, its answers back
//! into the report.
//!
//! [`Collector`] stands beside the core: it takes from the rings what the window of the model wants, when the alert
//! goes out and as frames come. [`Desk`] decodes, scales and speaks to the worker. `run` puts a bounded channel and a
//! thread between the two, so that nothing here can hold up the recording; `replay` and `demo` call one after the
//! other ([`Inline`]), so that the same inputs give the same bytes. Neither decides about events.

mod answers;
mod collect;
mod desk;
mod inline;
mod recorded;
mod threaded;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_core::samples::FrameMeta;
use agent_core::time::MonoTime;
use agent_wire::EventId;
use agent_worker::client::Launch;
use agent_worker::job::{ObjectRow, TelemetryRow, Window};
use agent_worker::ladder::{Step, Thermal};
use agent_worker::limits::{MAX_OBJECTS, PING_EVERY};
use agent_worker::supervisor::SupervisorConfig;

pub(crate) use answers::{Books, answer_words, words_json};
pub(crate) use collect::{Collector, Grid, telemetry_row};
pub(crate) use desk::{Desk, Done};
pub(crate) use inline::Inline;
pub(crate) use recorded::Recorded;
pub(crate) use threaded::{DeskThread, News, StudentLink, pair};

use crate::builtin;
use crate::config::Config;
use crate::exit::{Coded, Outcome};
use crate::io::thermal;
use crate::show::say;

/// What stands beside a frame that was selected.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Beside {
    /// Telemetry, where it is known.
    pub(crate) telemetry: Option<TelemetryRow>,
    /// The nearest objects.
    pub(crate) objects: heapless::Vec<ObjectRow, MAX_OBJECTS>,
}

/// From the collector to the desk, in this order for one event: begin, frames, then ask or drop.
#[derive(Debug)]
pub(crate) enum Feed {
    /// An event that the student may be asked about. Whatever was begun before is dropped.
    Begin { event: EventId, t_zero: MonoTime, window: Window },
    /// An encoded frame: all from a key frame on, those that the student sees with what stands beside them.
    Frame { meta: FrameMeta, bytes: Vec<u8>, beside: Option<Beside> },
    /// The event closed: answer. `t_zero` is its last word.
    Ask { event: EventId, t_zero: MonoTime, overrun: bool },
    /// The student is not asked after all.
    Drop,
}

/// The ladder of a configuration; `None` without a model.
pub(crate) fn ladder(config: &Config, thermal: bool) -> anyhow::Result<Option<SupervisorConfig>> {
    let s = &config.student;
    let mut steps = Vec::new();
    let own = std::env::current_exe()?;
    if let Some(path) = &s.connect {
        let launch = Launch::Connect(config.resolve(path));
        steps.push(Step { number: 0, launch: launch.clone(), max_frames: None, token_budget: None });
        steps.extend(smaller(config, launch));
    } else if let Some(model) = &s.model {
        let model = file_of(config, model)?;
        // A program without a folder in its name is looked for on the path.
        let program = s.worker.as_ref().map(|p| if p.components().count() > 1 { config.resolve(p) } else { p.clone() });
        let start = |prefix: u32| {
            let (program, sub) = program.clone().map_or_else(|| (own.clone(), true), |p| (p, false));
            launch(program, sub, &model, s.device.word(), prefix, config)
        };
        steps.push(Step { number: 0, launch: start(s.max_prefix_tokens), max_frames: None, token_budget: None });
        steps.extend(smaller(config, start(s.smaller.max_prefix_tokens)));
    }
    if let Some(small) = &s.small_model {
        let launch = launch(own, true, &file_of(config, small)?, "cpu", s.max_prefix_tokens, config);
        steps.push(Step { number: 2, launch, max_frames: None, token_budget: None });
    }
    if steps.is_empty() {
        return Ok(None);
    }
    let thermal = thermal.then(|| {
        let (thermal, missing) = heat(config);
        if let Some(why) = missing {
            say!("student: {why}: how hot the board is does not count");
        }
        thermal
    });
    Ok(Some(SupervisorConfig {
        steps,
        load_within: Duration::from_secs_f32(s.load_s),
        thermal,
        ping_every: PING_EVERY,
    }))
}

/// Where the board says how hot it is, and why that is without the zone that is configured, if it is not there.
pub(crate) fn heat(config: &Config) -> (Thermal, Option<String>) {
    let s = &config.student;
    let zone = s.thermal_zone.as_ref().map(|zone| thermal::file(zone, |path| config.resolve(path))).transpose();
    let (zone, missing) = zone.map_or_else(|why| (None, Some(why)), |zone| (zone, None));
    let throttled = s.throttled.as_ref().map(|path| config.resolve(path));
    (Thermal { zone, warm_c: s.warm_c, hot_c: s.hot_c, throttled }, missing)
}

/// A model's path, or where the shipped one lies.
fn file_of(config: &Config, model: &Path) -> anyhow::Result<PathBuf> {
    if model != Path::new(builtin::WORD) {
        return Ok(config.resolve(model));
    }
    builtin::find(builtin::STUDENT)
        .ok_or_else(|| Coded(Outcome::BadConfig, format!("student: {}", builtin::missing(builtin::STUDENT))).into())
}

fn smaller(config: &Config, launch: Launch) -> Option<Step> {
    let smaller = config.student.smaller;
    let frames = u16::try_from(smaller.frames).unwrap_or(u16::MAX);
    // A quarter of the room is left to times, telemetry and the chat format.
    let token_budget = Some(smaller.max_prefix_tokens / 4 * 3);
    (frames > 0).then_some(Step { number: 1, launch, max_frames: Some(frames), token_budget })
}

/// A child: this program's `student` command, or the worker program, which takes the same options.
fn launch(program: PathBuf, sub: bool, model: &Path, device: &str, prefix: u32, config: &Config) -> Launch {
    let s = &config.student;
    let mut args: Vec<OsString> = Vec::new();
    if sub {
        args.push("student".into());
    }
    let mut option = |name: &str, value: OsString| args.extend([name.into(), value]);
    option("--model", model.as_os_str().to_owned());
    option("--device", device.into());
    option("--threads", s.threads.to_string().into());
    option("--max-prefix-tokens", prefix.to_string().into());
    option("--backend", s.backend.word().into());
    option("--pruning", s.pruning.word().into());
    option("--memory-mb", s.memory_mb.to_string().into());
    // candle takes its number of threads from the environment, when the process starts.
    let env = if s.threads > 0 { vec![("RAYON_NUM_THREADS".into(), s.threads.to_string().into())] } else { Vec::new() };
    Launch::Child { program, args, env }
}

/// How long a job may take: the deadline of the configuration, less what the report needs to be made of it.
pub(crate) fn within(config: &Config) -> Duration {
    Duration::from_secs_f32(config.student.deadline_s)
}
