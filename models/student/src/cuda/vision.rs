//! The vision tower and the projector on an NVIDIA GPU.
//!
//! Terms as in [`crate::vision`], which says what is computed and by what source. Frames of one grid go together, as many
//! as [`PATCHES`] holds; attention is that of the language half, with every head of every frame a head of its own and
//! no rows but those of the frame. Streams are f32, factors f16.

use std::sync::Arc;

use half::f16;

use super::{
    attend_of,
    gpu::{Buffer, Gpu, How, Outcome, Product, launch},
    matrix::Rows,
    passes::{Attention, header},
};
use crate::{
    error::{Place, Result},
    file::ModelFile,
    frames::{PatchFrame, of_one_grid},
    limits::MAX_FRAME_PATCHES,
    llm::Seeing,
    shape::VisionShape,
    vision::rotary_angles,
};

/// Patches that go through the tower at once: the largest frame, or several smaller ones.
const PATCHES: usize = MAX_FRAME_PATCHES;
/// Queries of one block of the attention kernel.
const BLOCK_QUERIES: usize = 64;

/// Weight and bias of a layer norm.
struct Norm([Buffer<f32>; 2]);

struct Block {
    norms: [Norm; 2],
    qkv: Rows,
    out: Rows,
    up: Rows,
    down: Rows,
}

struct Scratch {
    pixels: Buffer<f32>,
    patches: Buffer<f16>,
    /// The stream, patches x width.
    x: Buffer<f32>,
    normed: Buffer<f16>,
    qkv: Buffer<f16>,
    turned: [Buffer<f16>; 3],
    attended: Buffer<f16>,
    up: Buffer<f16>,
    kept: Buffer<i32>,
    merged: Buffer<f16>,
    first: Buffer<f16>,
    tokens: Buffer<f32>,
    header: Buffer<i32>,
    places: Buffer<i32>,
}

/// Cosines and sines of one grid.
struct Grid {
    rows: usize,
    cols: usize,
    cos: Buffer<f32>,
    sin: Buffer<f32>,
}

/// The tower and the projector.
pub struct CudaVision {
    gpu: Arc<Gpu>,
    shape: VisionShape,
    hidden: usize,
    patch: Rows,
    blocks: Vec<Block>,
    norm: Norm,
    projector: [Rows; 2],
    scratch: Scratch,
    grid: Option<Grid>,
}

