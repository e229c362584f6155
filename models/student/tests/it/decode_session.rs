//! A session: what comes out as typed answers (over a scripted language half), and that company, streaming and
//! cancelled jobs change nothing (over random weights).

use std::cell::Cell;
use std::path::Path;

use agent_student::convert::gguf::{Planned, Type, Value, Writer};
use agent_student::convert::metadata::{Facts, Questions, Sources, TokenTable, all};
use agent_student::convert::{Preset, shape_tiny, write_random};
use agent_student::decode::Mode;
use agent_student::error::{Result, StudentError};
use agent_student::file::ModelFile;
use agent_student::frames::{PatchFrame, Pruning};
use agent_student::llm::candle::CandleLanguage;
use agent_student::llm::{Language, Seeing};
use agent_student::session::{Backend, Options, Student, Texts, room, texts};
use agent_student::tasks::Task;
use agent_student::vision::Vision;
use agent_wire::{EventId, UnitId};
use agent_worker::job::{Answers, FrameInput, JobSpec, LabelAnswer, ObjectKind, ObjectRow, TelemetryRow};

use crate::decode_tokenizer::fixture;
use crate::decode_toy::{Toy, mix};

/// Sees a number in each token.
struct Eyes;

impl Seeing for Eyes {
    fn encode(&mut self, frames: &[PatchFrame]) -> Result<Vec<f32>> {
        let mut out = Vec::new();
        for frame in frames {
            let values = frame.pixels.len() / frame.keep.len();
            for (token, keep) in frame.pixels.chunks(values).zip(&frame.keep) {
                if *keep {
                    let seen = mix(token.iter().map(|v| u64::from(v.to_bits())));
                    out.extend((0..8).map(|i| (seen >> (8 * i)) as u8 as f32));
                }
            }
        }
        Ok(out)
    }
}

fn spec_of(question: Option<&str>, frames: u16) -> JobSpec {
    let event = EventId { unit: UnitId::new("unit-1").unwrap(), boot: 1, seq: 1 };
    let mut spec = JobSpec::tasks(event, agent_worker::job::Window::default());
    (spec.frames, spec.question) = (frames, question.map(str::to_owned));
    spec
}

/// What differs between the files of these tests.
struct Trained {
    severity: bool,
    telemetry: bool,
    calibrated: bool,
    closed: bool,
}

const PROMPTS: [&str; 6] =
    ["Crash?", "Who hits whom?", "Why?", "What would help?", "From when to when?", "Since when?"];

/// Metadata of a file with the fixture's vocabulary, and no weights but an embedding.
fn write(path: &Path, trained: &Trained) {
    let fixture = fixture();
    let mut shape = shape_tiny();
    shape.text.vocab = fixture.tokens.len();
    (shape.image.token_id, shape.image.min_tokens) = (fixture.image, 4);
    let book =
        [vec!["no collision.", "car hits car", "ego-car hits a car"], vec!["No accident, no cause.", "Too fast."]];
    let list = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    let facts = Facts {
        name: "scripted".into(),
        licence: "none".into(),
        tokens: TokenTable {
            tokens: fixture.tokens.clone(),
            kinds: fixture.kinds.iter().map(|k| *k as i32).collect(),
            merges: fixture.merges.clone(),
            eos: fixture.end,
            pad: fixture.pad,
        },
        questions: Questions {
            prompts: PROMPTS.map(str::to_owned),
            severity: trained.severity.then(|| "How bad?".to_owned()),
            codebook_version: 3,
            codebook: [list(&book[0]), list(&book[1]), list(&["No accident, no prevention needed.", "Slow down."])],
        },
        telemetry: trained.telemetry,
        objects: trained.telemetry,
        closed: trained.closed,
        trained_on: None,
        sources: Sources::default(),
        notes: Vec::new(),
    };
    let mut meta = all(&shape, &facts);
    if trained.calibrated {
        for (name, value) in
            [("slope", 0.5), ("offset", 0.1), ("prior_trained", 0.6), ("prior_field", 0.2), ("ece", 0.03)]
        {
            meta.push((format!("student.calibration.{name}"), Value::F32(value)));
        }
    }
    let dims = vec![shape.text.vocab, shape.text.hidden];
    let planned = [Planned { name: "token_embd.weight".into(), dims: dims.clone(), kind: Type::F32 }];
    let mut writer = Writer::create(path, &meta, &planned).unwrap();
    writer.write("token_embd.weight", &vec![0; 4 * dims[0] * dims[1]]).unwrap();
    writer.finish().unwrap();
}

