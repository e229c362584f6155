//! The language half on an NVIDIA GPU.
//!
//! Terms as in [`super`] and [`crate::llm`]. A step of at most [`FEW`] rows is one recorded graph: what differs from step
//! to step (tokens, places, lengths) lies in memory that the host writes before each run, and only what decoding reads of
//! the logits comes back. More rows go chunk by chunk. Knows no vision.

use std::sync::Arc;

use half::f16;

use super::{
    gpu::{Buffer, Gpu, How, Outcome, Pinned, Recorded, launch},
    matrix::Tiles,
    passes::{Block, CHUNK, FEW, FEWEST, HEADER, MAX_ASKED, SLICES, Scratch, header},
};
use crate::{
    error::{Place, Result},
    file::ModelFile,
    limits::MAX_STEP_ROWS,
    llm::{Language, Piece, Room, Row, RowRead, branches::Branches, call, check_pieces, check_token, read_rows, runs},
    shape::TextShape,
    vision::frequencies,
};

/// Where a row stands, as the kernels read it (`RowPlace`): branch or -1, place, position, prefix tokens it sees.
fn place(branch: i32, at: usize, position: usize, sees: usize) -> [i32; 4] {
    [branch, at as i32, position as i32, sees as i32]
}

/// What the host writes before a recorded step, in words: header, tokens, marks, places, asked logits.
pub(super) struct Inputs {
    pub(super) host: Pinned<i32>,
    pub(super) device: Buffer<i32>,
}

impl Inputs {
    pub(super) const TOKENS: usize = HEADER;
    pub(super) const MARKS: usize = Self::TOKENS + FEW;
    pub(super) const PLACES: usize = Self::MARKS + FEW;
    pub(super) const ASKED: usize = Self::PLACES + 4 * FEW;
    const LEN: usize = Self::ASKED + 2 * MAX_ASKED;
}

/// What comes back of it: for each marked row its slices, then the asked logits.
pub(super) struct Results {
    host: Pinned<f32>,
    pub(super) device: Buffer<f32>,
    /// All logits, rows x vocabulary.
    pub(super) logits: Buffer<f32>,
}

impl Results {
    pub(super) const ASKED: usize = FEW * SLICES * 3;
    const LEN: usize = Self::ASKED + MAX_ASKED;
}

/// The language half with its caches on a GPU.
pub struct CudaLanguage {
    pub(super) gpu: Arc<Gpu>,
    pub(super) shape: TextShape,
    pub(super) room: Room,
    pub(super) table: Tiles,
    pub(super) head: Option<Tiles>,
    pub(super) norm: Buffer<f32>,
    pub(super) blocks: Vec<Block>,
    pub(super) cos: Buffer<f32>,
    pub(super) sin: Buffer<f32>,
    pub(super) scratch: Scratch,
    pub(super) inputs: Inputs,
    pub(super) results: Results,
    steps: [Option<Recorded>; 2],
    prefix: usize,
    branches: Branches,
}

impl std::fmt::Debug for CudaLanguage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CudaLanguage").field("shape", &self.shape).field("room", &self.room).finish_non_exhaustive()
    }
}

