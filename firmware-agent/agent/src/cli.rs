//! The command line: `--help` of each command is its reference. Results go to stdout or files, everything else to
//! stderr.

mod update;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::link::TlsKey;
pub(crate) use update::{UpdateArgs, UpdateCommand, UpdateMakeArgs};

/// Edge agent for fleet dashcams: notices a crash, says at once that it happened and soon what it was, and keeps the
/// evidence. Exit codes: 0 done, 1 failed, 2 wrong command line, 3 configuration refused, 4 input unreadable,
/// 5 finished with loss, 6 finished with messages undelivered, 7 evidence or update that nobody vouches for, 8 an update was
/// fallen back from: start again.
#[derive(Debug, Parser)]
#[command(name = "firmware-agent", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The daemon: takes its sources from the configuration, sends alerts and reports to the broker
    Run(RunArgs),
    /// The unit's own sensors into a drive, in the order of time, until it is stopped
    Record(RecordArgs),
    /// The main job on embedded defaults: a bundled synthetic drive with a crash, an embedded broker, an event page
    Demo(DemoArgs),
    /// Logged drives through the pipeline, as fast as the machine allows
    Replay(ReplayArgs),
    /// Makes a drive from video, candump log, IMU CSV or a comma2k19 segment
    Import(ImportArgs),
    /// The fleet side: decodes what units publish
    Listen(ListenArgs),
    /// Shows a drive, an evidence file, a message, a trigger model or a model file
    Inspect(InspectArgs),
    /// Makes and shows keys: a unit's, which signs evidence, and a fleet's, which signs commands and updates
    Keys(KeysArgs),
    /// The fleet side: makes a signed command for one unit, and sends it
    #[command(name = "command")]
    Order(CommandArgs),
    /// Signed updates of models and configuration: makes, shows, installs them, goes back
    Update(UpdateArgs),
    /// Makes, fetches and checks model files of the student; probe files of the trigger's networks
    Models(ModelsArgs),
    /// The student's worker: started by the other commands, or by a service manager with --listen
    Student(StudentArgs),
    /// Puts a free question about an event to the student
    Ask(AskArgs),
    /// Makes a simulated drive of a scenario and a seed, and its truth; or clips of many seeds for training
    Simulate(SimulateArgs),
    /// Scores the agent on drives with a known truth: figures with intervals, a table, JSON and a page with plots
    Eval(EvalArgs),
    /// Resolves and prints the effective configuration, or every error with its line
    CheckConfig(CheckConfigArgs),
    /// Says what works on this unit, as JSON lines with advice: camera, CAN, IMU, GNSS, lines, clock, models, disk, broker,
    /// certificates, the token of their key, the unit's key, commands, updates
    Doctor(DoctorArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Configuration file (TOML)
    #[arg(long)]
    pub(crate) config: PathBuf,
    /// Model file of the student that describes events, builtin for the one that ships, or none (overrides the
    /// configuration)
    #[arg(long)]
    pub(crate) student: Option<PathBuf>,
    /// Stop after this many seconds of wall time (for tests)
    #[arg(long, hide = true)]
    pub(crate) stop_after_s: Option<f64>,
    /// Log, for each first alert, when its record was handed over and when the outbox had it (for benchmarks)
    #[arg(long, hide = true)]
    pub(crate) latency_log: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// Configuration file (TOML) with sources.kind = "device"
    #[arg(long)]
    pub(crate) config: PathBuf,
    /// The drive to make; it must not be there yet
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Stop after this many seconds (default: at SIGINT or SIGTERM)
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
    /// Stop when the drive has about this many MB
    #[arg(long, default_value_t = 10_000)]
    pub(crate) max_mb: u32,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Where the drive, the evidence and the event page are written
    #[arg(long, default_value = "demo-out")]
    pub(crate) out: PathBuf,
    /// Seed of the synthetic drive
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// A broker to publish to, mqtt://HOST[:PORT] or mqtts:// (default: one inside this program, on loopback)
    #[arg(long)]
    pub(crate) broker: Option<String>,
    /// Model file of the student that describes the event, or none (default: the one that ships, where it is found)
    #[arg(long)]
    pub(crate) student: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Drives (MCAP), each replayed on its own, in the order given
    #[arg(required = true)]
    pub(crate) drives: Vec<PathBuf>,
    /// Where messages.jsonl, summary.json, timings.json and events/ are written
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Configuration file; embedded defaults without it
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// Also publish to this broker (mqtt://host:port), through the durable outbox
    #[arg(long)]
    pub(crate) broker: Option<String>,
    /// Pace the drive in real time
    #[arg(long)]
    pub(crate) realtime: bool,
    /// Manifest of the trigger model (overrides the configuration); its ONNX file stands beside it or is given by --onnx
    #[arg(long)]
    pub(crate) trigger: Option<PathBuf>,
    /// ONNX file of --trigger, when it stands elsewhere
    #[arg(long, requires = "trigger")]
    pub(crate) onnx: Option<PathBuf>,
    /// DBC file that decodes the drive's CAN frames (overrides the configuration)
    #[arg(long)]
    pub(crate) dbc: Option<PathBuf>,
    /// Signal of that DBC: NAME=MESSAGE.SIGNAL[*SCALE], e.g. speed=SPEED.SPEED*0.27778; may be repeated
    #[arg(long, requires = "dbc")]
    pub(crate) signal: Vec<String>,
    /// Model file of the student that describes events, builtin for the one that ships, or none (overrides the
    /// configuration)
    #[arg(long)]
    pub(crate) student: Option<PathBuf>,
    /// The student is not given telemetry (overrides the configuration); events come as usual
    #[arg(long)]
    pub(crate) no_telemetry: bool,
    /// Write one line for each scored frame (time, risk, time to collision) to DIR/risk.csv
    #[arg(long)]
    pub(crate) risk_log: bool,
    /// Write no evidence files and no pages
    #[arg(long)]
    pub(crate) no_evidence: bool,
}

