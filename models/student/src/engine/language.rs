//! The language half on the engine's kernels.
//!
//! Terms as in [`crate::llm`]; a *pass* takes up to 512 rows through all layers. Keys and values of the prefix and of
//! every branch lie in tiles allocated at load. Row by row the result equals what any other cut of the same input
//! into passes gives, to the bit. Knows no vision: embeddings come in from outside.

use std::sync::{Mutex, PoisonError};

use super::attention::{Heads, Pass};
use super::kernels::{Aligned, RowsMut, Strips};
use super::limits::{MAX_PASS_ROWS, QUERY_BLOCK};
use super::linear::{Acts, Compute, Linear, done};
use super::load::{linear, matrix};
use super::norm::{rms, rotate};
use super::pack::Packed;
use crate::{
    error::Result,
    file::ModelFile,
    llm::{Language, Piece, Room, Row, branches::Branches, call, check_pieces, runs},
    shape::TextShape,
    vision::frequencies,
};

struct Block {
    norm1: Vec<f32>,
    norm2: Vec<f32>,
    /// Query, key and value side by side.
    qkv: Linear,
    out: Linear,
    /// Gate and up side by side.
    gate_up: Linear,
    down: Linear,
    /// `[key head][tile]`.
    prefix: Aligned<f32>,
    /// `[key head][branch][tile]`.
    branches: Aligned<f32>,
}

impl Block {
    fn load(file: &ModelFile, i: usize, shape: &TextShape, room: &Room) -> Result<Self> {
        let (hidden, ffn, kv) = (shape.hidden, shape.ffn, shape.kv_dim());
        let name = |name: &str| format!("blk.{i}.{name}");
        let join = |parts: &[(&str, usize)], cols: usize, bias: bool| {
            let named: Vec<_> = parts.iter().map(|(part, rows)| (name(part), *rows)).collect();
            linear(file, &named, cols, bias)
        };
        let heads = Heads::new(shape.head_dim());
        Ok(Self {
            norm1: file.values(&name("attn_norm.weight"), &[hidden])?,
            norm2: file.values(&name("ffn_norm.weight"), &[hidden])?,
            qkv: join(&[("attn_q", hidden), ("attn_k", kv), ("attn_v", kv)], hidden, true)?,
            out: join(&[("attn_output", hidden)], hidden, false)?,
            gate_up: join(&[("ffn_gate", ffn), ("ffn_up", ffn)], hidden, false)?,
            down: join(&[("ffn_down", hidden)], ffn, false)?,
            prefix: Aligned::zeroed(shape.kv_heads * heads.room(room.prefix)),
            branches: Aligned::zeroed(shape.kv_heads * room.branches * heads.room(room.branch)),
        })
    }
}

/// Where a row's key goes and what the row sees.
#[derive(Clone, Copy)]
struct Place {
    /// Its position, for the rotation.
    position: usize,
    /// Keys of the prefix that it sees.
    prefix: usize,
    /// Its branch and its place there; none for a row of the prefix.
    branch: Option<(usize, usize)>,
}

/// Buffers of one pass.
struct Buffers {
    x: Vec<f32>,
    qkv: Vec<f32>,
    mixed: Vec<f32>,
    wide: Vec<f32>,
    cos: Vec<f32>,
    sin: Vec<f32>,
    acts: Acts,
    acts_wide: Acts,
}

/// The language half with its caches.
pub struct EngineLanguage {
    shape: TextShape,
    room: Room,
    compute: Compute,
    /// The embedding where it is not the head.
    table: Option<Packed>,
    head: Linear,
    norm: Vec<f32>,
    blocks: Vec<Block>,
    heads: Heads,
    strips: Strips,
    passes: Vec<Mutex<Pass>>,
    frequencies: Vec<f32>,
    buffers: Buffers,
    prefix: usize,
    branches: Branches,
}

impl std::fmt::Debug for EngineLanguage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineLanguage").field("shape", &self.shape).field("room", &self.room).finish_non_exhaustive()
    }
}

impl EngineLanguage {
    /// Reads the language half of a model file, packs it and allocates its caches. `threads` counts the caller's.
    ///
    /// # Errors
    /// [`crate::error::StudentError::Key`] and `Tensor` for what is missing or out of range, `Limit` for a room past
    /// the caps or the model's context.
    pub fn load(file: &ModelFile, room: Room, threads: usize) -> Result<Self> {
        Self::with(file, room, Compute::new(threads))
    }