impl CudaLanguage {
    /// Reads the language half of a model file to the GPU, allocates its caches and records its steps.
    ///
    /// # Errors
    /// As [`crate::llm::candle::CandleLanguage::load`], and a fault of the device for what the driver refuses.
    pub fn load(file: &ModelFile, room: Room, gpu: &Arc<Gpu>) -> Result<Self> {
        let shape = file.text_shape()?;
        room.check(&shape)?;
        gpu.enter().place("CUDA device")?;
        let (hidden, vocab) = (shape.hidden, shape.vocab);
        let mut blocks = Vec::with_capacity(shape.layers);
        for i in 0..shape.layers {
            blocks.push(Block::load(gpu, file, i, &shape, &room)?);
        }
        let head = if shape.tied { None } else { Some(Tiles::load(gpu, file, "output", (vocab, hidden), 0)?) };
        let table = Tiles::load(gpu, file, "token_embd", (vocab, hidden), 0)?;
        let norm = gpu.buffer_of(&file.values("output_norm.weight", &[hidden])?).place("vector to the device")?;
        let largest = blocks.iter().map(Block::largest).max().unwrap_or(0);
        let rest = || -> Outcome<_> {
            let inverse = frequencies(shape.rope_theta, shape.head_dim());
            let part = |f: fn(f64) -> f64| {
                let angle = |at: usize| inverse.iter().map(move |inverse| at as f32 * inverse);
                let angles = (0..room.prefix + room.branch).flat_map(angle);
                gpu.buffer_of(&angles.map(|angle| f(f64::from(angle)) as f32).collect::<Vec<f32>>())
            };
            let inputs = Inputs { host: Pinned::new(gpu, Inputs::LEN)?, device: gpu.buffer(Inputs::LEN)? };
            let (host, device) = (Pinned::new(gpu, Results::LEN)?, gpu.buffer(Results::LEN)?);
            let results = Results { host, device, logits: gpu.buffer(FEW * vocab)? };
            Ok((part(f64::cos)?, part(f64::sin)?, Scratch::new(gpu, &shape, largest)?, inputs, results))
        };
        let (cos, sin, scratch, inputs, results) = rest().place("memory of the language half")?;
        let mut language = Self {
            gpu: Arc::clone(gpu),
            branches: Branches::new(&room),
            prefix: 0,
            steps: [None, None],
            table,
            head,
            norm,
            blocks,
            cos,
            sin,
            scratch,
            inputs,
            results,
            shape,
            room,
        };
        language.record().place("recorded steps")?;
        Ok(language)
    }

    fn record(&mut self) -> Outcome<()> {
        self.gpu.wait()?;
        for (i, rows) in [FEWEST, FEW].into_iter().enumerate() {
            self.steps[i] = Some(self.gpu.record(|| self.few(rows))?);
        }
        Ok(())
    }