/// Which drives may be scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum EvalSplit {
    Test,
    Validation,
    Train,
    All,
}

impl EvalSplit {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Validation => "validation",
            Self::Train => "train",
            Self::All => "all",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// Folder of drives X.mcap with their truth X.mcap.truth.json (`simulate` makes both)
    #[arg(long)]
    pub(crate) drives: PathBuf,
    /// Folder with what `replay` wrote of each drive, in X/; without it every drive is replayed into OUT/replays/X
    #[arg(long, conflicts_with_all = ["config", "trigger", "onnx", "dbc", "signal", "student", "no_telemetry"])]
    pub(crate) results: Option<PathBuf>,
    /// Folder like --results, of a baseline's student on the same drives: its confusions are the wrong options of multiple
    /// choice
    #[arg(long)]
    pub(crate) baseline: Option<PathBuf>,
    /// Where eval.json, eval.html and the replays are written
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Split that every drive must be of; `all` takes any and marks the result as mixed
    #[arg(long, value_enum, default_value = "test")]
    pub(crate) split: EvalSplit,
    /// Print eval.json instead of the table
    #[arg(long)]
    pub(crate) json: bool,
    /// Configuration file of the replays; without it the defaults with the simulator's bus
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// Manifest of the trigger model (overrides the configuration); its ONNX file stands beside it or is given by --onnx
    #[arg(long)]
    pub(crate) trigger: Option<PathBuf>,
    /// ONNX file of --trigger, when it stands elsewhere
    #[arg(long, requires = "trigger")]
    pub(crate) onnx: Option<PathBuf>,
    /// DBC file that decodes the drives' CAN frames (overrides the configuration)
    #[arg(long)]
    pub(crate) dbc: Option<PathBuf>,
    /// Signal of that DBC: NAME=MESSAGE.SIGNAL[*SCALE]; may be repeated
    #[arg(long, requires = "dbc")]
    pub(crate) signal: Vec<String>,
    /// Model file of the student that describes events (overrides the configuration)
    #[arg(long)]
    pub(crate) student: Option<PathBuf>,
    /// The student is not given telemetry, though events come as usual: what it says of the video alone
    #[arg(long)]
    pub(crate) no_telemetry: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The drive to make
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Video file (H.264 in MP4; other codecs with the gstreamer feature)
    #[arg(long)]
    pub(crate) video: Option<PathBuf>,
    /// Seconds added to the video's times
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub(crate) video_offset_s: f64,
    /// candump log (-L format), plain or .gz
    #[arg(long)]
    pub(crate) candump: Option<PathBuf>,
    /// Seconds added to the log's times; without it the log is moved to begin at 0 when combined with a video
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) candump_offset_s: Option<f64>,
    /// IMU CSV file
    #[arg(long)]
    pub(crate) imu_csv: Option<PathBuf>,
    /// Columns of --imu-csv: t=NAME[:s|ms|us|ns],x=NAME,y=NAME,z=NAME[,gx=NAME,gy=NAME,gz=NAME][,accel=g|mps2][,gyro=radps|degps]
    #[arg(long, requires = "imu_csv")]
    pub(crate) imu_columns: Option<String>,
    /// Seconds added to the CSV's times; without it as --candump-offset-s
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) imu_offset_s: Option<f64>,
    /// comma2k19 segment folder
    #[arg(long)]
    pub(crate) comma2k19: Option<PathBuf>,
    /// Seconds added to the segment's times; without it as --candump-offset-s
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) comma2k19_offset_s: Option<f64>,
    /// DBC file that restores the lengths of the segment's CAN frames
    #[arg(long, requires = "comma2k19")]
    pub(crate) dbc: Option<PathBuf>,
    /// The inputs were recorded together: the drive is no composite
    #[arg(long)]
    pub(crate) same_recording: bool,
    /// Say in the drive that its content is simulated or synthetic
    #[arg(long)]
    pub(crate) simulated: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// Built-in scenario or scenario file (.toml); with --batch any number of them, or none for the built-in mix
    pub(crate) scenario: Vec<String>,
    /// Name the built-in scenarios
    #[arg(long)]
    pub(crate) list: bool,
    /// Same scenario and seed, same drive
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// The drive to make (the truth goes to DRIVE.truth.json), or with --batch a folder
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Width of the pictures
    #[arg(long, default_value_t = 640)]
    pub(crate) width: usize,
    /// Height of the pictures
    #[arg(long, default_value_t = 384)]
    pub(crate) height: usize,
    /// Pictures a second; 0 for a drive without a camera
    #[arg(long, default_value_t = 12.5)]
    pub(crate) fps: f64,
    /// Inertial samples a second
    #[arg(long, default_value_t = 100)]
    pub(crate) imu_hz: usize,
    /// Fixes a second
    #[arg(long, default_value_t = 5)]
    pub(crate) gnss_hz: usize,
    /// Make short clips of many seeds as NumPy arrays, without video
    #[arg(long, requires = "seeds")]
    pub(crate) batch: bool,
    /// Seeds of a batch: A..B, B left out
    #[arg(long)]
    pub(crate) seeds: Option<String>,
    /// Only the seeds of this split: train, validation or test
    #[arg(long)]
    pub(crate) split: Option<String>,
    /// Length of a clip of a batch, seconds
    #[arg(long, default_value_t = 8.0)]
    pub(crate) clip_s: f64,
    /// Clips in a shard
    #[arg(long, default_value_t = 64)]
    pub(crate) per_shard: usize,
    /// Threads of a batch
    #[arg(long, default_value_t = 1)]
    pub(crate) jobs: usize,
}

