//! Passes of the language half: what is launched for few rows and for many.
//!
//! Terms as in [`super`]. Few rows: six kernels a block, recorded. Many: a matrix at a time to f16, cuBLAS, and the small
//! steps between. Decides nothing about prefix and branches; [`super::language`] does.

use half::f16;

use super::{
    attend_of,
    gpu::{Buffer, Gpu, How, Outcome, Product, launch},
    language::{CudaLanguage, Inputs, Results},
    matrix::{Matrices, Tiles, together},
};
use crate::{
    error::{Place, Result, StudentError},
    file::ModelFile,
    limits::MAX_BRANCHES,
    llm::Room,
    shape::TextShape,
};

/// Rows of a step that is recorded, and of the smallest such.
pub(super) const FEW: usize = 32;
pub(super) const FEWEST: usize = 8;
/// Rows that go through the blocks at once.
pub(super) const CHUNK: usize = 1024;
/// Queries of one block of the attention kernel.
const BLOCK_QUERIES: usize = 64;
/// Keys of one tile of it.
const TILE_KEYS: usize = 32;
/// Blocks that keep a large GPU busy: the splits of the prefix are chosen so that about so many run.
const WANTED_BLOCKS: usize = 264;
/// Most splits; each costs a partial result.
const MAX_SPLITS: usize = 32;
/// Rows times splits at most: what the partial results have room for.
const MAX_PARTS: usize = 2560;
/// Most warps that share a tile, for the fewest rows and for more: what the kernels' registers leave room for.
const MAX_WARPS: [usize; 2] = [20, 11];
/// Blocks of few rows' products on one multiprocessor.
const BLOCKS_EACH: usize = 3;
/// Slices of a row of logits.
pub(super) const SLICES: usize = 32;
/// Logits that are asked for by token in one step; more bring the whole rows.
pub(super) const MAX_ASKED: usize = 512;
/// `DOWN_SCALE` of `cuda/kernels.cu`.
const DOWN_SCALE: f32 = 64.0;

/// `Header` of `cuda/kernels.cu`: rows, prefix, branches, marked, and the branches' lengths.
pub(super) const HEADER: usize = 4 + MAX_BRANCHES;

/// Weights and caches of one block.
pub(super) struct Block {
    norm1: Buffer<f32>,
    norm2: Buffer<f32>,
    /// Query, key, value, and their biases in a row.
    qkv: [Tiles; 3],
    bias: Buffer<f32>,
    out: Tiles,
    gate: Tiles,
    up: Tiles,
    down: Tiles,
    prefix: [Buffer<f16>; 2],
    pub(super) branch: [Buffer<f16>; 2],
}

impl Block {
    pub(super) fn load(gpu: &Gpu, file: &ModelFile, i: usize, shape: &TextShape, room: &Room) -> Result<Self> {
        let (hidden, ffn, kv) = (shape.hidden, shape.ffn, shape.kv_dim());
        let turned = shape.head_dim() / 2;
        let named = |name: &str| format!("blk.{i}.{name}");
        let tiles = |name: &str, n: usize, k: usize| Tiles::load(gpu, file, &named(name), (n, k), 0);
        let heads = |name: &str, n: usize| Tiles::load(gpu, file, &named(name), (n, hidden), turned);
        let values = |name: &str, n: usize| -> Result<Buffer<f32>> {
            gpu.buffer_of(&file.values(&format!("blk.{i}.{name}"), &[n])?).place("vector to the device")
        };
        let cache = |tokens: usize| -> Result<[Buffer<f16>; 2]> {
            let make = || gpu.buffer::<f16>(kv * tokens).place("key and value cache");
            Ok([make()?, make()?])
        };
        let mut bias = file.values(&format!("blk.{i}.attn_q.bias"), &[hidden])?;
        for name in ["attn_k", "attn_v"] {
            bias.extend(file.values(&format!("blk.{i}.{name}.bias"), &[kv])?);
        }
        let (gate, up) = (tiles("ffn_gate", ffn, hidden)?, tiles("ffn_up", ffn, hidden)?);
        if gate.unit() != up.unit() {
            let what = "of a type whose blocks differ from those of ffn_up".to_owned();
            return Err(StudentError::Tensor { name: named("ffn_gate.weight"), what });
        }
        Ok(Self {
            norm1: values("attn_norm.weight", hidden)?,
            norm2: values("ffn_norm.weight", hidden)?,
            qkv: [heads("attn_q", hidden)?, heads("attn_k", kv)?, heads("attn_v", kv)?],
            bias: gpu.buffer_of(&bias).place("vector to the device")?,
            out: tiles("attn_output", hidden, hidden)?,
            gate,
            up,
            down: tiles("ffn_down", hidden, ffn)?,
            prefix: cache(room.prefix)?,
            branch: cache(room.branches * room.branch)?,
        })
    }

