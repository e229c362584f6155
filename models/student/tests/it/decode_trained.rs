//! The model that ships, on pictures that it has never seen: it follows its known answers, so that drafts are taken, which
//! random weights never do. What it says of them is not judged here, only that drafting changes none of it.

use std::path::Path;

use agent_student::engine::{EngineLanguage, EngineVision};
use agent_student::file::ModelFile;
use agent_student::llm::candle::CandleLanguage;
use agent_student::llm::{Language, Seeing};
use agent_student::session::{Backend, Options, Student, room, texts};
use agent_student::vision::Vision;
use agent_wire::{EventId, UnitId};
use agent_worker::job::{Answers, FrameInput, JobSpec};

use crate::decode_toy::mix;

/// The student that ships; it may say what it likes.
fn shipped(options: &Options) -> Student {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../artifacts/student.gguf");
    let file = ModelFile::open(&path).unwrap();
    let (mut texts, shape) = (texts(&file).unwrap(), file.shape().unwrap());
    // Its file says that only known answers are decoded: then everything would be forced, and nothing drafted.
    assert!(texts.closed);
    texts.closed = false;
    let room = room(&texts, &shape, options).unwrap();
    let (language, seeing): (Box<dyn Language>, Box<dyn Seeing>) = match options.backend {
        Backend::Engine => (
            Box::new(EngineLanguage::load(&file, room, options.threads).unwrap()),
            Box::new(EngineVision::load(&file, options.threads).unwrap()),
        ),
        Backend::Candle => {
            let device = candle_core::Device::Cpu;
            (
                Box::new(CandleLanguage::load(&file, room, &device).unwrap()),
                Box::new(Vision::load(&file, &device).unwrap()),
            )
        }
    };
    Student::assemble(texts, shape, room, language, seeing, options).unwrap()
}

/// A street of stripes that comes nearer, with something dark that grows in some of them.
fn answer(student: &mut Student, seed: u64) -> Answers {
    let window = student.facts().window;
    let event = EventId { unit: UnitId::new("unit-1").unwrap(), boot: 1, seq: 1 };
    let mut spec = JobSpec::tasks(event, window);
    spec.frames = window.frames;
    student.begin(&spec).unwrap();
    let (w, h) = (usize::from(window.width), usize::from(window.height));
    for i in 0..usize::from(window.frames) {
        let mut rgb = Vec::with_capacity(w * h * 3);
        for k in 0..w * h {
            let (x, y) = (k % w, k / w);
            let grows = seed.is_multiple_of(2) && x.abs_diff(w / 2) < 4 + 2 * i && y.abs_diff(h / 2) < 3 + 2 * i;
            let ground = if y > h / 2 { 90 + 60 * (((y * y) / 40 + 3 * i) % 2) } else { 170 };
            let noise = (mix([seed, i as u64, k as u64]) % 7) as usize;
            let grey = if grows { 30 } else { ground + noise };
            rgb.extend([grey as u8, (grey * 9 / 10) as u8, (grey * 8 / 10) as u8]);
        }
        let t_s = i as f32 / window.fps;
        student
            .push_frame(&FrameInput {
                t_s,
                width: window.width,
                height: window.height,
                rgb: &rgb,
                telemetry: None,
                objects: &[],
            })
            .unwrap();
    }
    student.answer(&|| false, &mut |_| {}).unwrap()
}

/// What was said, without how sure it was and how long it took.
fn said(a: &Answers) -> impl PartialEq + std::fmt::Debug + use<> {
    let texts = [&a.description, &a.cause, &a.prevention].map(|t| t.as_ref().map(|t| (t.code, t.text.clone())));
    let times = [a.crash, a.pre_crash].map(|t| t.map(|t| (t.from_s, t.to_s)));
    (a.label.probability > 0.5, texts, times)
}

#[test]
fn drafts_are_taken_and_change_nothing() {
    for backend in [Backend::Engine, Backend::Candle] {
        let with = |draft| Options { backend, threads: 2, draft, ..Options::default() };
        let (mut drafted, mut plain) = (shipped(&with(64)), shipped(&with(0)));
        for seed in 0..2 {
            let (one, other) = (answer(&mut drafted, seed), answer(&mut plain, seed));
            assert_eq!(said(&one), said(&other), "{backend:?}");
            assert!(one.description.as_ref().is_some_and(|t| t.code.is_some()), "{backend:?}: {one:?}");
            let (a, b) = (drafted.stats(), plain.stats());
            assert_eq!((b.drafted, b.accepted), (0, 0));
            assert!(a.accepted >= 10 && a.steps < b.steps, "{backend:?}: {a:?} {b:?}");
            if backend == Backend::Engine {
                // Its rows have the same logits in any company.
                assert_eq!(one.label, other.label);
            }
        }
    }
}
