//! Times six tasks in one pass against six separate passes, on random weights of a stated shape:
//! `bench_tasks [--backend engine|candle] [--threads N] [--preset q8_0|q4_k|f16|f32] [--shape 85m|small] [--prefix N]
//! [--question N] [--repeat N]`. candle takes its threads from RAYON_NUM_THREADS.
//!
//! Ours: the prefix once, six questions as one batch, drafts from the known answers. Peer: what upstream does, for each
//! task the whole prompt again and plain greedy decoding. Between them stand the shared prefix without drafts, and six
//! separate passes with drafts, so that it shows what each part brings. All run over the same backend and weights and
//! take turns; wall and CPU time are medians.
//!
//! Random weights would say nothing that any codebook knows, so each row of logits is computed as ever and then the
//! token of a chosen known answer is raised above all others: the work is the real one, the answers have the lengths and
//! branch points of the real ones (CrashChat's six answer files: one token for the label, about 6 a description, 15 a
//! cause, 60 a prevention, 9 and 5 the times; two or three branch points each). The vision tower is not in it: its work is
//! the same for one prompt or six if its output is kept.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use agent_student::convert::{Preset, shape_small, write_random};
use agent_student::decode::{Mode, Plan, Question, Stats, Trie, run};
use agent_student::engine::EngineLanguage;
use agent_student::error::{Result, StudentError};
use agent_student::file::ModelFile;
use agent_student::llm::candle::CandleLanguage;
use agent_student::llm::{Language, Room, Row};
use agent_student::shape::TextShape;

type Failure = Box<dyn std::error::Error>;

const END: u32 = 1;

/// Passes all work on and raises the chosen answers' tokens in the logits.
struct Led<'a> {
    inner: &'a mut dyn Language,
    /// For each branch: tokens of its question, and the answer that it is to give.
    said: Vec<(usize, &'a [u32])>,
}

impl Language for Led<'_> {
    fn shape(&self) -> &TextShape {
        self.inner.shape()
    }
    fn reset(&mut self) {
        self.inner.reset();
    }
    fn prefix_len(&self) -> usize {
        self.inner.prefix_len()
    }
    fn extend_tokens(&mut self, ids: &[u32]) -> Result<()> {
        self.inner.extend_tokens(ids)
    }
    fn extend_embeddings(&mut self, x: &[f32], rows: usize) -> Result<()> {
        self.inner.extend_embeddings(x, rows)
    }
    fn open_branches(&mut self, n: usize) -> Result<()> {
        self.inner.open_branches(n)
    }
    fn branch_len(&self, branch: u8) -> usize {
        self.inner.branch_len(branch)
    }
    fn truncate(&mut self, branch: u8, len: usize) {
        self.inner.truncate(branch, len);
    }
    fn copy_branch(&mut self, from: u8, to: u8) -> Result<()> {
        self.inner.copy_branch(from, to)
    }
    fn step(&mut self, rows: &[Row], logits_of: &[bool], out: &mut Vec<f32>) -> Result<()> {
        let mut at: Vec<usize> = (0..self.said.len()).map(|b| self.inner.branch_len(b as u8)).collect();
        let (begin, vocab) = (out.len(), self.inner.shape().vocab);
        self.inner.step(rows, logits_of, out)?;
        let mut logits = out[begin..].chunks_exact_mut(vocab);
        for (row, wanted) in rows.iter().zip(logits_of) {
            let branch = usize::from(row.branch);
            at[branch] += 1;
            if let Some(logits) = logits.next_if(*wanted) {
                let (question, answer) = self.said[branch];
                let next = at[branch].checked_sub(question).and_then(|i| answer.get(i)).copied().unwrap_or(END);
                logits[next as usize] = 1e4;
            }
        }
        Ok(())
    }
}

/// The next item, only if it is wanted.
trait NextIf: Iterator {
    fn next_if(&mut self, wanted: bool) -> Option<Self::Item> {
        if wanted { self.next() } else { None }
    }
}

impl<I: Iterator> NextIf for I {}

/// Known answers of a task: `count` of about `length` tokens. They part at their first token into groups, within a
/// group at a third of their length, and at two thirds.
fn codebook(task: u32, count: u32, length: u32, vocab: u32) -> Vec<Vec<u32>> {
    let word = |a: u32, b: u32, c: u32| {
        let mut h = (task + 1).wrapping_mul(0x9e37_79b1) ^ a.wrapping_mul(0x85eb_ca6b) ^ b.wrapping_mul(0xc2b2_ae35);
        h = (h ^ c.wrapping_mul(0x27d4_eb2f) ^ (h >> 15)).wrapping_mul(0x2c1b_3c6d);
        2 + (h ^ (h >> 13)) % (vocab - 2)
    };
    let answer = |n: u32| {
        let length = (length * (6 + n % 9) / 10).max(1);
        let seed = |i: u32| {
            if 3 * i < length {
                n / 6
            } else if 3 * i < 2 * length {
                n / 3
            } else {
                n
            }
        };
        (0..length).map(|i| word(i, seed(i), 3 * i / length)).collect()
    };
    (0..count).map(answer).collect()
}

struct Bench {
    questions: Vec<Vec<u32>>,
    books: Vec<Vec<Vec<u32>>>,
    tries: Vec<Trie>,
    prefix: Vec<f32>,
    rows: usize,
}