    /// Halves of the largest matrix as rows.
    pub(super) fn largest(&self) -> usize {
        let all = self.qkv.iter().chain([&self.out, &self.gate, &self.up, &self.down]);
        all.map(Tiles::unpacked).max().unwrap_or(0)
    }

    /// Query, key and value as one launch takes them, with their biases.
    fn together(&self, shape: &TextShape) -> Matrices {
        let (q, kv) = (shape.hidden, shape.kv_dim());
        let [query, key, value] = &self.qkv;
        let part = |tiles: &Tiles, first: usize| tiles.at(first, self.bias.at(first));
        together(&[part(query, 0), part(key, q), part(value, q + kv)])
    }

    /// Addresses of keys and values of the prefix, of the branches.
    fn caches(&self) -> [u64; 4] {
        [&self.prefix[0], &self.prefix[1], &self.branch[0], &self.branch[1]].map(|cache| cache.at(0))
    }
}

/// Memory of a pass.
pub(super) struct Scratch {
    /// The stream, rows x hidden.
    pub(super) x: Buffer<f32>,
    /// What is normed, and what attention gives.
    normed: Buffer<f16>,
    /// Squares of the stream by tiles of 16, of few rows.
    squares: Buffer<f32>,
    attended: Buffer<f16>,
    qkv: Buffer<f32>,
    query: Buffer<f16>,
    gate: Buffer<f32>,
    up: Buffer<f32>,
    gated: Buffer<f16>,
    part: Buffer<f32>,
    stat: Buffer<f32>,
    /// One matrix as rows of f16.
    weights: Buffer<f16>,
    /// Of a pass of many rows.
    header: Buffer<i32>,
    places: Buffer<i32>,
    pub(super) tokens: Buffer<u32>,
}

impl Scratch {
    pub(super) fn new(gpu: &Gpu, shape: &TextShape, largest: usize) -> Outcome<Self> {
        let wide = shape.hidden + 2 * shape.kv_dim();
        Ok(Self {
            x: gpu.buffer(CHUNK * shape.hidden)?,
            normed: gpu.buffer(CHUNK * shape.hidden)?,
            squares: gpu.buffer(FEW * shape.hidden.div_ceil(16))?,
            attended: gpu.buffer(CHUNK * shape.hidden)?,
            qkv: gpu.buffer(CHUNK * wide)?,
            query: gpu.buffer(CHUNK * shape.hidden)?,
            gate: gpu.buffer(CHUNK * shape.ffn)?,
            up: gpu.buffer(CHUNK * shape.ffn)?,
            gated: gpu.buffer(CHUNK * shape.ffn)?,
            part: gpu.buffer(MAX_PARTS * shape.hidden)?,
            stat: gpu.buffer(MAX_PARTS * shape.heads * 2)?,
            weights: gpu.buffer(largest)?,
            header: gpu.buffer(HEADER)?,
            places: gpu.buffer(CHUNK * 4)?,
            tokens: gpu.buffer(CHUNK)?,
        })
    }
}

/// What a pass is about, and where its kernels find it.
#[derive(Clone, Copy)]
struct About {
    header: u64,
    places: u64,
    /// Most rows.
    rows: usize,
    /// Parts of the prefix; blocks that have a branch each.
    splits: usize,
    apart: usize,
}

/// `Linear` of `cuda/kernels.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Linear {
    m: Matrices,
    x: u64,
    picks: u64,
    squares: u64,
    out: u64,
    next_weight: u64,
    next: u64,
    next_squares: u64,
    cosine: u64,
    sine: u64,
    places: u64,
    q_out: u64,
    /// Keys and values of the prefix, of the branches.
    caches: [u64; 4],
    heads: i32,
    kv_heads: i32,
    dim: i32,
    prefix_room: i32,
    branch_room: i32,
    slots: i32,
    width: i32,
    scale: f32,
    eps: f32,
}