/// A student whose language half gives these answers, in the order of the tasks.
fn scripted(trained: &Trained, answers: &[&str], options: &Options) -> Student {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    write(&path, trained);
    let file = ModelFile::open(&path).unwrap();
    let texts = texts(&file).unwrap();
    let mut toy = Toy::new(texts.tokens.len());
    let end = texts.tokens.chat().end;
    assert_eq!(texts.asked.len(), answers.len());
    for (asked, answer) in texts.asked.iter().zip(answers) {
        let mut liked = texts.tokens.encode_plain(answer).unwrap();
        liked.push(end);
        toy.liked.push((asked.prompt.clone(), vec![liked]));
    }
    let shape = file.shape().unwrap();
    let room = room(&texts, &shape, options).unwrap();
    Student::assemble(texts, shape, room, Box::new(toy), Box::new(Eyes), options).unwrap()
}

const VIDEO: Trained = Trained { severity: false, telemetry: false, calibrated: false, closed: false };

fn picture(i: usize) -> Vec<u8> {
    (0..84 * 56 * 3).map(|k| (mix([i as u64, k as u64 / 300]) % 256) as u8).collect()
}

fn push(student: &mut Student, frames: usize) {
    for i in 0..frames {
        let rgb = picture(i);
        let telemetry =
            TelemetryRow { acc_mps2: [i as f32, 0.0, 0.0], heading_change_deg: 0.5, speed_mps: Some(i as f32) };
        let objects = [ObjectRow {
            class: ObjectKind::Car,
            distance_m: Some(9.0),
            flow_per_s: None,
            closing_mps: Some(i as f32),
        }];
        let input = FrameInput {
            t_s: i as f32 / 3.0,
            width: 84,
            height: 56,
            rgb: &rgb,
            telemetry: Some(telemetry),
            objects: &objects,
        };
        student.push_frame(&input).unwrap();
    }
}

fn answer(student: &mut Student) -> (Answers, LabelAnswer) {
    let heard = Cell::new(None);
    let mut answers = student.answer(&|| false, &mut |label| assert!(heard.replace(Some(*label)).is_none())).unwrap();
    answers.timings = Default::default();
    (answers, heard.get().expect("the label was told"))
}

fn job(student: &mut Student, frames: u16) -> Answers {
    student.begin(&spec_of(None, frames)).unwrap();
    push(student, usize::from(frames));
    answer(student).0
}

#[test]
fn a_file_of_known_answers_alone_gives_nothing_else() {
    let said = ["Yes", "ego-car hits a car", "Too slow.", "Slow down.", "3.8 - 5.0 seconds", "2.1 seconds"];
    let cause = |closed: bool| {
        let mut student = scripted(&Trained { closed, ..VIDEO }, &said, &Options::default());
        let answers = job(&mut student, 3);
        assert_eq!(answers.description.unwrap().code, Some(2));
        assert!(answers.crash.is_some() && answers.pre_crash.is_some());
        assert!(student.label_logit().is_some_and(|z| z > 0.0));
        answers.cause.unwrap()
    };
    let (free, closed) = (cause(false), cause(true));
    assert_eq!((free.code, free.text.as_str()), (None, "Too slow."));
    assert_eq!((closed.code, closed.text.as_str()), (Some(1), "Too fast."));
}

#[test]
fn answers_are_typed_coded_and_bounded() {
    let said = ["Yes", "ego-car hits a car", "The brakes failed.", "Slow down.", "3.8 - 5.0 seconds", "2.1 seconds"];
    for mode in [Mode::Exact, Mode::Constrained] {
        let options = Options { mode, ..Options::default() };
        let mut student = scripted(&VIDEO, &said, &options);
        student.begin(&spec_of(None, 3)).unwrap();
        push(&mut student, 3);
        let (answers, label) = answer(&mut student);
        answers.check().unwrap();
        assert_eq!(answers.label, label);
        assert!(label.probability > 0.5 && !label.calibrated);
        let description = answers.description.unwrap();
        assert_eq!((description.code, description.text.as_str()), (Some(2), "ego-car hits a car"));
        assert!(description.probability > 0.5 && description.probability <= 1.0);
        let cause = answers.cause.unwrap();
        if mode == Mode::Exact {
            assert_eq!((cause.code, cause.text.as_str()), (None, "The brakes failed."));
        } else {
            assert!(cause.code.is_some());
        }
        assert_eq!(answers.prevention.unwrap().code, Some(1));
        let crash = answers.crash.unwrap();
        assert_eq!((crash.from_s, crash.to_s), (3.8, 5.0));
        let sign = answers.pre_crash.unwrap();
        assert_eq!((sign.from_s, sign.to_s), (2.1, 2.1));
        assert!((0.0..=1.0).contains(&crash.probability) && answers.severity.is_none());
        assert_eq!((answers.frames, answers.telemetry), (3, false));
        let stats = student.stats();
        assert!(stats.steps < stats.plain_steps, "{stats:?}");
    }
}