impl std::fmt::Debug for CudaVision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CudaVision").field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl CudaVision {
    /// Reads the vision half of a model file to the GPU and takes its memory.
    ///
    /// # Errors
    /// As [`crate::vision::Vision::load`], and a fault of the device for what the driver refuses.
    pub fn load(file: &ModelFile, gpu: &Arc<Gpu>) -> Result<Self> {
        gpu.enter().place("CUDA device")?;
        let model = file.shape()?;
        let (shape, hidden) = (model.vision, model.text.hidden);
        let (width, ffn) = (shape.hidden, shape.ffn);
        let rows = |names: &[String], n: usize, k: usize| Rows::load(gpu, file, names, (n, k));
        let norm = |name: &str| -> Result<Norm> {
            let values = |part: &str| -> Result<Buffer<f32>> {
                gpu.buffer_of(&file.values(&format!("{name}.{part}"), &[width])?).place("vector to the device")
            };
            Ok(Norm([values("weight")?, values("bias")?]))
        };
        let mut blocks = Vec::with_capacity(shape.layers);
        for i in 0..shape.layers {
            let at = |name: &str| format!("v.blk.{i}.{name}");
            blocks.push(Block {
                norms: [norm(&at("ln1"))?, norm(&at("ln2"))?],
                qkv: rows(&[at("attn_q"), at("attn_k"), at("attn_v")], width, width)?,
                out: rows(&[at("attn_out")], width, width)?,
                up: rows(&[at("ffn_up")], ffn, width)?,
                down: rows(&[at("ffn_down")], width, ffn)?,
            });
        }
        let tokens = PATCHES / (shape.merge * shape.merge).max(1);
        let scratch = || -> Outcome<Scratch> {
            let wide = PATCHES * width;
            Ok(Scratch {
                pixels: gpu.buffer(PATCHES * shape.patch_values())?,
                patches: gpu.buffer(PATCHES * shape.patch_values())?,
                x: gpu.buffer(wide)?,
                normed: gpu.buffer(wide)?,
                qkv: gpu.buffer(3 * wide)?,
                turned: [gpu.buffer(wide)?, gpu.buffer(wide)?, gpu.buffer(wide)?],
                attended: gpu.buffer(wide)?,
                up: gpu.buffer(PATCHES * ffn)?,
                kept: gpu.buffer(tokens)?,
                merged: gpu.buffer(tokens * width)?,
                first: gpu.buffer(tokens * hidden)?,
                tokens: gpu.buffer(tokens * hidden)?,
                header: gpu.buffer(header(0, 0, &[], 0).len())?,
                places: gpu.buffer(PATCHES * 4)?,
            })
        };
        Ok(Self {
            patch: rows(&["v.patch_embd".to_owned()], width, shape.patch_values())?,
            norm: norm("v.post_ln")?,
            projector: [rows(&["mm.0".to_owned()], hidden, width)?, rows(&["mm.2".to_owned()], hidden, hidden)?],
            scratch: scratch().place("memory of the vision half")?,
            gpu: Arc::clone(gpu),
            grid: None,
            blocks,
            hidden,
            shape,
        })
    }

    /// What all frames of a grid share: angles, and that every patch of a frame sees all of it.
    fn set_grid(&mut self, rows: usize, cols: usize) -> Outcome<()> {
        if self.grid.as_ref().is_some_and(|grid| (grid.rows, grid.cols) == (rows, cols)) {
            return Ok(());
        }
        let angles = rotary_angles(&self.shape, rows, cols);
        let part = |f: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|angle| f(f64::from(*angle)) as f32).collect();
            self.gpu.buffer_of(&values)
        };
        let patches = rows * cols;
        let places: Vec<[i32; 4]> = (0..patches as i32).map(|i| [-1, i, i, patches as i32]).collect();
        self.gpu.upload(self.scratch.places.at(0), places.as_flattened())?;
        self.gpu.upload(self.scratch.header.at(0), &header(patches, patches, &[], 0))?;
        self.grid = Some(Grid { rows, cols, cos: part(f64::cos)?, sin: part(f64::sin)? });
        Ok(())
    }

    /// Frames of one grid, as many as fit: their kept vision tokens.
    fn project(&mut self, frames: &[PatchFrame], out: &mut Vec<f32>) -> Outcome<()> {
        let Some(first) = frames.first() else { return Ok(()) };
        self.gpu.enter()?;
        self.set_grid(first.rows, first.cols)?;
        let kept = frames.iter().flat_map(|f| &f.keep).enumerate().filter(|(_, keep)| **keep);
        let kept: Vec<i32> = kept.map(|(i, _)| i as i32).collect();
        if kept.is_empty() {
            return Ok(());
        }
        self.tower(frames, first.rows * first.cols)?;
        let (gpu, s, k) = (&self.gpu, &self.scratch, &self.gpu.kernels);
        let (width, merged) = (self.shape.hidden, self.shape.merge * self.shape.merge);
        gpu.upload(s.kept.at(0), &kept)?;
        launch!(gpu, k.gather_mean, How::row(kept.len(), 256); s.normed.at(0), s.kept.at(0), s.merged.at(0), width as i32,
            merged as i32)?;
        let [one, two] = &self.projector;
        let (count, values) = (kept.len(), kept.len() * self.hidden);
        one.multiply(gpu, plain(&s.merged, s.first.at(0), count, true))?;
        launch!(gpu, k.gelu, How::values(values); s.first.at(0), one.bias.at(0), self.hidden as i32, values as i32, 1i32)?;
        launch!(gpu, k.fill_rows, How::values(values); s.tokens.at(0), two.bias.at(0), self.hidden as i32, values as i32)?;
        two.multiply(gpu, Product { beta: 1.0, ..plain(&s.first, s.tokens.at(0), count, false) })?;
        let at = out.len();
        out.resize(at + values, 0.0);
        gpu.download(s.tokens.at(0), &mut out[at..])
    }

    /// Frames of so many patches through the tower, to `normed`.
    fn tower(&self, frames: &[PatchFrame], patches: usize) -> Outcome<()> {
        let (gpu, s, shape) = (&self.gpu, &self.scratch, &self.shape);
        let Some(grid) = &self.grid else { candle_core::bail!("no grid") };
        let (k, values, width, ffn) = (&gpu.kernels, shape.patch_values(), shape.hidden, shape.ffn);
        let (count, rows) = (frames.len(), frames.len() * patches);
        for (i, frame) in frames.iter().enumerate() {
            gpu.upload(s.pixels.at(i * patches * values), &frame.pixels)?;
        }
        launch!(gpu, k.to_half, How::values(rows * values); s.pixels.at(0), s.patches.at(0), (rows * values) as i32)?;
        let wide = (rows * width) as i32;
        launch!(gpu, k.fill_rows, How::values(rows * width); s.x.at(0), self.patch.bias.at(0), width as i32, wide)?;
        self.patch.multiply(gpu, Product { beta: 1.0, ..plain(&s.patches, s.x.at(0), rows, false) })?;
        // A product leaves its bias to the norm behind it.
        let norm = |Norm([weight, bias]): &Norm, add: u64| {
            launch!(gpu, k.layer_norm, How::row(rows, 256); s.x.at(0), add, weight.at(0), bias.at(0), s.normed.at(0),
                width as i32, shape.eps)
        };
        let head = shape.head_dim();
        let frame_heads = (count * shape.heads) as i32;
        let [q, key, value] = &s.turned;
        let attention = Attention {
            from: [q.at(0), key.at(0), value.at(0), 0, 0, s.places.at(0), s.header.at(0)],
            to: [s.attended.at(0), 0, 0],
            sizes: [frame_heads, frame_heads, shape.heads as i32, head as i32, patches as i32, 0, 1],
            scale: 1.0 / (head as f32).sqrt(),
        };
        let attend = How { grid: (patches.div_ceil(BLOCK_QUERIES), count * shape.heads, 1), threads: 128, shared: 0 };
        let mut left = 0u64;
        for block in &self.blocks {
            norm(&block.norms[0], left)?;
            block.qkv.multiply(gpu, plain(&s.normed, s.qkv.at(0), rows, true))?;
            launch!(gpu, k.rope_patches, How::row(rows, 256); s.qkv.at(0), block.qkv.bias.at(0), grid.cos.at(0),
                grid.sin.at(0), q.at(0), key.at(0), value.at(0), count as i32, patches as i32, shape.heads as i32, head as i32)?;
            launch!(gpu, attend_of(k, head), attend; attention)?;
            let added = |x: &Buffer<f16>| Product { beta: 1.0, ..plain(x, s.x.at(0), rows, false) };
            block.out.multiply(gpu, added(&s.attended))?;
            norm(&block.norms[1], block.out.bias.at(0))?;
            block.up.multiply(gpu, plain(&s.normed, s.up.at(0), rows, true))?;
            launch!(gpu, k.gelu, How::values(rows * ffn); s.up.at(0), block.up.bias.at(0), ffn as i32, (rows * ffn) as i32, 0i32)?;
            block.down.multiply(gpu, added(&s.up))?;
            left = block.down.bias.at(0);
        }
        norm(&self.norm, left)
    }
}

/// A product of `rows` rows whose matrix says the rest.
fn plain(x: &Buffer<f16>, out: u64, rows: usize, half: bool) -> Product {
    Product { w: 0, x: x.at(0), out, rows, n: 0, k: 0, width: 0, half, alpha: 1.0, beta: 0.0 }
}

impl Seeing for CudaVision {
    fn encode(&mut self, frames: &[PatchFrame]) -> Result<Vec<f32>> {
        for frame in frames {
            frame.check(&self.shape)?;
        }
        let mut out = Vec::new();
        let mut rest = frames;
        while !rest.is_empty() {
            let (batch, later) = of_one_grid(rest, |patches| PATCHES / patches);
            self.project(batch, &mut out).place("vision")?;
            rest = later;
        }
        Ok(out)
    }
}