    /// The same on given threads and kernels.
    ///
    /// # Errors
    /// As [`EngineLanguage::load`].
    pub fn with(file: &ModelFile, room: Room, compute: Compute) -> Result<Self> {
        let shape = file.text_shape()?;
        room.check(&shape)?;
        let mut blocks = Vec::with_capacity(shape.layers);
        for i in 0..shape.layers {
            blocks.push(Block::load(file, i, &shape, &room)?);
        }
        let embedding = matrix(file, "token_embd.weight", shape.vocab, shape.hidden)?;
        let (table, head) = if shape.tied {
            (None, embedding)
        } else {
            (Some(embedding), matrix(file, "output.weight", shape.vocab, shape.hidden)?)
        };
        let head = Linear::new(vec![head], Vec::new())?;
        let heads = Heads::new(shape.head_dim());
        let group = shape.group();
        let strips = Strips::new(
            shape.hidden,
            (0..shape.kv_heads).map(|kv| kv * group * heads.dim..(kv + 1) * group * heads.dim),
        );
        let queries = group * QUERY_BLOCK.div_ceil(group);
        let passes = (0..compute.pool.threads()).map(|_| Mutex::new(Pass::new(heads, queries))).collect();
        let ints = head.wants_ints()
            || blocks.iter().any(|b| b.qkv.wants_ints() || b.out.wants_ints() || b.gate_up.wants_ints());
        let wide_ints = blocks.iter().any(|block| block.down.wants_ints());
        let rows = MAX_PASS_ROWS;
        Ok(Self {
            buffers: Buffers {
                x: vec![0.0; rows * shape.hidden],
                qkv: vec![0.0; rows * (shape.hidden + 2 * shape.kv_dim())],
                mixed: vec![0.0; rows * shape.hidden],
                wide: vec![0.0; rows * 2 * shape.ffn],
                cos: vec![0.0; rows * heads.dim / 2],
                sin: vec![0.0; rows * heads.dim / 2],
                acts: Acts::new(rows, shape.hidden, ints),
                acts_wide: Acts::new(rows, shape.ffn, wide_ints),
            },
            norm: file.values("output_norm.weight", &[shape.hidden])?,
            frequencies: frequencies(shape.rope_theta, shape.head_dim()),
            branches: Branches::new(&room),
            prefix: 0,
            shape,
            room,
            compute,
            table,
            head,
            blocks,
            heads,
            strips,
            passes,
        })
    }

    /// Bytes of the packed weights.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        let layers: usize =
            self.blocks.iter().map(|b| b.qkv.bytes() + b.out.bytes() + b.gate_up.bytes() + b.down.bytes()).sum();
        layers + self.head.bytes() + self.table.as_ref().map_or(0, Packed::bytes)
    }

    /// Writes the embeddings of some tokens to the stream, from a row on.
    fn embed(&mut self, first: usize, ids: impl Iterator<Item = u32>) {
        let table = self.table.as_ref().or(self.head.parts().first());
        for (id, row) in ids.zip(self.buffers.x.chunks_exact_mut(self.shape.hidden).skip(first)) {
            if let Some(table) = table {
                table.row(self.compute.isa, id as usize, row);
            }
        }
    }

    /// Takes the first rows of the stream through all layers.
    fn pass(&mut self, places: &[Place]) -> Result<()> {
        let Self { shape, compute, blocks, buffers, .. } = self;
        let rows = places.len();
        let half = self.heads.dim / 2;
        for (row, place) in places.iter().enumerate() {
            for (i, frequency) in self.frequencies.iter().enumerate() {
                // The product in f32, as the reference has it; its cosine rounded once.
                let angle = f64::from(place.position as f32 * frequency);
                buffers.cos[row * half + i] = angle.cos() as f32;
                buffers.sin[row * half + i] = angle.sin() as f32;
            }
        }
        let hidden = shape.hidden;
        let x = &mut buffers.x[..rows * hidden];
        let qkv = &mut buffers.qkv[..rows * (hidden + 2 * shape.kv_dim())];
        let mixed = &mut buffers.mixed[..rows * hidden];
        let wide = &mut buffers.wide[..rows * 2 * shape.ffn];
        let (acts, acts_wide) = (&mut buffers.acts, &mut buffers.acts_wide);
        let turns = Turns { cos: &buffers.cos, sin: &buffers.sin };
        let around = Around { shape, heads: self.heads, places, turns, room: self.room };
        let isa = compute.isa;
        for block in blocks {
            acts.fill(compute, rows, &|row, out| rms(&x[row * hidden..][..hidden], &block.norm1, shape.eps, out))?;
            block.qkv.forward(compute, acts, qkv)?;
            around.remember(compute, block, qkv)?;
            around.attend(compute, block, qkv, &self.strips, &self.passes, mixed)?;
            acts.fill(compute, rows, &|row, out| out.copy_from_slice(&mixed[row * hidden..][..hidden]))?;
            block.out.forward_add(compute, acts, x)?;
            acts.fill(compute, rows, &|row, out| rms(&x[row * hidden..][..hidden], &block.norm2, shape.eps, out))?;
            block.gate_up.forward(compute, acts, wide)?;
            acts_wide.fill(compute, rows, &|row, out| {
                let (gate, up) = wide[row * 2 * shape.ffn..][..2 * shape.ffn].split_at(shape.ffn);
                out.copy_from_slice(gate);
                isa.swiglu(out, up);
            })?;
            block.down.forward_add(compute, acts_wide, x)?;
        }
        Ok(())
    }

    /// Appends rows to the prefix, pass by pass; on a fault the prefix is as long as before.
    fn extend(&mut self, rows: usize, write: &dyn Fn(&mut Self, usize, usize)) -> Result<()> {
        self.branches.may_grow(self.prefix, rows, &self.room)?;
        let start = self.prefix;
        for first in (0..rows).step_by(MAX_PASS_ROWS) {
            let count = MAX_PASS_ROWS.min(rows - first);
            write(self, first, count);
            let places: Vec<Place> = (start + first..start + first + count)
                .map(|position| Place { position, prefix: position + 1, branch: None })
                .collect();
            self.pass(&places)?;
        }
        self.prefix += rows;
        Ok(())
    }

    /// Logits of some rows of the stream, which are gathered in `gathered`.
    fn logits(&mut self, gathered: &[f32], out: &mut Vec<f32>) -> Result<()> {
        let (hidden, vocab, eps) = (self.shape.hidden, self.shape.vocab, self.shape.eps);
        let before = out.len();
        for part in gathered.chunks(MAX_PASS_ROWS * hidden) {
            let (rows, start) = (part.len() / hidden, out.len());
            let acts = &mut self.buffers.acts;
            let norm = &self.norm;
            acts.fill(&mut self.compute, rows, &|row, out| rms(&part[row * hidden..][..hidden], norm, eps, out))?;
            out.resize(start + rows * vocab, 0.0);
            let fine = self.head.forward(&mut self.compute, acts, &mut out[start..]);
            if fine.is_err() {
                out.truncate(before);
                return fine;
            }
        }
        Ok(())
    }
}