#[test]
fn what_does_not_fit_is_no_answer() {
    let said = ["No", "no collision.", "No accident, no cause.", "x", "3.8 - 5.0 seconds", "2.1 seconds"];
    let answers = job(&mut scripted(&VIDEO, &said, &Options::default()), 2);
    assert!(answers.label.probability < 0.5);
    // The student's own label is No: its times are made up.
    assert_eq!((answers.crash, answers.pre_crash), (None, None));
    assert_eq!(answers.description.unwrap().code, Some(0));
    let rambling = "Slow down and keep a larger distance. ".repeat(60);
    let said = ["Yes", "car", "x", rambling.as_str(), "5.0 - 3.8 seconds", "7.5 seconds"];
    let answers = job(&mut scripted(&VIDEO, &said, &Options::default()), 2);
    assert_eq!((answers.crash, answers.pre_crash, answers.prevention), (None, None, None));
    assert_eq!(answers.description.unwrap().code, None);
}

#[test]
fn the_label_is_calibrated_where_the_file_says_how() {
    let said = ["Yes", "x", "x", "x", "x", "x"];
    let raw = job(&mut scripted(&VIDEO, &said, &Options::default()), 2);
    let trained = Trained { calibrated: true, ..VIDEO };
    let mut student = scripted(&trained, &said, &Options::default());
    assert!(student.facts().calibrated);
    let cooked = job(&mut student, 2);
    let z = (raw.label.probability / (1.0 - raw.label.probability)).ln();
    let shift = (0.2_f32 / 0.8).ln() - (0.6_f32 / 0.4).ln();
    let wanted = 1.0 / (1.0 + (-(0.5 * z + 0.1 + shift)).exp());
    assert!(cooked.label.calibrated && (cooked.label.probability - wanted).abs() < 1e-3, "{cooked:?} {wanted}");
}

#[test]
fn severity_is_given_only_by_files_trained_for_it() {
    let trained = Trained { severity: true, ..VIDEO };
    let said = ["Yes", "x", "x", "x", "x", "x", "near-collision"];
    let mut student = scripted(&trained, &said, &Options::default());
    let severity = job(&mut student, 2).severity.unwrap();
    let sum = severity.collision + severity.near_collision + severity.normal;
    assert!((sum - 1.0).abs() < 1e-5 && severity.near_collision > 0.5, "{severity:?}");
    // The same three shares by scoring each answer.
    let scores = student.choose("How bad?", &["collision", "near-collision", "normal"], &|| false).unwrap();
    for (score, share) in scores.iter().zip([severity.collision, severity.near_collision, severity.normal]) {
        assert!((score.share - share).abs() < 1e-5, "{scores:?} {severity:?}");
    }
}

#[test]
fn telemetry_and_objects_are_read_only_by_files_trained_with_them() {
    let said = ["Yes", "x", "x", "x", "x", "x"];
    let mut plain = scripted(&VIDEO, &said, &Options::default());
    let mut wide = scripted(&Trained { telemetry: true, ..VIDEO }, &said, &Options::default());
    assert!(!job(&mut plain, 3).telemetry && job(&mut wide, 3).telemetry);
    let (video, all) = (plain.prefix_tokens(), wide.prefix_tokens());
    assert!(all > video + 3 * 20, "{all} {video}");
    // Without a row the text is that of video alone.
    wide.begin(&spec_of(None, 1)).unwrap();
    plain.begin(&spec_of(None, 1)).unwrap();
    for student in [&mut wide, &mut plain] {
        let rgb = picture(0);
        let input = FrameInput { t_s: 0.0, width: 84, height: 56, rgb: &rgb, telemetry: None, objects: &[] };
        student.push_frame(&input).unwrap();
        assert!(!answer(student).0.telemetry);
    }
    assert_eq!(wide.prefix_tokens(), plain.prefix_tokens());
}