impl CudaLanguage {
    /// How few rows' product with `tiles` tiles of rows of `k` is launched.
    fn product(&self, tiles: usize, k: usize, few: bool, sets: usize) -> How {
        // The warps share a tile's units evenly; most types have units of 256.
        let (units, most) = (k.div_ceil(256).max(1), MAX_WARPS[usize::from(!few)]);
        let warps = units.div_ceil(units.div_ceil(most)).max(4);
        let shared = warps * sets * if few { 2 * 512 } else { 2048 };
        How { grid: (tiles.min(self.gpu.processors * BLOCKS_EACH), 1, 1), threads: warps * 32, shared }
    }

    /// Splits of the prefix for so many rows.
    fn splits(&self, rows: usize, prefix: usize) -> usize {
        let tiles = (rows * self.shape.group()).div_ceil(BLOCK_QUERIES) * self.shape.kv_heads;
        // Joining costs more than half a GPU at rest.
        if tiles >= WANTED_BLOCKS / 2 {
            return 1;
        }
        WANTED_BLOCKS.div_ceil(tiles).min(prefix.div_ceil(TILE_KEYS)).min(MAX_PARTS / rows.max(1)).clamp(1, MAX_SPLITS)
    }

    /// A whole step of at most `rows` rows, for recording: all it is about lies in [`Inputs`].
    pub(super) fn few(&self, rows: usize) -> Outcome<()> {
        let (gpu, s, shape, inputs) = (&self.gpu, &self.scratch, &self.shape, &self.inputs.device);
        let (k, few) = (&gpu.kernels, rows <= FEWEST);
        let (hidden, slots) = (shape.hidden as i32, shape.hidden.div_ceil(16) as i32);
        let header = inputs.at(0);
        let splits = self.room.prefix.div_ceil(TILE_KEYS).clamp(1, MAX_SPLITS);
        let about = About { header, places: inputs.at(Inputs::PLACES), rows, splits, apart: self.room.branches };
        let [store, add, gated, turned] = if few {
            [k.linear_8_store, k.linear_8_add, k.linear_8_gated, k.linear_8_turned]
        } else {
            [k.linear_32_store, k.linear_32_add, k.linear_32_gated, k.linear_32_turned]
        };
        // Behind a norm; into the stream, made ready for the norm with these weights.
        let normed = Linear {
            x: s.normed.at(0),
            squares: s.squares.at(0),
            slots,
            eps: shape.eps,
            scale: 1.0,
            ..Linear::default()
        };
        let into = |next: &Buffer<f32>, tiles: &Tiles, x: &Buffer<f16>, scale: f32| Linear {
            m: together(&[tiles.at(0, 0)]),
            x: x.at(0),
            squares: 0,
            out: s.x.at(0),
            width: hidden,
            scale,
            next_weight: next.at(0),
            next: s.normed.at(0),
            next_squares: s.squares.at(0),
            ..normed
        };
        let how = How::row((rows * shape.hidden / 256).div_ceil(4).max(1), 128);
        launch!(gpu, k.embed, how; self.table.at(0, 0), inputs.at(Inputs::TOKENS), s.x.at(0), rows as i32)?;
        let head = self.head.as_ref().unwrap_or(&self.table);
        let first = self.blocks.first().map_or(&self.norm, |block| &block.norm1);
        launch!(gpu, k.prepare, How::row(rows, 128); s.x.at(0), first.at(0), s.normed.at(0), s.squares.at(0), hidden, slots)?;
        for (i, block) in self.blocks.iter().enumerate() {
            let next = self.blocks.get(i + 1).map_or(&self.norm, |block| &block.norm1);
            let tiles = block.qkv.iter().map(Tiles::count).sum();
            let heads = Linear { m: block.together(shape), ..self.turned(block, about, normed) };
            launch!(gpu, turned, self.product(tiles, shape.hidden, few, 1); heads)?;
            self.attend(block, about)?;
            let out = into(&block.norm2, &block.out, &s.attended, 1.0);
            launch!(gpu, add, self.product(block.out.count(), shape.hidden, few, 1); out)?;
            let both = together(&[block.gate.at(0, 0), block.up.at(0, 0)]);
            let both = Linear { m: both, out: s.gated.at(0), width: shape.ffn as i32, ..normed };
            launch!(gpu, gated, self.product(block.gate.count(), shape.hidden, few, 2); both)?;
            let down = into(next, &block.down, &s.gated, DOWN_SCALE);
            launch!(gpu, add, self.product(block.down.count(), shape.ffn, few, 1); down)?;
        }
        let marked = inputs.at(3);
        let logits = Linear {
            m: together(&[head.at(0, 0)]),
            picks: inputs.at(Inputs::MARKS),
            out: self.results.logits.at(0),
            width: shape.vocab as i32,
            ..normed
        };
        launch!(gpu, store, self.product(head.count(), shape.hidden, few, 1); logits)?;
        self.read(rows, marked)
    }

