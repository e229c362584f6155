//! The language half on candle: any device, f32, f16 or quantised weights.
//!
//! Terms as in [`super`]; the *stream* is the rows between the blocks, f32 on every device; attention and its caches
//! are f32 on the CPU and f16 elsewhere. Long passes are cut so that the scores held at once stay bounded. Knows no
//! vision: embeddings come in from outside.

use candle_core::{DType, Device, Tensor};
use candle_nn::{ops, rotary_emb};

use super::{
    Language, Piece, Room, Row, Run,
    branches::Branches,
    cache::{Append, Cache, Cascade, Heads},
    call, check_pieces, check_token, limit, runs,
};
use crate::{
    error::{Place, Result},
    file::ModelFile,
    limits::{MAX_SCORES, MAX_STEP_ROWS},
    linear::{Linear, Table, dense_type, vector},
    shape::TextShape,
    vision::frequencies,
};

#[derive(Debug)]
struct Block {
    norm1: Tensor,
    norm2: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    gate: Linear,
    up: Linear,
    down: Linear,
    cache: Cache,
}

impl Block {
    fn load(file: &ModelFile, i: usize, shape: &TextShape, room: &Room, device: &Device) -> Result<Self> {
        let (hidden, ffn, kv) = (shape.hidden, shape.ffn, shape.kv_dim());
        let linear = |name: &str, n: usize, k: usize, bias: bool| {
            Linear::load(file, &format!("blk.{i}.{name}"), (n, k), bias, DType::F32, device)
        };
        let norm = |name: &str| vector(file, &format!("blk.{i}.{name}.weight"), hidden, DType::F32, device);
        Ok(Self {
            norm1: norm("attn_norm")?,
            norm2: norm("ffn_norm")?,
            query: linear("attn_q", hidden, hidden, true)?,
            key: linear("attn_k", kv, hidden, true)?,
            value: linear("attn_v", kv, hidden, true)?,
            out: linear("attn_output", hidden, hidden, false)?,
            gate: linear("ffn_gate", ffn, hidden, false)?,
            up: linear("ffn_up", ffn, hidden, false)?,
            down: linear("ffn_down", hidden, ffn, false)?,
            cache: Cache::new(shape, room, dense_type(device), device).place("key and value cache")?,
        })
    }
}

enum Plan {
    Append(Append),
    Cascade(Cascade),
}

/// The language half with its caches.
pub struct CandleLanguage {
    shape: TextShape,
    room: Room,
    device: Device,
    table: Table,
    head: Option<Table>,
    norm: Tensor,
    blocks: Vec<Block>,
    cos: Tensor,
    sin: Tensor,
    prefix: usize,
    branches: Branches,
    scores: usize,
}

impl std::fmt::Debug for CandleLanguage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CandleLanguage").field("shape", &self.shape).field("room", &self.room).finish_non_exhaustive()
    }
}

impl CandleLanguage {
    /// Reads the language half of a model file and allocates its caches.
    ///
    /// # Errors
    /// [`crate::error::StudentError::Key`] and `Tensor` for what is missing or out of range,
    /// `Limit` for a room past the caps or the model's context.
    pub fn load(file: &ModelFile, room: Room, device: &Device) -> Result<Self> {
        let shape = file.text_shape()?;
        room.check(&shape)?;
        let mut blocks = Vec::with_capacity(shape.layers);
        for i in 0..shape.layers {
            blocks.push(Block::load(file, i, &shape, &room, device)?);
        }
        let head = if shape.tied {
            None
        } else {
            Some(Table::load(file, "output.weight", shape.vocab, shape.hidden, device)?)
        };
        let (cos, sin) = rotary(&shape, room.prefix + room.branch, device).place("rotary positions")?;
        Ok(Self {
            table: Table::load(file, "token_embd.weight", shape.vocab, shape.hidden, device)?,
            norm: vector(file, "output_norm.weight", shape.hidden, DType::F32, device)?,
            device: device.clone(),
            branches: Branches::new(&room),
            prefix: 0,
            scores: MAX_SCORES,
            blocks,
            head,
            shape,
            room,
            cos,
            sin,
        })
    }