#[test]
fn calls_out_of_order_are_refused_and_leave_no_half_job() {
    let said = ["Yes", "x", "x", "x", "x", "x"];
    let mut student = scripted(&VIDEO, &said, &Options::default());
    let rgb = picture(0);
    let at = |t_s: f32| FrameInput { t_s, width: 84, height: 56, rgb: &rgb, telemetry: None, objects: &[] };
    let refused = |r: Result<()>| matches!(r, Err(StudentError::Call { .. }));
    assert!(refused(student.push_frame(&at(0.0))));
    assert!(student.answer(&|| false, &mut |_| {}).is_err() && student.ask("Why?", 5, &|| false).is_err());
    assert!(refused(student.begin(&spec_of(None, 0))));
    student.begin(&spec_of(None, 2)).unwrap();
    assert!(student.answer(&|| false, &mut |_| {}).is_err());
    student.push_frame(&at(1.0)).unwrap();
    assert!(refused(student.push_frame(&at(1.0))));
    // The fault ended the job.
    assert!(refused(student.push_frame(&at(2.0))));
    student.begin(&spec_of(None, 1)).unwrap();
    student.push_frame(&at(0.0)).unwrap();
    assert!(refused(student.push_frame(&at(1.0))));
    student.begin(&spec_of(None, 1)).unwrap();
    let short = FrameInput { rgb: &rgb[..9], ..at(0.0) };
    assert!(student.push_frame(&short).is_err());
    let question = "why ".repeat(2_000);
    student.begin(&spec_of(None, 1)).unwrap();
    student.push_frame(&at(0.0)).unwrap();
    assert!(matches!(student.ask(&question, 5, &|| false), Err(StudentError::Limit { .. })));
    assert_eq!(answer(&mut student).0.frames, 1);
}

#[test]
fn the_noise_floor_leaves_out_what_only_noise_changes() {
    let said = ["Yes", "x", "x", "x", "x", "x"];
    let tokens = |pruning| {
        let mut student = scripted(&VIDEO, &said, &Options { pruning, ..Options::default() });
        student.begin(&spec_of(None, 6)).unwrap();
        for i in 0..6u64 {
            // One grey level up or down at random: a camera at rest.
            let noisy = |k: u64| (100 + (k / 300 * 40) % 100 + mix([i, k]) % 3) as u8;
            let rgb: Vec<u8> = (0..84 * 56 * 3).map(noisy).collect();
            let t_s = i as f32 / 3.0;
            student
                .push_frame(&FrameInput { t_s, width: 84, height: 56, rgb: &rgb, telemetry: None, objects: &[] })
                .unwrap();
        }
        student.prefix_tokens()
    };
    let (upstream, floor) = (tokens(Pruning::Upstream), tokens(Pruning::NoiseFloor));
    assert!(floor + 10 < upstream, "{floor} tokens, upstream's rule {upstream}");
}

#[test]
fn broken_metadata_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    write(&path, &VIDEO);
    let bytes = std::fs::read(&path).unwrap();
    let broken = |from: &[u8], to: &[u8]| {
        let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
        let mut changed = bytes.clone();
        changed[at..at + to.len()].copy_from_slice(to);
        std::fs::write(&path, &changed).unwrap();
        texts(&ModelFile::open(&path).unwrap()).unwrap_err().to_string()
    };
    assert!(broken(b"student.prompt.cause", b"student.prompt.caus_").contains("student.prompt.cause"));
    assert!(broken(b"tokenizer.ggml.merges", b"tokenizer.ggml.merge_").contains("tokenizer.ggml.merges"));
    assert!(broken(b"<|im_start|>", b"<|im_begin>>").contains("<|im_start|>"));
}

/// A student over random weights, with the real backends.
fn random(folder: &Path, options: &Options) -> Student {
    let path = folder.join("random.gguf");
    if !path.exists() {
        write_random(&shape_tiny(), 5, Preset::F32, &path).unwrap();
    }
    Student::open(&path, options).unwrap()
}

#[test]
fn random_weights_answer_the_same_in_every_company_and_after_a_cancelled_job() {
    for backend in [Backend::Candle, Backend::Engine] {
        same_in_every_company(Options { backend, threads: 1, ..Options::default() });
    }
}

fn same_in_every_company(options: Options) {
    let folder = tempfile::tempdir().unwrap();
    let mut student = random(folder.path(), &options);
    let first = job(&mut student, 3);
    first.check().unwrap();
    for stop in 0..4 {
        student.begin(&spec_of(None, 2)).unwrap();
        push(&mut student, 2);
        let asked = Cell::new(0);
        let cancel = || asked.replace(asked.get() + 1) >= stop;
        assert!(matches!(student.answer(&cancel, &mut |_| {}), Err(StudentError::Cancelled)), "stop {stop}");
        if stop == 2 {
            // Answered after all, and asked: the frames still stand.
            answer(&mut student);
            student.ask("Why?", 4, &|| false).unwrap();
        }
        assert_eq!(job(&mut student, 3), first);
    }
    let mut together = random(folder.path(), &Options { label_first: false, ..options });
    let other = job(&mut together, 3);
    assert!((other.label.probability - first.label.probability).abs() < 1e-5);
    if options.backend == Backend::Engine {
        // Its rows have the same logits in any company: all answers are equal to the bit.
        assert_eq!(other, first);
    }
}