    /// Where a product puts queries, keys and values.
    fn turned(&self, block: &Block, about: About, product: Linear) -> Linear {
        let shape = &self.shape;
        Linear {
            cosine: self.cos.at(0),
            sine: self.sin.at(0),
            places: about.places,
            q_out: self.scratch.query.at(0),
            caches: block.caches(),
            heads: shape.heads as i32,
            kv_heads: shape.kv_heads as i32,
            dim: shape.head_dim() as i32,
            prefix_room: self.room.prefix as i32,
            branch_room: self.room.branch as i32,
            ..product
        }
    }

    /// Reads the logits down to what comes back.
    fn read(&self, rows: usize, marked: u64) -> Outcome<()> {
        let (gpu, k, vocab) = (&self.gpu, &self.gpu.kernels, self.shape.vocab as i32);
        let (logits, asked) = (self.results.logits.at(0), self.inputs.device.at(Inputs::ASKED));
        let how = How { grid: (SLICES, rows, 1), threads: 256, shared: 0 };
        launch!(gpu, k.reduce_logits, how; logits, self.results.device.at(0), vocab, marked)?;
        let (to, how) = (self.results.device.at(Results::ASKED), How::values(MAX_ASKED));
        launch!(gpu, k.pick_logits, how; logits, asked, to, vocab, MAX_ASKED as i32)
    }

    /// Turns queries and keys of many rows, with their biases, and stores keys and values.
    fn turn(&self, block: &Block, about: About) -> Outcome<()> {
        let (gpu, s, shape) = (&self.gpu, &self.scratch, &self.shape);
        let [heads, kv_heads, dim] = [shape.heads as i32, shape.kv_heads as i32, shape.head_dim() as i32];
        let [prefix_room, branch_room] = [self.room.prefix as i32, self.room.branch as i32];
        let [pk, pv, bk, bv] = block.caches();
        launch!(gpu, gpu.kernels.rope_store, How::row(about.rows, 256); s.qkv.at(0), block.bias.at(0), self.cos.at(0),
            self.sin.at(0), about.places, s.query.at(0), pk, pv, bk, bv, heads, kv_heads, dim, prefix_room, branch_room,
            about.header)
    }

    /// Queries to what they attend.
    fn attend(&self, block: &Block, about: About) -> Outcome<()> {
        let (gpu, s, shape) = (&self.gpu, &self.scratch, &self.shape);
        let (k, width) = (&gpu.kernels, shape.head_dim());
        let [heads, kv_heads, dim] = [shape.heads as i32, shape.kv_heads as i32, width as i32];
        let [pk, pv, bk, bv] = block.caches();
        let attention = Attention {
            from: [s.query.at(0), pk, pv, bk, bv, about.places, about.header],
            to: [s.attended.at(0), s.part.at(0), s.stat.at(0)],
            sizes: [heads, kv_heads, heads, dim, self.room.prefix as i32, self.room.branch as i32, about.splits as i32],
            scale: 1.0 / (width as f32).sqrt(),
        };
        let (tiles, parts) = ((about.rows * shape.group()).div_ceil(BLOCK_QUERIES), about.splits + about.apart);
        let how = How { grid: (tiles, shape.kv_heads, parts), threads: 128, shared: 0 };
        launch!(gpu, attend_of(k, width), how; attention)?;
        if parts > 1 {
            let how = How::row(about.rows * shape.heads, 128);
            launch!(gpu, k.join_splits, how; s.part.at(0), s.stat.at(0), s.attended.at(0), heads, dim, parts as i32, about.header)?;
        }
        Ok(())
    }