#[derive(Debug, Args)]
pub(crate) struct ListenArgs {
    /// Broker, mqtt://host:port
    #[arg(long)]
    pub(crate) broker: String,
    /// Topic filter
    #[arg(long, default_value = "fleet/#")]
    pub(crate) topic: String,
    /// Known answers in words: the codebook.json of a replay, or the student's model file
    #[arg(long)]
    pub(crate) codebook: Option<PathBuf>,
    /// For mqtts: PEM of the authorities to trust, instead of the system's
    #[arg(long)]
    pub(crate) ca: Option<PathBuf>,
    /// For mqtts: PEM of a client certificate
    #[arg(long, requires = "key")]
    pub(crate) certificate: Option<PathBuf>,
    /// For mqtts: PEM of its key, or a URI "pkcs11:..." of one in a token
    #[arg(long, requires = "certificate")]
    pub(crate) key: Option<TlsKey>,
    /// One JSON object a line instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Stop after this many messages
    #[arg(long)]
    pub(crate) count: Option<u64>,
    /// Stop after this many seconds
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A drive or evidence file (.mcap), a message (binary envelope), a trigger manifest (.toml), a
    /// model file of the student (.gguf)
    pub(crate) file: PathBuf,
    /// JSON on stdout instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Hold an evidence file against its chain: what was changed, taken out, moved or added, and who signed it
    #[arg(long)]
    pub(crate) verify: bool,
    /// The unit's public key that must have signed it: 64 hexadecimal digits, or a file
    #[arg(long, requires = "verify")]
    pub(crate) key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Makes a secret key that its owner alone may read, and prints the public half
    Make {
        /// The file to make; one that is there is never replaced
        file: PathBuf,
    },
    /// Prints the public half of a key
    Show {
        /// File of a secret or a public key (PEM, or hexadecimal digits)
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("action").required(true))]
#[command(group = clap::ArgGroup::new("to").required(true).multiple(true))]
pub(crate) struct CommandArgs {
    /// The fleet's secret key (PEM)
    #[arg(long)]
    pub(crate) key: PathBuf,
    /// Fleet of the unit
    #[arg(long)]
    pub(crate) fleet: String,
    /// Name of the unit
    #[arg(long)]
    pub(crate) unit: String,
    /// Higher than that of every earlier command of this key to this unit (default: this machine's Unix time, milliseconds)
    #[arg(long)]
    pub(crate) counter: Option<u64>,
    /// Ask for a health message now
    #[arg(long, group = "action")]
    pub(crate) send_health: bool,
    /// Never rotate this event's evidence away: its id, as UNIT_BOOT_SEQ
    #[arg(long, group = "action")]
    pub(crate) keep_evidence: Option<String>,
    /// Send it by this broker
    #[arg(long, group = "to")]
    pub(crate) broker: Option<String>,
    /// Write it to this file
    #[arg(long, group = "to")]
    pub(crate) out: Option<PathBuf>,
    /// Let the broker keep it for a unit that is away; it replaces one that was kept before
    #[arg(long, requires = "broker")]
    pub(crate) retain: bool,
    /// For mqtts: PEM of the authorities to trust, instead of the system's
    #[arg(long)]
    pub(crate) ca: Option<PathBuf>,
    /// For mqtts: PEM of a client certificate
    #[arg(long, requires = "tls_key")]
    pub(crate) certificate: Option<PathBuf>,
    /// For mqtts: PEM of its key, or a URI "pkcs11:..." of one in a token
    #[arg(long, requires = "certificate")]
    pub(crate) tls_key: Option<TlsKey>,
}

