//! The vision tower and the projector on the engine's kernels.
//!
//! Terms and method as in [`crate::vision`]: patches stand in merge order, attention stays within one frame, rotary pairs
//! are half rows and half columns. Frames of one grid pass together while they fit into a pass; a frame's result does
//! not depend on the frames beside it. Buffers grow to the largest frame seen, within the caps on patches.

use std::sync::{Mutex, PoisonError};

use candle_core::cpu::erf::erf_f64;

use super::attention::{Heads, Pass};
use super::kernels::Strips;
use super::limits::{MAX_PASS_ROWS, QUERY_BLOCK};
use super::linear::{Acts, Compute, Linear, done};
use super::load::linear;
use super::norm::{layer, rotate};
use crate::{
    error::Result,
    file::ModelFile,
    frames::{PatchFrame, of_one_grid},
    llm::Seeing,
    shape::VisionShape,
    vision::rotary_angles,
};

struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Norm {
    fn load(file: &ModelFile, name: &str, width: usize) -> Result<Self> {
        Ok(Self {
            weight: file.values(&format!("{name}.weight"), &[width])?,
            bias: file.values(&format!("{name}.bias"), &[width])?,
        })
    }
}

struct Block {
    norm1: Norm,
    norm2: Norm,
    /// Query, key and value side by side.
    qkv: Linear,
    out: Linear,
    up: Linear,
    down: Linear,
}

impl Block {
    fn load(file: &ModelFile, i: usize, shape: &VisionShape) -> Result<Self> {
        let (hidden, ffn) = (shape.hidden, shape.ffn);
        let name = |name: &str| format!("v.blk.{i}.{name}");
        let one = |part: &str, rows: usize, cols: usize| linear(file, &[(name(part), rows)], cols, true);
        let qkv = ["attn_q", "attn_k", "attn_v"].map(|part| (name(part), hidden));
        Ok(Self {
            norm1: Norm::load(file, &name("ln1"), hidden)?,
            norm2: Norm::load(file, &name("ln2"), hidden)?,
            qkv: linear(file, &qkv, hidden, true)?,
            out: one("attn_out", hidden, hidden)?,
            up: one("ffn_up", ffn, hidden)?,
            down: one("ffn_down", hidden, ffn)?,
        })
    }
}

/// Buffers of a pass of up to `rows` patches.
struct Buffers {
    rows: usize,
    x: Vec<f32>,
    qkv: Vec<f32>,
    mixed: Vec<f32>,
    wide: Vec<f32>,
    acts: Acts,
    acts_wide: Acts,
}

impl Buffers {
    fn new(rows: usize, shape: &VisionShape, ints: (bool, bool)) -> Self {
        Self {
            rows,
            x: vec![0.0; rows * shape.hidden],
            qkv: vec![0.0; rows * 3 * shape.hidden],
            mixed: vec![0.0; rows * shape.hidden],
            wide: vec![0.0; rows * shape.ffn],
            acts: Acts::new(rows, shape.hidden, ints.0),
            acts_wide: Acts::new(rows, shape.ffn, ints.1),
        }
    }
}

/// A thread's queries, and the keys and values of one head of one frame.
struct Head {
    pass: Pass,
    tiles: Vec<f32>,
    key: Vec<f32>,
}

/// The tower and the projector.
pub struct EngineVision {
    shape: VisionShape,
    compute: Compute,
    patch: Linear,
    blocks: Vec<Block>,
    norm: Norm,
    first: Linear,
    second: Linear,
    heads: Heads,
    strips: Strips,
    scratch: Vec<Mutex<Head>>,
    buffers: Buffers,
    acts_patch: Acts,
    ints: (bool, bool),
}