    /// Rows of the stream, at most [`CHUNK`], through all blocks.
    pub(super) fn many(&self, places: &[[i32; 4]], lens: &[usize], prefix: usize) -> Outcome<()> {
        let (gpu, s, shape) = (&self.gpu, &self.scratch, &self.shape);
        let (k, rows) = (&gpu.kernels, places.len());
        let (hidden, ffn, wide) = (shape.hidden, shape.ffn, shape.hidden + 2 * shape.kv_dim());
        let splits = self.splits(rows, prefix);
        let about = About { header: s.header.at(0), places: s.places.at(0), rows, splits, apart: 0 };
        gpu.upload(about.header, &header(rows, prefix, lens, 0))?;
        gpu.upload(about.places, places.as_flattened())?;
        let plain = |x: &Buffer<f16>, out: u64, width: usize| Product {
            w: 0,
            x: x.at(0),
            out,
            rows,
            n: 0,
            k: 0,
            width,
            half: false,
            alpha: 1.0,
            beta: 0.0,
        };
        let norm = |weight: &Buffer<f32>| {
            launch!(gpu, k.rms_norm, How::row(rows, 256); s.x.at(0), weight.at(0), s.normed.at(0), hidden as i32,
                shape.eps, 0u64)
        };
        for block in &self.blocks {
            norm(&block.norm1)?;
            let mut first = 0;
            for tiles in &block.qkv {
                tiles.multiply(gpu, &s.weights, plain(&s.normed, s.qkv.at(first), wide))?;
                first += tiles.n;
            }
            self.turn(block, about)?;
            self.attend(block, about)?;
            let added = |x: &Buffer<f16>, alpha: f32| Product { alpha, beta: 1.0, ..plain(x, s.x.at(0), hidden) };
            block.out.multiply(gpu, &s.weights, added(&s.attended, 1.0))?;
            norm(&block.norm2)?;
            block.gate.multiply(gpu, &s.weights, plain(&s.normed, s.gate.at(0), ffn))?;
            block.up.multiply(gpu, &s.weights, plain(&s.normed, s.up.at(0), ffn))?;
            launch!(gpu, k.silu_mul, How::values(rows * ffn); s.gate.at(0), s.up.at(0), s.gated.at(0), (rows * ffn) as i32)?;
            block.down.multiply(gpu, &s.weights, added(&s.gated, DOWN_SCALE))?;
        }
        Ok(())
    }

    /// Logits of the marked rows of the stream, outside a recorded step.
    pub(super) fn logits_of(&self, count: usize) -> Outcome<()> {
        let (gpu, s, shape) = (&self.gpu, &self.scratch, &self.shape);
        let (k, hidden) = (&gpu.kernels, shape.hidden as i32);
        let (picks, marked) = (self.inputs.device.at(Inputs::MARKS), self.inputs.device.at(3));
        launch!(gpu, k.rms_norm, How::row(count, 256); s.x.at(0), self.norm.at(0), s.normed.at(0), hidden, shape.eps, picks)?;
        let head = self.head.as_ref().unwrap_or(&self.table);
        let few = count <= FEWEST;
        let linear = Linear {
            m: together(&[head.at(0, 0)]),
            x: s.normed.at(0),
            out: self.results.logits.at(0),
            width: shape.vocab as i32,
            scale: 1.0,
            ..Linear::default()
        };
        let how = self.product(head.count(), shape.hidden, few, 1);
        launch!(gpu, if few { k.linear_8_store } else { k.linear_32_store }, how; linear)?;
        self.read(count, marked)
    }
}

/// `Attention` of `cuda/kernels.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Attention {
    /// Queries; keys and values of the prefix, of the branches; places; header.
    pub(super) from: [u64; 7],
    /// Result; partial results, their statistics.
    pub(super) to: [u64; 3],
    /// Heads, heads of keys, heads of a frame, their width, room of the prefix, of a branch, parts of the prefix.
    pub(super) sizes: [i32; 7],
    /// Of the scores.
    pub(super) scale: f32,
}

/// `Header` of `cuda/kernels.cu`.
pub(super) fn header(rows: usize, prefix: usize, lens: &[usize], marked: usize) -> [i32; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&[rows as i32, prefix as i32, lens.len().min(MAX_BRANCHES) as i32, marked as i32]);
    for (to, len) in header[4..].iter_mut().zip(lens) {
        *to = *len as i32;
    }
    header
}

const _: () =
    assert!(FEW * (MAX_SPLITS + MAX_BRANCHES) <= MAX_PARTS && CHUNK <= MAX_PARTS && MAX_SPLITS + MAX_BRANCHES <= 64);