    /// Holds at most so many attention scores at once, where a board has no room for [`MAX_SCORES`]: passes are cut
    /// shorter, results stay the same up to rounding.
    pub fn hold_scores(&mut self, most: usize) {
        self.scores = most.min(MAX_SCORES);
    }

    fn heads(&self) -> Heads {
        Heads { kv: self.shape.kv_heads, group: self.shape.group(), width: self.shape.head_dim() }
    }

    /// Rows that one pass may take when each attends `total` positions.
    fn pass_rows(&self, total: usize) -> usize {
        (self.scores / (self.shape.heads * total.max(1))).clamp(16, MAX_STEP_ROWS)
    }

    /// Rows x hidden through all blocks.
    fn forward(&self, mut x: Tensor, positions: Vec<u32>, plan: &Plan) -> candle_core::Result<Tensor> {
        let rows = positions.len();
        let positions = Tensor::from_vec(positions, rows, &self.device)?;
        let (cos, sin) = (self.cos.index_select(&positions, 0)?, self.sin.index_select(&positions, 0)?);
        for block in &self.blocks {
            let y = ops::rms_norm(&x, &block.norm1, self.shape.eps)?;
            let y = self.attend(block, &y, &cos, &sin, plan)?;
            x = (x + block.out.forward(&y)?)?;
            let y = ops::rms_norm(&x, &block.norm2, self.shape.eps)?;
            let y = (block.gate.forward(&y)?.silu()? * block.up.forward(&y)?)?;
            x = (x + block.down.forward(&y)?)?;
        }
        Ok(x)
    }

    fn attend(
        &self,
        block: &Block,
        y: &Tensor,
        cos: &Tensor,
        sin: &Tensor,
        plan: &Plan,
    ) -> candle_core::Result<Tensor> {
        let (heads, rows) = (self.heads(), y.dim(0)?);
        let kind = dense_type(&self.device);
        let turn = |x: Tensor, count: usize| {
            rotary_emb::rope_thd(&x.reshape((1, rows, count, heads.width))?, cos, sin)?.squeeze(0)
        };
        let query = turn(block.query.forward(y)?, self.shape.heads)?;
        let query = (query * (1.0 / (heads.width as f64).sqrt()))?.to_dtype(kind)?;
        let key = turn(block.key.forward(y)?, heads.kv)?.to_dtype(kind)?;
        let value = block.value.forward(y)?.reshape((rows, heads.kv, heads.width))?.to_dtype(kind)?;
        let out = match plan {
            Plan::Append(plan) => block.cache.append(heads, plan, &query, &key, &value)?,
            Plan::Cascade(plan) => block.cache.cascade(heads, plan, &query, &key, &value)?,
        };
        out.to_dtype(DType::F32)
    }

    /// Appends rows x hidden to the prefix, pass by pass; on a fault the prefix is as long as before.
    fn extend(&mut self, rows: usize, embed: &dyn Fn(usize, usize) -> candle_core::Result<Tensor>) -> Result<()> {
        self.branches.may_grow(self.prefix, rows, &self.room)?;
        let (start, kind) = (self.prefix, dense_type(&self.device));
        let mut done = 0;
        while done < rows {
            let at = start + done;
            let count = (rows - done).min(self.pass_rows(start + rows));
            let pass = || {
                let plan = Plan::Append(Append::new(at, count, kind, &self.device)?);
                let positions = (at as u32..(at + count) as u32).collect();
                self.forward(embed(done, count)?, positions, &plan)
            };
            pass().place("prefix")?;
            done += count;
        }
        self.prefix += rows;
        Ok(())
    }

    fn branch_pass(&self, rows: &[Row], marks: &[bool], runs: &[Run]) -> candle_core::Result<Vec<f32>> {
        let kind = dense_type(&self.device);
        let plan =
            Cascade::new(self.prefix, self.branches.lens(), runs, self.heads(), &self.room, (kind, &self.device))?;
        let mut positions = Vec::with_capacity(rows.len());
        for run in runs {
            let start = self.prefix + self.branches.lens()[run.branch];
            positions.extend(start as u32..(start + run.len) as u32);
        }
        let ids: Vec<u32> = rows.iter().map(|row| row.token).collect();
        let x = self.table.rows(&Tensor::from_vec(ids, rows.len(), &self.device)?)?;
        let x = self.forward(x, positions, &Plan::Cascade(plan))?;
        let marked: Vec<u32> = (0u32..).zip(marks).filter(|(_, mark)| **mark).map(|(i, _)| i).collect();
        if marked.is_empty() {
            return Ok(Vec::new());
        }
        let count = marked.len();
        let x = x.index_select(&Tensor::from_vec(marked, count, &self.device)?, 0)?;
        let x = ops::rms_norm(&x, &self.norm, self.shape.eps)?;
        self.head.as_ref().unwrap_or(&self.table).logits(&x)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
    }
}