/// Tokens that each task's answer begins with, alone over a prefix that was made at once, for comparison.
fn alone(path: &Path, texts: &Texts, frames: usize) -> (Vec<Vec<u32>>, usize) {
    let file = ModelFile::open(path).unwrap();
    let shape = file.shape().unwrap();
    let device = candle_core::Device::Cpu;
    let room = room(texts, &shape, &Options::default()).unwrap();
    let mut language = CandleLanguage::load(&file, room, &device).unwrap();
    let mut vision = Vision::load(&file, &device).unwrap();
    let mut pruner = agent_student::frames::Pruner::new(Default::default());
    let mut cut = Vec::new();
    for i in 0..frames {
        let to = agent_student::frames::fit((56, 84), frames, &shape.image, &shape.vision).unwrap();
        let mut frame = agent_student::frames::cut(&picture(i), (56, 84), to, &shape.image, &shape.vision).unwrap();
        pruner.mark(&mut frame);
        cut.push(frame);
    }
    // All frames through the tower at once.
    let seen = vision.encode(&cut).unwrap();
    let mut at = 0;
    for (i, frame) in cut.iter().enumerate() {
        let head = agent_student::prompt::head(i as f32 / 3.0, None, &[]);
        language.extend_tokens(&texts.prompt.frame(&texts.tokens, i == 0, &head).unwrap()).unwrap();
        let rows = frame.kept();
        let width = shape.text.hidden;
        language.extend_embeddings(&seen[at * width..(at + rows) * width], rows).unwrap();
        at += rows;
    }
    let mut answers = Vec::new();
    for asked in &texts.asked {
        let question = agent_student::decode::Question {
            prompt: &asked.prompt,
            trie: None,
            max_tokens: asked.max_tokens,
            watch: &[],
        };
        let chat = texts.tokens.chat();
        let ends = [chat.end, chat.end_of_text.unwrap()];
        let plan = agent_student::decode::Plan {
            questions: &[question],
            ends: &ends,
            mode: Mode::Exact,
            draft: 0,
            through: 0,
            first: None,
        };
        let outcome = agent_student::decode::run(&mut language, &plan, &|| false, &mut |_| {}).unwrap();
        answers.push(outcome.answers[0].tokens.clone());
    }
    (answers, language.prefix_len())
}

#[test]
fn streaming_and_one_pass_equal_one_prefill_and_six_passes() {
    let folder = tempfile::tempdir().unwrap();
    let mut student = random(folder.path(), &Options::default());
    let path = folder.path().join("random.gguf");
    let file = ModelFile::open(&path).unwrap();
    let texts = texts(&file).unwrap();
    let (separate, prefix) = alone(&path, &texts, 3);
    student.begin(&spec_of(None, 3)).unwrap();
    push(&mut student, 3);
    assert_eq!(student.prefix_tokens(), prefix);
    // The session's own questions, asked one by one through the free question, and all at once.
    for (asked, tokens) in texts.asked.iter().zip(&separate) {
        let key = format!("student.prompt.{}", asked.task.key());
        let question = file.text(&key).unwrap().unwrap();
        let text = student.ask(question, asked.max_tokens as u16, &|| false).unwrap();
        assert_eq!(text, texts.tokens.decode(tokens).unwrap().trim(), "{key}");
    }
    let (answers, _) = answer(&mut student);
    let plain = student.stats().plain_steps as usize;
    let longest = texts.asked.iter().zip(&separate).map(|(a, t)| t.len() + usize::from(t.len() < a.max_tokens)).max();
    assert_eq!(Some(plain), longest);
    let at = texts.asked.iter().position(|a| a.task == Task::Cause).unwrap();
    if let Some(cause) = answers.cause {
        assert_eq!(cause.text, texts.tokens.decode(&separate[at]).unwrap().trim());
    } else {
        let text = texts.tokens.decode(&separate[at]).unwrap();
        assert!(separate[at].len() == texts.asked[at].max_tokens || text.trim().is_empty());
    }
}
