//! Exactness against transformers' VideoLlama3 (fixtures/exact.safetensors, made by reference/make_fixtures.py).
//!
//! A difference is the largest absolute one over the largest absolute value of the reference.

use std::collections::HashMap;

use agent_student::{
    file::ModelFile,
    frames::{PatchFrame, Pruner, Pruning, cut, fit, resize},
    llm::{Language, Piece, Room, Row, Seeing, candle::CandleLanguage},
    vision::Vision,
};
use candle_core::{Device, Tensor, quantized::GgmlDType, safetensors};

use crate::tiny::{self, IMAGE_TOKEN, TINY, Tiny, WIDE};

/// f32 against the reference, and one way of computing against another.
const CLOSE: f32 = 1e-5;

type Fixture = HashMap<String, Tensor>;

fn fixture() -> Fixture {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/exact.safetensors");
    safetensors::load(path, &Device::Cpu).unwrap()
}

fn f32s(fixture: &Fixture, key: &str) -> Vec<f32> {
    fixture[key].flatten_all().unwrap().to_vec1().unwrap()
}

fn u32s(fixture: &Fixture, key: &str) -> Vec<u32> {
    fixture[key].to_vec1().unwrap()
}

fn bytes(fixture: &Fixture, key: &str) -> Vec<u8> {
    fixture[key].flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
pub(crate) fn assert_close(what: &str, ours: &[f32], reference: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), reference.len(), "{what}");
    let largest = reference.iter().fold(0f32, |m, x| m.max(x.abs()));
    let apart = ours.iter().zip(reference).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    println!("{what}: {:.1e} of {largest:.2}", apart / largest);
    assert!(apart.is_finite() && apart <= tolerance * largest, "{what}: {apart} apart, largest {largest}");
}

pub(crate) fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(i, _)| i as u32)
}

pub(crate) fn room() -> Room {
    Room { prefix: 256, branches: 8, branch: 64 }
}

/// The frames of a model's fixture, cut and marked.
pub(crate) fn frames(model: &Tiny, file: &ModelFile) -> Vec<PatchFrame> {
    let shape = file.shape().unwrap();
    let (pictures, size) = if model.key == "tiny" {
        (tiny::drive(), (84, 168))
    } else {
        ((0..3).map(|i| tiny::picture(&format!("wide{i}"), 56, 84)).collect(), (56, 84))
    };
    let mut pruner = Pruner::new(Pruning::Upstream);
    let mut frames = Vec::new();
    for rgb in &pictures {
        let to = fit(size, pictures.len(), &shape.image, &shape.vision).unwrap();
        let mut frame = cut(rgb, size, to, &shape.image, &shape.vision).unwrap();
        pruner.mark(&mut frame);
        frames.push(frame);
    }
    frames
}

/// What stands in a prefix: text, and so many vision tokens.
fn pieces(prefix: &[u32]) -> Vec<(&[u32], usize)> {
    let mut pieces = Vec::new();
    let mut rest = prefix;
    while !rest.is_empty() {
        let text = rest.iter().take_while(|id| **id != IMAGE_TOKEN).count();
        let vision = rest[text..].iter().take_while(|id| **id == IMAGE_TOKEN).count();
        pieces.push((&rest[..text], vision));
        rest = &rest[text + vision..];
    }
    pieces
}

/// Puts a whole prefix in as one run of embeddings: text rows looked up by `table`.
pub(crate) fn prefill(language: &mut dyn Language, prefix: &[u32], hidden: &[f32], table: &[f32]) {
    let width = language.shape().hidden;
    let (mut x, mut vision) = (Vec::new(), hidden.chunks_exact(width));
    for id in prefix {
        let row = if *id == IMAGE_TOKEN { vision.next().unwrap() } else { &table[*id as usize * width..][..width] };
        x.extend_from_slice(row);
    }
    assert!(vision.next().is_none());
    language.reset();
    language.extend_embeddings(&x, prefix.len()).unwrap();
}