impl Language for EngineLanguage {
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
        let hidden = self.shape.hidden;
        if rows.checked_mul(hidden) != Some(x.len()) {
            return Err(call(format!("{} values for {rows} rows of {hidden}", x.len())));
        }
        self.extend_pieces(&[Piece::Embeddings(x)])
    }

    /// One pass for all: the few tokens between two frames would otherwise cost a reading of all weights.
    fn extend_pieces(&mut self, pieces: &[Piece<'_>]) -> Result<()> {
        let hidden = self.shape.hidden;
        self.extend(check_pieces(&self.shape, pieces)?, &|this, first, count| {
            let mut before = 0;
            for piece in pieces {
                let rows = piece.rows(hidden);
                let (from, to) = (first.max(before), (first + count).min(before + rows));
                if from < to {
                    let (slot, inside) = (from - first, from - before..to - before);
                    match piece {
                        Piece::Tokens(ids) => this.embed(slot, ids[inside].iter().copied()),
                        Piece::Embeddings(x) => this.buffers.x[slot * hidden..(slot + inside.len()) * hidden]
                            .copy_from_slice(&x[inside.start * hidden..inside.end * hidden]),
                    }
                }
                before += rows;
            }
        })
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
            let (room, used) = (self.heads.room(self.room.branch), self.heads.room(len));
            for block in &mut self.blocks {
                for head in block.branches.chunks_exact_mut(self.room.branches * room) {
                    head.copy_within(from * room..from * room + used, to * room);
                }
            }
            Ok(())
        })
    }

    fn step(&mut self, rows: &[Row], logits_of: &[bool], out: &mut Vec<f32>) -> Result<()> {
        let runs = runs(&self.shape, &self.room, self.branches.lens(), rows, logits_of)?;
        let mut places = Vec::with_capacity(rows.len());
        for run in &runs {
            let start = self.branches.lens()[run.branch];
            places.extend((start..start + run.len).map(|own| Place {
                position: self.prefix + own,
                prefix: self.prefix,
                branch: Some((run.branch, own)),
            }));
        }
        let hidden = self.shape.hidden;
        let mut gathered = Vec::new();
        let parts = rows.chunks(MAX_PASS_ROWS).zip(places.chunks(MAX_PASS_ROWS));
        for ((rows, places), marks) in parts.zip(logits_of.chunks(MAX_PASS_ROWS)) {
            self.embed(0, rows.iter().map(|row| row.token));
            self.pass(places)?;
            for (_, x) in marks.iter().zip(self.buffers.x.chunks_exact(hidden)).filter(|(mark, _)| **mark) {
                gathered.extend_from_slice(x);
            }
        }
        self.logits(&gathered, out)?;
        self.branches.grow(&runs);
        Ok(())
    }
}

/// Cosines and sines of the rows' positions: half a head each.
#[derive(Clone, Copy)]
struct Turns<'a> {
    cos: &'a [f32],
    sin: &'a [f32],
}