impl std::fmt::Debug for EngineVision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineVision").field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl EngineVision {
    /// Reads the vision half of a model file and packs it. `threads` counts the caller's.
    ///
    /// # Errors
    /// [`StudentError::Key`] and [`StudentError::Tensor`] for what is missing or out of range.
    pub fn load(file: &ModelFile, threads: usize) -> Result<Self> {
        Self::with(file, Compute::new(threads))
    }

    /// The same on given threads and kernels.
    ///
    /// # Errors
    /// As [`EngineVision::load`].
    pub fn with(file: &ModelFile, compute: Compute) -> Result<Self> {
        let model = file.shape()?;
        let (shape, text) = (model.vision, model.text.hidden);
        let mut blocks = Vec::with_capacity(shape.layers);
        for i in 0..shape.layers {
            blocks.push(Block::load(file, i, &shape)?);
        }
        let one = |name: &str, rows: usize, cols: usize| linear(file, &[(name.to_owned(), rows)], cols, true);
        let patch = one("v.patch_embd", shape.hidden, shape.patch_values())?;
        let heads = Heads::new(shape.head_dim());
        let fresh = || Head { pass: Pass::new(heads, QUERY_BLOCK), tiles: Vec::new(), key: vec![0.0; heads.dim] };
        let ints = (
            blocks.iter().any(|b| b.qkv.wants_ints() || b.out.wants_ints() || b.up.wants_ints()),
            blocks.iter().any(|b| b.down.wants_ints()),
        );
        Ok(Self {
            first: one("mm.0", text, shape.hidden)?,
            second: one("mm.2", text, text)?,
            norm: Norm::load(file, "v.post_ln", shape.hidden)?,
            strips: Strips::new(shape.hidden, (0..shape.heads).map(|head| head * heads.dim..(head + 1) * heads.dim)),
            scratch: (0..compute.pool.threads()).map(|_| Mutex::new(fresh())).collect(),
            buffers: Buffers::new(0, &shape, ints),
            acts_patch: Acts::new(0, shape.patch_values(), patch.wants_ints()),
            ints,
            patch,
            blocks,
            heads,
            compute,
            shape,
        })
    }

    /// Bytes of the packed weights.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        let layers: usize =
            self.blocks.iter().map(|b| b.qkv.bytes() + b.out.bytes() + b.up.bytes() + b.down.bytes()).sum();
        layers + self.patch.bytes() + self.first.bytes() + self.second.bytes()
    }

    /// Takes frames of one grid through the tower; the stream then holds all their patches, before the last norm.
    fn tower(&mut self, frames: &[PatchFrame], grid: (usize, usize)) -> Result<()> {
        let (patches, values) = (grid.0 * grid.1, self.shape.patch_values());
        let rows = frames.len() * patches;
        if self.buffers.rows < rows {
            self.buffers = Buffers::new(rows, &self.shape, self.ints);
            self.acts_patch = Acts::new(rows, values, self.patch.wants_ints());
        }
        let angles = rotary_angles(&self.shape, grid.0, grid.1);
        let part = |f: fn(f64) -> f64| -> Vec<f32> { angles.iter().map(|a| f(f64::from(*a)) as f32).collect() };
        let (cos, sin) = (part(f64::cos), part(f64::sin));
        let Self { shape, compute, patch, blocks, buffers, acts_patch, .. } = self;
        let (hidden, ffn, eps, isa) = (shape.hidden, shape.ffn, shape.eps, compute.isa);
        let x = &mut buffers.x[..rows * hidden];
        let qkv = &mut buffers.qkv[..rows * 3 * hidden];
        let mixed = &mut buffers.mixed[..rows * hidden];
        let wide = &mut buffers.wide[..rows * ffn];
        let (acts, acts_wide) = (&mut buffers.acts, &mut buffers.acts_wide);
        acts_patch.fill(compute, rows, &|row, out| {
            out.copy_from_slice(&frames[row / patches].pixels[row % patches * values..][..values]);
        })?;
        patch.forward(compute, acts_patch, x)?;
        let seer = Seer { heads: self.heads, hidden, patches, cos: &cos, sin: &sin };
        for block in blocks.iter() {
            let norm = &block.norm1;
            acts.fill(compute, rows, &|row, out| {
                layer(&x[row * hidden..][..hidden], &norm.weight, &norm.bias, eps, out);
            })?;
            block.qkv.forward(compute, acts, qkv)?;
            seer.attend(compute, qkv, &self.strips, &self.scratch, mixed)?;
            acts.fill(compute, rows, &|row, out| out.copy_from_slice(&mixed[row * hidden..][..hidden]))?;
            block.out.forward_add(compute, acts, x)?;
            let norm = &block.norm2;
            acts.fill(compute, rows, &|row, out| {
                layer(&x[row * hidden..][..hidden], &norm.weight, &norm.bias, eps, out);
            })?;
            block.up.forward(compute, acts, wide)?;
            acts_wide.fill(compute, rows, &|row, out| {
                out.copy_from_slice(&wide[row * ffn..][..ffn]);
                isa.gelu_tanh(out);
            })?;
            block.down.forward_add(compute, acts_wide, x)?;
        }
        Ok(())
    }

    /// The kept vision tokens of what the tower left: last norm, mean of each merge block, projector.
    fn project(&mut self, frames: &[PatchFrame], out: &mut Vec<f32>) -> Result<()> {
        let Self { shape, compute, buffers, norm, first, second, .. } = self;
        let (hidden, merged) = (shape.hidden, shape.merge * shape.merge);
        let kept: Vec<usize> =
            frames.iter().flat_map(|f| &f.keep).enumerate().filter(|(_, keep)| **keep).map(|(i, _)| i).collect();
        for kept in kept.chunks(MAX_PASS_ROWS) {
            let mut tokens = Acts::new(kept.len(), hidden, first.wants_ints());
            let x = &buffers.x;
            tokens.fill(compute, kept.len(), &|row, out| {
                let mut one = vec![0.0; hidden];
                out.fill(0.0);
                for patch in kept[row] * merged..(kept[row] + 1) * merged {
                    layer(&x[patch * hidden..][..hidden], &norm.weight, &norm.bias, shape.eps, &mut one);
                    out.iter_mut().zip(&one).for_each(|(out, one)| *out += one);
                }
                out.iter_mut().for_each(|out| *out /= merged as f32);
            })?;
            let width = first.rows();
            let mut inner = vec![0.0; kept.len() * width];
            first.forward(compute, &tokens, &mut inner)?;
            let mut acts = Acts::new(kept.len(), width, second.wants_ints());
            acts.fill(compute, kept.len(), &|row, out| {
                for (out, x) in out.iter_mut().zip(&inner[row * width..]) {
                    *out = gelu_erf(*x);
                }
            })?;
            let start = out.len();
            out.resize(start + kept.len() * second.rows(), 0.0);
            second.forward(compute, &acts, &mut out[start..])?;
        }
        Ok(())
    }
}