/// Puts it in frame by frame, as frames come.
pub(crate) fn stream(language: &mut dyn Language, prefix: &[u32], hidden: &[f32]) {
    let (width, mut at) = (language.shape().hidden, 0);
    language.reset();
    for (text, vision) in pieces(prefix) {
        language.extend_tokens(text).unwrap();
        language.extend_embeddings(&hidden[at * width..(at + vision) * width], vision).unwrap();
        at += vision;
    }
}

pub(crate) fn rows(branch: u8, tokens: &[u32]) -> Vec<Row> {
    tokens.iter().map(|token| Row { branch, token: *token }).collect()
}

/// One step with logits of all rows.
pub(crate) fn step(language: &mut dyn Language, rows: &[Row]) -> Vec<f32> {
    let mut out = Vec::new();
    language.step(rows, &vec![true; rows.len()], &mut out).unwrap();
    out
}

/// Greedy tokens of several branches, decoded together from each branch's last logits.
pub(crate) fn greedy(language: &mut dyn Language, last: Vec<u32>, count: usize) -> Vec<Vec<u32>> {
    let vocab = language.shape().vocab;
    let mut all: Vec<Vec<u32>> = last.iter().map(|token| vec![*token]).collect();
    for _ in 1..count {
        let rows: Vec<Row> = (0u8..).zip(&all).map(|(branch, t)| Row { branch, token: t[t.len() - 1] }).collect();
        let logits = step(language, &rows);
        for (tokens, logits) in all.iter_mut().zip(logits.chunks(vocab)) {
            tokens.push(argmax(logits));
        }
    }
    all
}

struct Loaded {
    fixture: Fixture,
    prefix: Vec<u32>,
    hidden: Vec<f32>,
    table: Vec<f32>,
    language: CandleLanguage,
    suffixes: Vec<Vec<u32>>,
}

fn load(model: &Tiny, suffixes: usize) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let file = model.open(folder.path(), |_| GgmlDType::F32);
    let fixture = fixture();
    let language = CandleLanguage::load(&file, room(), &Device::Cpu).unwrap();
    let shape = language.shape();
    let key = |name: &str| format!("{}.{name}", model.key);
    Loaded {
        prefix: u32s(&fixture, &key("prefix")),
        hidden: f32s(&fixture, &key("video_hidden")),
        table: file.values("token_embd.weight", &[shape.vocab, shape.hidden]).unwrap(),
        suffixes: (0..suffixes).map(|i| u32s(&fixture, &key(&format!("suffix{i}")))).collect(),
        language,
        fixture,
    }
}

#[test]
fn resizing_gives_the_bytes_of_pil() {
    let fixture = fixture();
    for (from, to) in [((33, 47), (28, 56)), ((90, 160), (84, 168)), ((61, 35), (112, 56)), ((201, 300), (56, 84))] {
        let name = format!("{}x{}", from.0, from.1);
        let ours = resize(&tiny::picture(&format!("resize{name}"), from.0, from.1), from, to);
        let reference = bytes(&fixture, &format!("resize.{name}.{}x{}", to.0, to.1));
        let apart = ours.iter().zip(&reference).map(|(a, b)| a.abs_diff(*b)).max();
        assert_eq!((ours.len(), apart), (reference.len(), Some(0)), "{name}");
    }
}

#[test]
fn patches_are_the_reference_processors_within_a_grey_level() {
    let folder = tempfile::tempdir().unwrap();
    let shape = TINY.open(folder.path(), |_| GgmlDType::F32).shape().unwrap();
    let rgb = tiny::picture("processor", 61, 90);
    let to = fit((61, 90), 1, &shape.image, &shape.vision).unwrap();
    assert_eq!(to, (56, 84));
    let frame = cut(&rgb, (61, 90), to, &shape.image, &shape.vision).unwrap();
    let reference = bytes(&fixture(), "processor.levels");
    assert_eq!(frame.pixels.len(), reference.len());
    for (value, level) in frame.pixels.iter().zip(&reference) {
        let ours = (value * 0.5 + 0.5) * 255.0;
        assert!((ours - f32::from(*level)).abs() <= 1.01, "{ours} against {level}");
    }
}