impl Bench {
    /// Answers the tasks `of` over the prefix in `language`, with or without drafts.
    fn pass(&self, language: &mut dyn Language, of: &[usize], turn: usize, draft: usize) -> Result<Stats> {
        let pick = |task: usize| self.books[task][turn * 7 % self.books[task].len()].as_slice();
        let said = of.iter().map(|t| (self.questions[*t].len(), pick(*t))).collect();
        let question = |t: &usize| Question {
            prompt: &self.questions[*t],
            trie: Some(&self.tries[*t]),
            max_tokens: 256,
            watch: &[],
        };
        let questions: Vec<Question<'_>> = of.iter().map(question).collect();
        let (mode, first) = (Mode::Exact, None);
        let plan = Plan { questions: &questions, ends: &[END], mode, draft, through: 1, first };
        let outcome = run(&mut Led { inner: language, said }, &plan, &|| false, &mut |_| {})?;
        for (task, answer) in of.iter().zip(&outcome.answers) {
            if answer.tokens != pick(*task) {
                return Err(StudentError::Call { place: "bench", what: "another answer than the chosen one".into() });
            }
        }
        Ok(outcome.stats)
    }

    /// All six tasks, in one pass or in six.
    fn six(&self, language: &mut dyn Language, turn: usize, together: bool, draft: usize) -> Result<Vec<Stats>> {
        let all: Vec<usize> = (0..self.questions.len()).collect();
        let passes: Vec<&[usize]> = if together { vec![&all] } else { all.chunks(1).collect() };
        let mut stats = Vec::new();
        for tasks in passes {
            language.reset();
            language.extend_embeddings(&self.prefix, self.rows)?;
            stats.push(self.pass(language, tasks, turn, draft)?);
        }
        Ok(stats)
    }
}

/// CPU time of the process so far, s.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 = after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
    ticks / 100.0
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> std::result::Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| args.iter().position(|a| a == flag).and_then(|i| args.get(i + 1)).map(String::as_str);
    let number = |flag: &str, default: usize| value(flag).map_or(Ok(default), str::parse);
    let preset = Preset::from_name(value("--preset").unwrap_or("q8_0")).ok_or("unknown preset")?;
    let (rows, question, repeat) = (number("--prefix", 600)?, number("--question", 60)?, number("--repeat", 5)?);
    let mut spec = shape_small();
    if value("--shape") != Some("small") {
        (spec.text.hidden, spec.text.ffn, spec.text.layers) = (768, 2048, 12);
        (spec.text.heads, spec.text.kv_heads, spec.text.vocab) = (12, 4, 8192);
    }
    let folder = std::env::temp_dir().join(format!("bench_tasks_{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("random.gguf");
    write_random(&spec, 1, preset, &path)?;
    let file = ModelFile::open(&path)?;
    let room = Room { prefix: rows, branches: 6, branch: 1024 };
    let engine = value("--backend") != Some("candle");
    let threads = number("--threads", 2)?;
    let mut language: Box<dyn Language> = if engine {
        Box::new(EngineLanguage::load(&file, room, threads)?)
    } else {
        Box::new(CandleLanguage::load(&file, room, &candle_core::Device::Cpu)?)
    };
    std::fs::remove_dir_all(&folder)?;

    let vocab = spec.text.vocab as u32;
    let sizes = [(2, 1), (45, 6), (88, 15), (93, 60), (900, 9), (60, 5)];
    let books: Vec<_> = (0..).zip(sizes).map(|(task, (count, length))| codebook(task, count, length, vocab)).collect();
    let tries = books.iter().map(|book| Trie::new(END, book)).collect::<Result<Vec<_>>>()?;
    let questions =
        (0..6).map(|t| (0..question as u32).map(|i| 2 + (i * 31 + t * 977) % (vocab - 2)).collect()).collect();
    let prefix = (0..rows * spec.text.hidden).map(|i| ((i * 7919) % 1009) as f32 / 1009.0 - 0.5).collect();
    let bench = Bench { questions, books, tries, prefix, rows };

    let ways = [
        ("six passes, plain", false, 0),
        ("six passes, drafts", false, 64),
        ("one pass, plain", true, 0),
        ("one pass, drafts", true, 64),
    ];
    println!(
        "{} body {}x{}, vocabulary {vocab}, {}; prefix {rows}, questions 6 x {question}, {}",
        value("--shape").unwrap_or("85m"),
        spec.text.hidden,
        spec.text.layers,
        preset.name(),
        if engine { format!("engine, {threads} threads") } else { "candle".to_owned() }
    );
    let mut times = vec![(Vec::new(), Vec::new(), Vec::new()); ways.len()];
    for turn in 0..=repeat {
        for ((_, together, draft), (wall, cpu, steps)) in ways.iter().zip(&mut times) {
            let (begin, cpu_begin) = (Instant::now(), cpu_s());
            let stats = bench.six(language.as_mut(), turn, *together, *draft)?;
            // The first turn warms up.
            if turn > 0 {
                wall.push(begin.elapsed().as_secs_f64());
                cpu.push(cpu_s() - cpu_begin);
                steps.push(stats.iter().map(|s| f64::from(s.steps)).sum());
            }
        }
    }
    let medians: Vec<_> = times.iter_mut().map(|(w, c, s)| (median(w), median(c), median(s))).collect();
    let peer = medians[0];
    for ((name, ..), (wall, cpu, steps)) in ways.iter().zip(&medians) {
        let (by_wall, by_cpu) = (peer.0 / wall, peer.1 / cpu);
        println!(
            "{name:20} {wall:8.3} s wall {cpu:8.3} s CPU {steps:5} steps: {by_wall:.2} times faster by wall, {by_cpu:.2} by CPU"
        );
    }
    Ok(())
}