impl Language for CandleLanguage {
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
        for id in ids {
            check_token(&self.shape, *id)?;
        }
        let (table, device) = (self.table.clone(), self.device.clone());
        self.extend(ids.len(), &|start, count| table.rows(&Tensor::new(&ids[start..start + count], &device)?))
    }

    fn extend_embeddings(&mut self, x: &[f32], rows: usize) -> Result<()> {
        let (hidden, device) = (self.shape.hidden, self.device.clone());
        if rows.checked_mul(hidden) != Some(x.len()) {
            return Err(call(format!("{} values for {rows} rows of {hidden}", x.len())));
        }
        self.extend(rows, &|start, count| {
            Tensor::from_slice(&x[start * hidden..(start + count) * hidden], (count, hidden), &device)
        })
    }

    fn extend_pieces(&mut self, pieces: &[Piece<'_>]) -> Result<()> {
        let (hidden, rows) = (self.shape.hidden, check_pieces(&self.shape, pieces)?);
        limit("prefix tokens", self.prefix + rows, self.room.prefix)?;
        let embed = |piece: &Piece<'_>| match piece {
            Piece::Tokens(ids) => self.table.rows(&Tensor::new(*ids, &self.device)?),
            Piece::Embeddings(x) => Tensor::from_slice(x, (x.len() / hidden, hidden), &self.device),
        };
        let filled = pieces.iter().filter(|piece| !piece.is_empty());
        let parts = filled.map(embed).collect::<candle_core::Result<Vec<_>>>().place("pieces")?;
        if parts.is_empty() {
            return Ok(());
        }
        let x = Tensor::cat(&parts, 0).place("pieces")?;
        self.extend(rows, &|start, count| x.narrow(0, start, count))
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
        self.branches.copy(from, to, |from, to, len| {
            let copy = |block: &Block| block.cache.copy(self.shape.kv_heads, from, to, len);
            self.blocks.iter().try_for_each(copy).place("copy of a branch")
        })
    }

    fn step(&mut self, rows: &[Row], logits_of: &[bool], out: &mut Vec<f32>) -> Result<()> {
        runs(&self.shape, &self.room, self.branches.lens(), rows, logits_of)?;
        let (before, held) = (self.branches.clone(), out.len());
        let pass_rows = self.pass_rows(self.prefix + self.room.branch);
        for (rows, marks) in rows.chunks(pass_rows).zip(logits_of.chunks(pass_rows)) {
            let pass = runs(&self.shape, &self.room, self.branches.lens(), rows, marks).and_then(|runs| {
                out.extend(self.branch_pass(rows, marks, &runs).place("step")?);
                Ok(runs)
            });
            match pass {
                Ok(runs) => self.branches.grow(&runs),
                Err(fault) => {
                    self.branches = before;
                    out.truncate(held);
                    return Err(fault);
                }
            }
        }
        Ok(())
    }
}

/// Cosines and sines of all positions: positions x half a head, f32.
pub(super) fn rotary(shape: &TextShape, positions: usize, device: &Device) -> candle_core::Result<(Tensor, Tensor)> {
    let inverse = frequencies(shape.rope_theta, shape.head_dim());
    let dims = (positions, inverse.len());
    let part = |f: fn(f64) -> f64| {
        let angle = |at: usize| inverse.iter().map(move |inverse| at as f32 * inverse);
        let values: Vec<f32> = (0..positions).flat_map(angle).map(|angle| f(f64::from(angle)) as f32).collect();
        Tensor::from_vec(values, dims, device)
    };
    Ok((part(f64::cos)?, part(f64::sin)?))
}