#[test]
fn vision_and_pruning_equal_the_reference() {
    let fixture = fixture();
    for model in [&TINY, &WIDE] {
        let folder = tempfile::tempdir().unwrap();
        let file = model.open(folder.path(), |_| GgmlDType::F32);
        let frames = frames(model, &file);
        let keep: Vec<u8> = frames.iter().flat_map(|f| f.keep.iter().map(|k| u8::from(*k))).collect();
        assert_eq!(keep, bytes(&fixture, &format!("{}.mask", model.key)), "{}", model.key);
        let mut vision = Vision::load(&file, &Device::Cpu).unwrap();
        let reference = f32s(&fixture, &format!("{}.video_hidden", model.key));
        let together = vision.encode(&frames).unwrap();
        assert_close(&format!("{} vision", model.key), &together, &reference, CLOSE);
        let mut apart = Vec::new();
        for frame in &frames {
            apart.extend(vision.encode(std::slice::from_ref(frame)).unwrap());
        }
        assert_close(&format!("{} frame by frame", model.key), &apart, &together, CLOSE);
    }
}

#[test]
fn logits_and_greedy_tokens_equal_the_reference() {
    for (model, suffixes, count) in [(&TINY, 6, 24), (&WIDE, 2, 16)] {
        let Loaded { fixture, prefix, hidden, table, mut language, suffixes: ids } = load(model, suffixes);
        for (i, suffix) in ids.iter().enumerate() {
            prefill(&mut language, &prefix, &hidden, &table);
            language.open_branches(1).unwrap();
            let logits = step(&mut language, &rows(0, suffix));
            let reference = f32s(&fixture, &format!("{}.logits{i}", model.key));
            assert_close(&format!("{} logits {i}", model.key), &logits, &reference, CLOSE);
            let last = argmax(&logits[logits.len() - language.shape().vocab..]);
            let tokens = greedy(&mut language, vec![last], count);
            assert_eq!(tokens[0], u32s(&fixture, &format!("{}.greedy{i}", model.key)), "{} {i}", model.key);
        }
    }
}

#[test]
fn six_in_one_and_streaming_equal_six_passes() {
    let Loaded { fixture, prefix, hidden, table, mut language, suffixes } = load(&TINY, 6);
    let vocab = language.shape().vocab;
    let mut separate = Vec::new();
    for suffix in &suffixes {
        prefill(&mut language, &prefix, &hidden, &table);
        language.open_branches(1).unwrap();
        separate.extend(step(&mut language, &rows(0, suffix)));
    }
    stream(&mut language, &prefix, &hidden);
    assert_eq!(language.prefix_len(), prefix.len());
    language.open_branches(6).unwrap();
    let ragged: Vec<Row> = (0u8..).zip(&suffixes).flat_map(|(i, suffix)| rows(i, suffix)).collect();
    let together = step(&mut language, &ragged);
    assert_close("six in one, streamed", &together, &separate, CLOSE);
    let mut last = Vec::new();
    let mut at = 0;
    for suffix in &suffixes {
        at += suffix.len();
        last.push(argmax(&together[(at - 1) * vocab..at * vocab]));
    }
    for (i, tokens) in greedy(&mut language, last, 24).iter().enumerate() {
        assert_eq!(*tokens, u32s(&fixture, &format!("tiny.greedy{i}")), "task {i}");
    }
}

#[test]
fn pieces_in_one_pass_equal_pieces_one_by_one() {
    let Loaded { prefix, hidden, mut language, suffixes, .. } = load(&TINY, 1);
    stream(&mut language, &prefix, &hidden);
    language.open_branches(1).unwrap();
    let one_by_one = step(&mut language, &rows(0, &suffixes[0]));
    language.reset();
    let (mut all, mut at) = (vec![Piece::Tokens(&[])], 0);
    for (text, vision) in pieces(&prefix) {
        all.push(Piece::Tokens(text));
        all.push(Piece::Embeddings(&hidden[at * 128..(at + vision) * 128]));
        at += vision;
    }
    language.extend_pieces(&all).unwrap();
    language.open_branches(1).unwrap();
    assert_close("pieces", &step(&mut language, &rows(0, &suffixes[0])), &one_by_one, CLOSE);
    // A fault in the last piece leaves none of the others behind.
    language.reset();
    for wrong in [Piece::Tokens(&[512]), Piece::Embeddings(&[0.0; 5]), Piece::Tokens(&[1; 256])] {
        assert!(language.extend_pieces(&[Piece::Tokens(&[1, 2]), wrong]).is_err());
        assert_eq!(language.prefix_len(), 0);
    }
    language.extend_pieces(&[]).unwrap();
    assert_eq!(language.prefix_len(), 0);
}