fn gelu_erf(x: f32) -> f32 {
    let x = f64::from(x);
    (0.5 * x * (1.0 + erf_f64(x * std::f64::consts::FRAC_1_SQRT_2))) as f32
}

impl Seeing for EngineVision {
    fn encode(&mut self, frames: &[PatchFrame]) -> Result<Vec<f32>> {
        for frame in frames {
            frame.check(&self.shape)?;
        }
        let mut out = Vec::new();
        let mut rest = frames;
        while let Some(first) = rest.first() {
            let grid = (first.rows, first.cols);
            let (batch, later) = of_one_grid(rest, |patches| MAX_PASS_ROWS / patches);
            if batch.iter().any(|frame| frame.kept() > 0) {
                self.tower(batch, grid)?;
                self.project(batch, &mut out)?;
            }
            rest = later;
        }
        Ok(out)
    }
}

/// Attention within frames.
struct Seer<'a> {
    heads: Heads,
    hidden: usize,
    patches: usize,
    cos: &'a [f32],
    sin: &'a [f32],
}

impl Seer<'_> {
    fn rotate(&self, patch: usize, head: &[f32], scale: f32, out: &mut [f32]) {
        let half = self.heads.dim / 2;
        rotate(head, &self.cos[patch * half..][..half], &self.sin[patch * half..][..half], scale, out);
    }

    /// One item is one head of one frame: it lays out the keys and values, then passes all queries over them.
    fn attend(
        &self,
        compute: &mut Compute,
        qkv: &[f32],
        strips: &Strips,
        scratch: &[Mutex<Head>],
        mixed: &mut [f32],
    ) -> Result<()> {
        let (heads, hidden, isa) = (self.heads, self.hidden, compute.isa);
        let scale = 1.0 / (heads.dim as f32).sqrt();
        done(compute.pool.for_blocks(mixed, strips, self.patches, &|worker, index, mut strip| {
            let mut scratch = scratch[worker].lock().unwrap_or_else(PoisonError::into_inner);
            let Head { pass, tiles, key } = &mut *scratch;
            let rows = strip.rows();
            let part =
                |row: usize, third: usize| &qkv[row * 3 * hidden + third * hidden + index * heads.dim..][..heads.dim];
            tiles.resize(heads.room(rows.len()), 0.0);
            for (i, row) in rows.clone().enumerate() {
                self.rotate(i, part(row, 1), 1.0, key);
                heads.put(tiles, i, key, part(row, 2));
            }
            for first in (0..rows.len()).step_by(QUERY_BLOCK) {
                let count = QUERY_BLOCK.min(rows.len() - first);
                pass.begin(count);
                for i in 0..count {
                    self.rotate(first + i, part(rows.start + first + i, 0), scale, pass.query(i));
                }
                pass.over(isa, tiles, 0..count, &|_| rows.len());
                for i in 0..count {
                    pass.finish(i, strip.row(first + i));
                }
            }
        }))
    }
}
