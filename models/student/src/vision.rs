//! The vision tower on candle: SigLIP's blocks with 2-D rotary positions, attention within one frame.
//!
//! Terms: patches stand in merge order (all patches of one vision token are neighbours), so that merging is a mean
//! over neighbours; a head's rotary pairs are half rows, half columns. There is no position embedding and no class
//! token. Frames of one grid go through as a batch; the scores held at once are bounded.
//!
//! Method: VideoLLaMA3 (Zhang et al. 2025, arXiv:2501.13106), as the Hugging Face port computes it: upstream's eager
//! attention adds a boolean mask to the scores, which is a fault that the port does not have.

use candle_core::{DType, Device, Tensor};
use candle_nn::{ops, rotary_emb};

use crate::{
    error::{Place, Result},
    file::ModelFile,
    frames::{PatchFrame, of_one_grid},
    limits::MAX_SCORES,
    linear::{Linear, dense_type, vector},
    llm::Seeing,
    projector::Projector,
    shape::VisionShape,
};

#[derive(Debug)]
struct Norm {
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    fn load(file: &ModelFile, name: &str, width: usize, kind: DType, device: &Device) -> Result<Self> {
        Ok(Self {
            weight: vector(file, &format!("{name}.weight"), width, kind, device)?,
            bias: vector(file, &format!("{name}.bias"), width, kind, device)?,
        })
    }

    fn forward(&self, x: &Tensor, eps: f32) -> candle_core::Result<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias, eps)
    }
}

#[derive(Debug)]
struct Block {
    norm1: Norm,
    norm2: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    up: Linear,
    down: Linear,
}

impl Block {
    fn load(file: &ModelFile, i: usize, shape: &VisionShape, kind: DType, device: &Device) -> Result<Self> {
        let (hidden, ffn) = (shape.hidden, shape.ffn);
        let linear = |name: &str, n: usize, k: usize| {
            Linear::load(file, &format!("v.blk.{i}.{name}"), (n, k), true, kind, device)
        };
        Ok(Self {
            norm1: Norm::load(file, &format!("v.blk.{i}.ln1"), hidden, kind, device)?,
            norm2: Norm::load(file, &format!("v.blk.{i}.ln2"), hidden, kind, device)?,
            query: linear("attn_q", hidden, hidden)?,
            key: linear("attn_k", hidden, hidden)?,
            value: linear("attn_v", hidden, hidden)?,
            out: linear("attn_out", hidden, hidden)?,
            up: linear("ffn_up", ffn, hidden)?,
            down: linear("ffn_down", hidden, ffn)?,
        })
    }
}

/// The tower and the projector.
#[derive(Debug)]
pub struct Vision {
    shape: VisionShape,
    kind: DType,
    device: Device,
    patch: Linear,
    blocks: Vec<Block>,
    norm: Norm,
    projector: Projector,
}

impl Vision {
    /// Reads the vision half of a model file.
    ///
    /// # Errors
    /// [`StudentError::Key`] and [`StudentError::Tensor`] for what is missing or out of range.
    pub fn load(file: &ModelFile, device: &Device) -> Result<Self> {
        let model = file.shape()?;
        let shape = model.vision;
        let kind = dense_type(device);
        let mut blocks = Vec::with_capacity(shape.layers);
        for i in 0..shape.layers {
            blocks.push(Block::load(file, i, &shape, kind, device)?);
        }
        Ok(Self {
            patch: Linear::load(file, "v.patch_embd", (shape.hidden, shape.patch_values()), true, kind, device)?,
            norm: Norm::load(file, "v.post_ln", shape.hidden, kind, device)?,
            projector: Projector::load(file, shape.hidden, model.text.hidden, kind, device)?,
            device: device.clone(),
            blocks,
            kind,
            shape,
        })
    }

    /// Frames of one grid: all vision tokens, kept or not, before the projector.
    fn tower(&self, frames: &[PatchFrame], rows: usize, cols: usize) -> candle_core::Result<Tensor> {
        let (count, patches, shape) = (frames.len(), rows * cols, &self.shape);
        let mut pixels = Vec::with_capacity(count * patches * shape.patch_values());
        for frame in frames {
            pixels.extend_from_slice(&frame.pixels);
        }
        let pixels = Tensor::from_vec(pixels, (count * patches, shape.patch_values()), &self.device)?;
        let (cos, sin) = rotary(shape, rows, cols, &self.device)?;
        let mut x = self.patch.forward(&pixels.to_dtype(self.kind)?)?;
        for block in &self.blocks {
            let y = block.norm1.forward(&x, shape.eps)?;
            let y = self.attend(block, &y, (count, patches), &cos, &sin)?;
            x = (x + block.out.forward(&y)?)?;
            let y = block.norm2.forward(&x, shape.eps)?;
            x = (x + block.down.forward(&block.up.forward(&y)?.gelu()?)?)?;
        }
        let x = self.norm.forward(&x, shape.eps)?;
        let merged = shape.merge * shape.merge;
        x.reshape((count * patches / merged, merged, shape.hidden))?.mean(1)
    }