#[test]
fn branches_can_be_rolled_back_and_forked() {
    let Loaded { prefix, hidden, mut language, suffixes, .. } = load(&TINY, 6);
    stream(&mut language, &prefix, &hidden);
    language.open_branches(3).unwrap();
    let expected = step(&mut language, &rows(1, &suffixes[1]));
    let vocab = language.shape().vocab;
    // A rejected draft leaves nothing: the same tokens again give the same bits.
    language.truncate(1, 3);
    assert_eq!(language.branch_len(1), 3);
    step(&mut language, &rows(1, &[9, 8, 7, 6, 5, 4, 3]));
    language.truncate(1, 3);
    let again = step(&mut language, &rows(1, &suffixes[1][3..]));
    assert_close("after a rollback", &again, &expected[3 * vocab..], CLOSE);
    // A fork goes on as its origin does, in another order of branches, and the origin does not notice.
    language.copy_branch(1, 2).unwrap();
    assert_eq!(language.branch_len(2), suffixes[1].len());
    let mut both = rows(2, &[17, 18]);
    both.extend(rows(1, &[17, 18]));
    let logits = step(&mut language, &both);
    assert_close("a fork", &logits[..2 * vocab], &logits[2 * vocab..], CLOSE);
    language.truncate(1, 100);
    assert_eq!((language.branch_len(0), language.branch_len(1), language.branch_len(9)), (0, suffixes[1].len() + 2, 0));
}

#[test]
fn far_positions_and_cut_passes_equal_the_reference() {
    let folder = tempfile::tempdir().unwrap();
    let file = TINY.open(folder.path(), |_| GgmlDType::F32);
    let room = Room { prefix: 2600, branches: 2, branch: 600 };
    let mut language = CandleLanguage::load(&file, room, &Device::Cpu).unwrap();
    let ids: Vec<u32> = tiny::hashes("far", 2604).map(|x| (x % u64::from(IMAGE_TOKEN - 1)) as u32).collect();
    let reference = f32s(&fixture(), "tiny.far");
    language.extend_tokens(&ids[..2600]).unwrap();
    language.open_branches(1).unwrap();
    let whole = step(&mut language, &rows(0, &ids[2600..]));
    assert_close("far", &whole, &reference, CLOSE);
    // 40 rows a pass, and a prefix put in by pieces.
    language.hold_scores(4 * 2600 * 40);
    language.reset();
    for piece in ids[..2100].chunks(333) {
        language.extend_tokens(piece).unwrap();
    }
    language.open_branches(2).unwrap();
    let mut both = rows(1, &ids[..70]);
    both.extend(rows(0, &ids[2100..]));
    let logits = step(&mut language, &both);
    assert_eq!((language.branch_len(0), language.branch_len(1)), (504, 70));
    assert_close("far, cut", &logits[logits.len() - 4 * 512..], &reference, CLOSE);
}

#[test]
fn a_later_job_gives_the_bits_of_the_first() {
    let Loaded { prefix, hidden, mut language, suffixes, .. } = load(&TINY, 6);
    let job = |language: &mut CandleLanguage| {
        stream(language, &prefix, &hidden);
        language.open_branches(6).unwrap();
        let ragged: Vec<Row> = (0u8..).zip(&suffixes).flat_map(|(i, suffix)| rows(i, suffix)).collect();
        let mut bits = step(language, &ragged);
        bits.extend(step(language, &[Row { branch: 5, token: 1 }, Row { branch: 2, token: 3 }]));
        bits
    };
    let first = job(&mut language);
    // A job that was given up half way, longer than the one that follows.
    language.reset();
    language.extend_tokens(&[77; 200]).unwrap();
    language.open_branches(8).unwrap();
    step(&mut language, &(0..8).flat_map(|branch| rows(branch, &[5; 40])).collect::<Vec<_>>());
    assert!(first == job(&mut language), "something of the job between was left behind");
}