/// What attention knows about the rows of a pass.
struct Around<'a> {
    shape: &'a TextShape,
    heads: Heads,
    places: &'a [Place],
    turns: Turns<'a>,
    room: Room,
}

impl Around<'_> {
    fn width(&self) -> usize {
        self.shape.hidden + 2 * self.shape.kv_dim()
    }

    fn rotate(&self, row: usize, head: &[f32], scale: f32, out: &mut [f32]) {
        let half = self.heads.dim / 2;
        let (cos, sin) = (&self.turns.cos[row * half..][..half], &self.turns.sin[row * half..][..half]);
        rotate(head, cos, sin, scale, out);
    }

    /// Writes the keys (rotated) and values of all rows into the caches.
    fn remember(&self, compute: &mut Compute, block: &mut Block, qkv: &[f32]) -> Result<()> {
        let (heads, dim) = (self.heads, self.heads.dim);
        let (of_prefix, of_branch) = (heads.room(self.room.prefix), heads.room(self.room.branch));
        let prefix = RowsMut::new(&mut block.prefix, of_prefix);
        let write = &|_: usize, head: usize, mut tiles: (&mut [f32], &mut [f32])| {
            let mut key = vec![0.0; dim];
            for (row, place) in self.places.iter().enumerate() {
                let row_values = &qkv[row * self.width() + self.shape.hidden..];
                self.rotate(row, &row_values[head * dim..][..dim], 1.0, &mut key);
                let value = &row_values[self.shape.kv_dim() + head * dim..][..dim];
                match place.branch {
                    None => heads.put(tiles.0, place.position, &key, value),
                    Some((branch, own)) => heads.put(&mut tiles.1[branch * of_branch..], own, &key, value),
                }
            }
            let _ = &mut tiles;
        };
        if block.branches.is_empty() {
            return done(
                compute.pool.for_rows(prefix, 1, &|worker, head, tiles| write(worker, head, (tiles, &mut []))),
            );
        }
        let branches = RowsMut::new(&mut block.branches, self.room.branches * of_branch);
        done(compute.pool.for_rows((prefix, branches), 1, write))
    }

    /// All heads of all rows: `mixed` is rows x hidden.
    fn attend(
        &self,
        compute: &mut Compute,
        block: &Block,
        qkv: &[f32],
        strips: &Strips,
        passes: &[Mutex<Pass>],
        mixed: &mut [f32],
    ) -> Result<()> {
        let (heads, group, isa) = (self.heads, self.shape.group(), compute.isa);
        let (of_prefix, of_branch) = (heads.room(self.room.prefix), heads.room(self.room.branch));
        let scale = 1.0 / (heads.dim as f32).sqrt();
        // Few rows: smaller blocks, so that every thread has one.
        let share = (self.places.len() * self.shape.kv_heads).div_ceil(compute.pool.threads());
        let step = QUERY_BLOCK.div_ceil(group).min(share).max(1);
        done(compute.pool.for_blocks(mixed, strips, step, &|worker, kv, mut strip| {
            let mut pass = passes[worker].lock().unwrap_or_else(PoisonError::into_inner);
            let rows = strip.rows();
            pass.begin(rows.len() * group);
            for (i, row) in rows.clone().enumerate() {
                let queries = &qkv[row * self.width() + kv * group * heads.dim..];
                for (g, query) in queries.chunks_exact(heads.dim).enumerate().take(group) {
                    self.rotate(row, query, scale, pass.query(i * group + g));
                }
            }
            let places = &self.places[rows.clone()];
            let tiles = &block.prefix[kv * of_prefix..][..of_prefix];
            pass.over(isa, tiles, 0..rows.len() * group, &|r| places[r / group].prefix);
            for (from, run) in branch_runs(places) {
                let Some((branch, _)) = run.first().and_then(|place| place.branch) else { continue };
                let tiles = &block.branches[(kv * self.room.branches + branch) * of_branch..][..of_branch];
                pass.over(isa, tiles, from * group..(from + run.len()) * group, &|r| {
                    places[r / group].branch.map_or(0, |(_, own)| own + 1)
                });
            }
            for i in 0..rows.len() {
                for (g, out) in strip.row(i).chunks_exact_mut(heads.dim).enumerate() {
                    pass.finish(i * group + g, out);
                }
            }
        }))
    }
}

/// Consecutive rows of one branch, each with the index of its first.
fn branch_runs(places: &[Place]) -> impl Iterator<Item = (usize, &[Place])> {
    let branch = |place: &Place| place.branch.map(|(branch, _)| branch);
    let mut from = 0;
    places.chunk_by(move |a, b| branch(a) == branch(b)).map(move |run| {
        from += run.len();
        (from - run.len(), run)
    })
}