#[derive(Debug, Args)]
pub(crate) struct StudentArgs {
    #[command(flatten)]
    pub(crate) worker: agent_student::serve::WorkerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AskArgs {
    /// Evidence file of the event (.mcap)
    pub(crate) event: PathBuf,
    /// The question
    pub(crate) question: String,
    /// Model file (overrides the configuration)
    #[arg(long)]
    pub(crate) model: Option<PathBuf>,
    /// Configuration file; embedded defaults without it
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// Most tokens of the answer
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub(crate) max_tokens: u16,
}

#[derive(Debug, Args)]
pub(crate) struct CheckConfigArgs {
    /// Configuration file (TOML)
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Configuration file (TOML)
    #[arg(long)]
    pub(crate) config: PathBuf,
    /// How long the camera is watched, seconds
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
}

#[derive(Debug, Args)]
pub(crate) struct ModelsArgs {
    #[command(subcommand)]
    pub(crate) command: ModelsCommand,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "made once, at the start")]
pub(crate) enum ModelsCommand {
    /// A checkpoint, with an adapter merged into it, to one quantised model file (GGUF)
    Import(Box<ModelsImportArgs>),
    /// Checks all of a model file and says what it is
    Verify {
        /// Model file (.gguf)
        file: PathBuf,
    },
    /// Asks a model file about events whose outcome is known and writes its scores, for `calibrate`
    Score(ModelsScoreArgs),
    /// Fits the probability of a collision to scores of this very file and writes the file with the calibration
    Calibrate(ModelsCalibrateArgs),
    /// Fetches a model file by its manifest, once its licence is accepted
    Pull(ModelsPullArgs),
    /// Writes what tract says to a probe of a trigger detector or risk head, beside its ONNX file: units, whose program is built
    /// without tract, take no other file for its word, and with it every program starts faster
    Probe {
        /// Manifest of the detector or the risk head (.toml), its ONNX file beside it
        manifest: PathBuf,
    },
    /// Writes the language half alone, for llama.cpp
    ExportLanguage {
        /// Model file (.gguf)
        file: PathBuf,
        /// The file to make
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ModelsImportArgs {
    /// Folder of the base checkpoint: config, tokenizer, safetensors or pytorch_model.bin, whole or in shards
    #[arg(long)]
    pub(crate) base: PathBuf,
    /// Folder of a PEFT adapter (LoRA or DoRA) to merge
    #[arg(long)]
    pub(crate) adapter: Option<PathBuf>,
    /// Weights trained outside the adapter (non_lora_trainables.bin)
    #[arg(long)]
    pub(crate) non_lora: Option<PathBuf>,
    /// Your copy of CrashChat's six annotation files (folder), or a TOML or JSON file with the questions
    #[arg(long)]
    pub(crate) prompts: PathBuf,
    /// Types of the file: f32, f16, q8_0 or q4_k
    #[arg(long, default_value = "q4_k")]
    pub(crate) quantize: String,
    /// The model file to make
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Name of the model (default: the base folder's)
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Licence of the result (default: what the checkpoint states)
    #[arg(long)]
    pub(crate) licence: Option<String>,
    /// It was trained with telemetry as text
    #[arg(long)]
    pub(crate) telemetry: bool,
    /// It was trained with the table of objects
    #[arg(long)]
    pub(crate) objects: bool,
    /// It was trained on its known answers alone: nothing else is decoded
    #[arg(long)]
    pub(crate) closed_answers: bool,
    /// What it was trained on, in a word, said wherever its answers are shown: simulated
    #[arg(long)]
    pub(crate) trained_on: Option<String>,
    /// Frames of the window that it was trained for (default: 18)
    #[arg(long)]
    pub(crate) frames: Option<usize>,
    /// Frames a second (default: 3)
    #[arg(long)]
    pub(crate) fps: Option<f32>,
    /// Seconds before the event (default: 4)
    #[arg(long)]
    pub(crate) before_s: Option<f32>,
    /// Seconds after it (default: 2)
    #[arg(long)]
    pub(crate) after_s: Option<f32>,
    /// Size of a frame, WIDTHxHEIGHT (default: 420x252)
    #[arg(long)]
    pub(crate) frame_size: Option<String>,
    /// Most vision tokens of a window (default: the checkpoint's, else 10240)
    #[arg(long)]
    pub(crate) max_tokens: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct ModelsScoreArgs {
    /// Model file (.gguf), not calibrated
    pub(crate) file: PathBuf,
    /// Evidence files and what they were, a line each: {"event": "FILE.mcap", "collision": true or false}; FILE from where
    /// the list stands
    #[arg(long)]
    pub(crate) events: PathBuf,
    /// The scores to write, a line each: {"z": logit(Yes) - logit(No), "collision": ..., "event": ...}
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Configuration file: how the student runs; embedded defaults without it
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ModelsCalibrateArgs {
    /// Model file (.gguf)
    pub(crate) file: PathBuf,
    /// Its scores, a line each: {"z": logit(Yes) - logit(No), "collision": true or false}, of clips not trained on
    #[arg(long)]
    pub(crate) scores: PathBuf,
    /// Share of collisions among the events that it will be asked about (default: that of the scores)
    #[arg(long)]
    pub(crate) prior_field: Option<f32>,
    /// The file to make
    #[arg(long)]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ModelsPullArgs {
    /// Manifest (TOML): file, url, size, sha256 and the licence's name and url
    pub(crate) manifest: PathBuf,
    /// Where the file is put (default: the manifest's name for it, here)
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// I have read the licence and accept it
    #[arg(long)]
    pub(crate) accept_licence: bool,
}