    fn attend(
        &self,
        block: &Block,
        y: &Tensor,
        (count, patches): (usize, usize),
        cos: &Tensor,
        sin: &Tensor,
    ) -> candle_core::Result<Tensor> {
        let (heads, width) = (self.shape.heads, self.shape.head_dim());
        let turn = |x: Tensor| -> candle_core::Result<Tensor> {
            let x = x.to_dtype(DType::F32)?.reshape((count, patches, heads, width))?;
            rotary_emb::rope_thd(&x, cos, sin)?.transpose(1, 2)?.contiguous()
        };
        let query = (turn(block.query.forward(y)?)? * (1.0 / (width as f64).sqrt()))?.to_dtype(self.kind)?;
        let key = turn(block.key.forward(y)?)?.to_dtype(self.kind)?;
        let value = block.value.forward(y)?.reshape((count, patches, heads, width))?.transpose(1, 2)?.contiguous()?;
        let weights = ops::softmax_last_dim(&query.matmul(&key.t()?)?)?;
        weights.matmul(&value)?.transpose(1, 2)?.reshape((count * patches, heads * width))
    }
}

impl Seeing for Vision {
    fn encode(&mut self, frames: &[PatchFrame]) -> Result<Vec<f32>> {
        for frame in frames {
            frame.check(&self.shape)?;
        }
        let mut out = Vec::new();
        let mut rest = frames;
        while let Some(first) = rest.first() {
            let (rows, cols) = (first.rows, first.cols);
            let (batch, later) = of_one_grid(rest, |patches| MAX_SCORES / (self.shape.heads * patches.pow(2)));
            let kept = batch.iter().flat_map(|f| &f.keep).enumerate().filter(|(_, keep)| **keep);
            let kept: Vec<u32> = kept.map(|(i, _)| i as u32).collect();
            if !kept.is_empty() {
                out.extend(self.project(batch, rows, cols, &kept).place("vision")?);
            }
            rest = later;
        }
        Ok(out)
    }
}

impl Vision {
    fn project(&self, batch: &[PatchFrame], rows: usize, cols: usize, kept: &[u32]) -> candle_core::Result<Vec<f32>> {
        let tokens = self.tower(batch, rows, cols)?;
        let tokens = tokens.index_select(&Tensor::new(kept, &self.device)?, 0)?;
        self.projector.forward(&tokens)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
    }
}

/// Cosines and sines of one grid, patches in merge order: patches x half a head, rows' frequencies first.
fn rotary(shape: &VisionShape, rows: usize, cols: usize, device: &Device) -> candle_core::Result<(Tensor, Tensor)> {
    let angles = rotary_angles(shape, rows, cols);
    let dims = (rows * cols, shape.head_dim() / 2);
    let part = |f: fn(f64) -> f64| {
        let values: Vec<f32> = angles.iter().map(|angle| f(f64::from(*angle)) as f32).collect();
        Tensor::from_vec(values, dims, device)
    };
    Ok((part(f64::cos)?, part(f64::sin)?))
}

/// The angles behind [`rotary`], in f32 as the reference multiplies them.
#[must_use]
pub fn rotary_angles(shape: &VisionShape, rows: usize, cols: usize) -> Vec<f32> {
    let (merge, half) = (shape.merge, shape.head_dim() / 2);
    let inverse = frequencies(shape.rope_theta, half);
    let mut angles = Vec::with_capacity(rows * cols * half);
    for block in 0..(rows / merge) * (cols / merge) {
        let (block_row, block_col) = (block / (cols / merge), block % (cols / merge));
        for inner in 0..merge * merge {
            let (row, col) = (block_row * merge + inner / merge, block_col * merge + inner % merge);
            angles.extend(inverse.iter().map(|f| row as f32 * f));
            angles.extend(inverse.iter().map(|f| col as f32 * f));
        }
    }
    angles
}

/// theta^(-2 i / width) for i below width / 2, rounded once: a power in f32 would be off by an ulp here and there, and
/// far positions multiply that.
#[must_use]
pub fn frequencies(theta: f32, width: usize) -> Vec<f32> {
    let power = |i: usize| f64::from(theta).powf(f64::from((2 * i) as f32 / width as f32));
    (0..width / 2).map(|i| 1.0 / (power(i) as f32)).collect()
}