#[test]
fn frames_that_do_not_fit_the_tower_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = TINY.open(folder.path(), |_| GgmlDType::F32);
    let mut vision = Vision::load(&file, &Device::Cpu).unwrap();
    let frame = frames(&TINY, &file).remove(0);
    let changed = |f: fn(&mut PatchFrame)| {
        let mut other = frame.clone();
        f(&mut other);
        other
    };
    for wrong in [
        changed(|f| f.rows = 0),
        changed(|f| f.rows = usize::MAX),
        changed(|f| (f.rows, f.cols) = (3, 24)),
        changed(|f| f.cols += 2),
        changed(|f| f.pixels.truncate(588)),
        changed(|f| f.keep.push(true)),
    ] {
        let fault = vision.encode(&[frame.clone(), wrong]).unwrap_err();
        assert!(matches!(fault, agent_student::error::StudentError::Frame { .. }), "{fault}");
    }
    // Nothing kept gives nothing, and takes nothing from the frames beside it.
    let none = changed(|f| f.keep.fill(false));
    assert!(vision.encode(std::slice::from_ref(&none)).unwrap().is_empty());
    let alone = vision.encode(std::slice::from_ref(&frame)).unwrap();
    assert_close("beside a dropped frame", &vision.encode(&[none, frame]).unwrap(), &alone, CLOSE);
    assert!(vision.encode(&[]).unwrap().is_empty());
}

#[test]
fn only_marked_rows_give_logits() {
    let Loaded { prefix, hidden, mut language, suffixes, .. } = load(&TINY, 1);
    stream(&mut language, &prefix, &hidden);
    language.open_branches(2).unwrap();
    let all = step(&mut language, &rows(0, &suffixes[0]));
    language.open_branches(2).unwrap();
    let vocab = language.shape().vocab;
    let mut out = vec![7.0];
    language.step(&rows(0, &suffixes[0]), &[false, true, false, true], &mut out).unwrap();
    assert_eq!(out[0], 7.0);
    assert_close("second row", &out[1..=vocab], &all[vocab..2 * vocab], CLOSE);
    assert_close("fourth row", &out[1 + vocab..], &all[3 * vocab..], CLOSE);
}

#[test]
fn a_wrong_call_is_refused_and_changes_nothing() {
    let Loaded { prefix, hidden, mut language, .. } = load(&TINY, 0);
    assert!(language.open_branches(1).is_err(), "over an empty prefix");
    stream(&mut language, &prefix, &hidden);
    let long = vec![1; room().prefix];
    assert!(language.extend_tokens(&long).is_err(), "past the room");
    assert!(language.extend_tokens(&[512]).is_err(), "outside the vocabulary");
    assert!(language.extend_embeddings(&[0.0; 5], 1).is_err(), "half a row");
    assert_eq!(language.prefix_len(), prefix.len());
    assert!(language.open_branches(9).is_err(), "too many branches");
    language.open_branches(2).unwrap();
    let row = |branch, token| Row { branch, token };
    let wrong: [&[Row]; 5] = [&[], &[row(2, 1)], &[row(0, 1), row(1, 1), row(0, 1)], &[row(0, 512)], &[row(0, 1); 65]];
    for rows in wrong {
        let mut out = Vec::new();
        assert!(language.step(rows, &vec![true; rows.len()], &mut out).is_err(), "{rows:?}");
        assert!(out.is_empty());
    }
    assert!(language.step(&[row(0, 1)], &[], &mut Vec::new()).is_err(), "no marks");
    assert!(language.extend_tokens(&[1]).is_err(), "under open branches");
    assert!(language.copy_branch(0, 2).is_err() && language.copy_branch(2, 0).is_err());
    assert_eq!((language.branch_len(0), language.branch_len(1)), (0, 0));
    assert_eq!(step(&mut language, &[row(0, 1)]).len(), 512);
}