    /// The stream of rows `start..start + count` of some pieces.
    fn fill(&self, pieces: &[Piece<'_>], start: usize, count: usize) -> Outcome<()> {
        let (gpu, s, hidden) = (&self.gpu, &self.scratch, self.shape.hidden);
        let mut at = 0;
        for piece in pieces {
            let len = piece.rows(hidden);
            let (from, to) = (start.max(at), (start + count).min(at + len));
            if from < to {
                let (rows, x) = (to - from, s.x.at((from - start) * hidden));
                match piece {
                    Piece::Tokens(ids) => self.embed(&ids[from - at..to - at], from - start, x)?,
                    Piece::Embeddings(values) => gpu.upload(x, &values[(from - at) * hidden..][..rows * hidden])?,
                }
            }
            at += len;
        }
        Ok(())
    }

    fn embed(&self, ids: &[u32], at: usize, x: u64) -> Outcome<()> {
        let (gpu, tokens, rows) = (&self.gpu, self.scratch.tokens.at(at), ids.len());
        gpu.upload(tokens, ids)?;
        let how = How::row((rows * self.shape.hidden / 256).div_ceil(4).max(1), 128);
        launch!(gpu, gpu.kernels.embed, how; self.table.at(0, 0), tokens, x, rows as i32)
    }

    fn grow(&mut self, pieces: &[Piece<'_>], rows: usize) -> Result<()> {
        self.branches.may_grow(self.prefix, rows, &self.room)?;
        let run = || -> Outcome<()> {
            self.gpu.enter()?;
            let mut done = 0;
            while done < rows {
                let (at, count) = (self.prefix + done, (rows - done).min(CHUNK));
                let places: Vec<[i32; 4]> = (at..at + count).map(|i| place(-1, i, i, i + 1)).collect();
                self.fill(pieces, done, count)?;
                self.many(&places, &[], at + count)?;
                done += count;
            }
            // What the device refuses is this call's fault and not the next one's.
            self.gpu.wait()
        };
        run().place("prefix")?;
        self.prefix += rows;
        Ok(())
    }

    /// Runs a step; `taken` hears of each group of marked rows: their numbers, when their logits are on the device.
    fn pass(
        &mut self,
        rows: &[Row],
        marks: &[bool],
        wanted: &[&[u32]],
        taken: &mut dyn FnMut(&Self, usize) -> Outcome<()>,
    ) -> Result<()> {
        let runs = runs(&self.shape, &self.room, self.branches.lens(), rows, marks)?;
        let mut places = Vec::with_capacity(rows.len());
        let mut after = self.branches.clone();
        after.grow(&runs);
        for run in &runs {
            let held = self.branches.lens()[run.branch];
            places.extend((held..held + run.len).map(|at| place(run.branch as i32, at, self.prefix + at, self.prefix)));
        }
        let marked: Vec<i32> = (0..).zip(marks).filter(|(_, mark)| **mark).map(|(i, _)| i).collect();
        self.run(rows, &places, &marked, (after.lens(), wanted), taken).place("step")?;
        self.branches = after;
        Ok(())
    }

    fn run(
        &mut self,
        rows: &[Row],
        places: &[[i32; 4]],
        marked: &[i32],
        (lens, wanted): (&[usize], &[&[u32]]),
        taken: &mut dyn FnMut(&Self, usize) -> Outcome<()>,
    ) -> Outcome<()> {
        self.gpu.enter()?;
        if rows.len() <= FEW {
            let host = &mut self.inputs.host;
            host[..HEADER].copy_from_slice(&header(rows.len(), self.prefix, lens, marked.len()));
            for (to, row) in host[Inputs::TOKENS..].iter_mut().zip(rows) {
                *to = row.token as i32;
            }
            host[Inputs::MARKS..][..marked.len()].copy_from_slice(marked);
            // Rows that the step takes and nobody asked for stand nowhere.
            let nowhere = place(-2, 0, 0, 0);
            let all = places.iter().chain(std::iter::repeat(&nowhere)).flatten();
            for (to, value) in host[Inputs::PLACES..Inputs::ASKED].iter_mut().zip(all) {
                *to = *value;
            }
            self.ask(wanted);
            self.gpu.upload(self.inputs.device.at(0), &self.inputs.host)?;
            if let Some(step) = &self.steps[usize::from(rows.len() > FEWEST)] {
                step.run()?;
            }
            return taken(self, marked.len());
        }
        // More rows than a recorded step takes: their logits in groups, behind the blocks.
        let mut kept = Vec::new();
        let mut done = 0;
        while done < rows.len() {
            let count = (rows.len() - done).min(CHUNK);
            let ids: Vec<u32> = rows[done..done + count].iter().map(|row| row.token).collect();
            self.embed(&ids, 0, self.scratch.x.at(0))?;
            self.many(&places[done..done + count], lens, self.prefix)?;
            kept.clear();
            kept.extend(marked.iter().map(|m| *m - done as i32).filter(|m| (0..count as i32).contains(m)));
            let before = marked.iter().filter(|m| (**m as usize) < done).count();
            for (i, group) in kept.chunks(FEW).enumerate() {
                let host = &mut self.inputs.host;
                host[..HEADER].copy_from_slice(&header(count, self.prefix, lens, group.len()));
                host[Inputs::MARKS..][..group.len()].copy_from_slice(group);
                let from = before + i * FEW;
                self.ask(wanted.get(from..from + group.len()).unwrap_or_default());
                self.gpu.upload(self.inputs.device.at(0), &self.inputs.host)?;
                self.logits_of(group.len())?;
                taken(self, group.len())?;
            }
            done += count;
        }
        self.gpu.wait()
    }

    /// Writes which logits are asked for, row by row, as many as there is room for.
    fn ask(&mut self, wanted: &[&[u32]]) {
        let pairs = (0i32..).zip(wanted).flat_map(|(row, tokens)| tokens.iter().map(move |token| [row, *token as i32]));
        for (to, pair) in self.inputs.host[Inputs::ASKED..].chunks_exact_mut(2).zip(pairs) {
            to.copy_from_slice(&pair);
        }
    }

    /// What decoding reads of `count` rows whose logits are on the device.
    fn read_back(&self, count: usize, wanted: &[&[u32]], host: &mut [f32], out: &mut Vec<RowRead>) -> Outcome<()> {
        let asked: usize = wanted.iter().map(|w| w.len()).sum();
        self.gpu.download(self.results.device.at(0), host)?;
        let mut picked = host[Results::ASKED..].iter();
        for (slices, tokens) in host.chunks_exact(3 * SLICES).take(count).zip(wanted) {
            let mut read =
                RowRead { best: 0, max: f32::NEG_INFINITY, lse: 0.0, picked: Vec::with_capacity(tokens.len()) };
            for slice in slices.chunks_exact(3) {
                // Slices come in the order of tokens: of equal logits the first token counts.
                if slice[0] > read.max {
                    (read.max, read.best) = (slice[0], slice[1].to_bits());
                }
            }
            let shift = |slice: &[f32]| slice[2] * (slice[0] - read.max).exp();
            // A slice without any number is no part of the sum.
            let sum: f32 =
                slices.chunks_exact(3).filter(|s| s[0] > f32::NEG_INFINITY || s[2].is_nan()).map(shift).sum();
            read.lse = read.max + sum.ln();
            if asked <= MAX_ASKED {
                read.picked.extend(picked.by_ref().take(tokens.len()));
            }
            out.push(read);
        }
        if asked > MAX_ASKED {
            let vocab = self.shape.vocab;
            let mut row = vec![0.0f32; vocab];
            let first = out.len() - count;
            for (i, tokens) in wanted.iter().enumerate() {
                self.gpu.download(self.results.logits.at(i * vocab), &mut row)?;
                out[first + i]
                    .picked
                    .extend(tokens.iter().map(|t| row.get(*t as usize).copied().unwrap_or(f32::NEG_INFINITY)));
            }
        }
        Ok(())
    }
}

impl Language for CudaLanguage {
    fn shape(&self) -> &TextShape {
        &self.shape
    }

    fn reset(&mut self) {
        self.prefix = 0;
        self.branches.close();
    }

    fn prefix_len(&self) -> usize {
        self.prefix
    }

    fn extend_tokens(&mut self, ids: &[u32]) -> Result<()> {
        self.extend_pieces(&[Piece::Tokens(ids)])
    }

    fn extend_embeddings(&mut self, x: &[f32], rows: usize) -> Result<()> {
        if rows.checked_mul(self.shape.hidden) != Some(x.len()) {
            return Err(call(format!("{} values for {rows} rows of {}", x.len(), self.shape.hidden)));
        }
        self.extend_pieces(&[Piece::Embeddings(x)])
    }

    fn extend_pieces(&mut self, pieces: &[Piece<'_>]) -> Result<()> {
        let rows = check_pieces(&self.shape, pieces)?;
        self.grow(pieces, rows)
    }

    fn open_branches(&mut self, n: usize) -> Result<()> {
        self.branches.open(n, self.prefix, &self.room)
    }

    fn branch_len(&self, branch: u8) -> usize {
        self.branches.len(branch)
    }

    fn truncate(&mut self, branch: u8, len: usize) {
        self.branches.truncate(branch, len);
    }

    fn copy_branch(&mut self, from: u8, to: u8) -> Result<()> {
        self.branches.copy(from, to, |from, to, _| {
            // A branch stands in one piece: [branch][kv head][place][width].
            let size = self.shape.kv_dim() * self.room.branch;
            let copy = || -> Outcome<()> {
                self.gpu.enter()?;
                for cache in self.blocks.iter().flat_map(|block| &block.branch) {
                    self.gpu.copy(cache.at(from * size), cache.at(to * size), size * size_of::<f16>())?;
                }
                Ok(())
            };
            copy().place("copy of a branch")
        })
    }

    fn step(&mut self, rows: &[Row], logits_of: &[bool], out: &mut Vec<f32>) -> Result<()> {
        let (vocab, begin) = (self.shape.vocab, out.len());
        let taken = self.pass(rows, logits_of, &[], &mut |this, count| {
            let at = out.len();
            out.resize(at + count * vocab, 0.0);
            this.gpu.download(this.results.logits.at(0), &mut out[at..])
        });
        taken.inspect_err(|_| out.truncate(begin))
    }

    fn step_read(
        &mut self,
        rows: &[Row],
        logits_of: &[bool],
        wanted: &[&[u32]],
        _logits: &mut Vec<f32>,
    ) -> Result<Vec<RowRead>> {
        read_rows(logits_of, wanted)?;
        for token in wanted.iter().copied().flatten() {
            check_token(&self.shape, *token)?;
        }
        let mut out = Vec::with_capacity(wanted.len());
        let mut host = std::mem::replace(&mut self.results.host, Pinned::new(&self.gpu, 0).place("step")?);
        let taken = self.pass(rows, logits_of, wanted, &mut |this, count| {
            let done = out.len();
            this.read_back(count, wanted.get(done..done + count).unwrap_or_default(), &mut host, &mut out)
        });
        self.results.host = host;
        taken?;
        out.iter().try_for_each(RowRead::check)?;
        Ok(out)
    }
}

const _: () = assert!(FEW <= MAX_STEP_ROWS);
