//! The language half on an NVIDIA GPU: candle's quantised products, our kernels between them.
//!
//! Terms as in [`super`]; a *split* is a part of the prefix that one block of threads attends. Attention reads the
//! shared prefix once for all rows of all branches and holds no scores in memory; the stream is f32, keys and values are
//! f16. The kernels and the layouts of their buffers: `cuda/kernels.cu`. Knows no vision.

use std::sync::Arc;

use candle_core::{
    CudaDevice, CudaStorage, DType, Device, Storage, Tensor,
    cuda_backend::{
        WrapErr,
        cudarc::driver::{CudaFunction, CudaSlice, CudaStream, LaunchConfig, PushKernelArg},
    },
    op::BackpropOp,
};
use half::f16;

use super::{Language, Piece, Room, Row, branches::Branches, call, check_token, runs};
use crate::{
    error::{Place, Result},
    file::ModelFile,
    limits::MAX_STEP_ROWS,
    linear::{Linear, Table, vector},
    shape::TextShape,
};

const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
/// Queries of one block of the attention kernel: four warps of 16.
const BLOCK_QUERIES: usize = 64;
/// Keys of one tile of it.
const TILE_KEYS: usize = 32;
/// Blocks that keep a large GPU busy: the splits of the prefix are chosen so that about so many run.
const WANTED_BLOCKS: usize = 264;
/// Most splits; each costs a partial result.
const MAX_SPLITS: usize = 32;

type Outcome<T> = candle_core::Result<T>;

/// The kernels, loaded once.
struct Kernels {
    device: CudaDevice,
    stream: Arc<CudaStream>,
    rope_store: CudaFunction,
    attend: CudaFunction,
    join_splits: CudaFunction,
    add_rms_norm: CudaFunction,
    silu_mul: CudaFunction,
}

impl Kernels {
    fn load(device: &CudaDevice, head_dim: usize) -> Outcome<Self> {
        let get = |name: &str| -> Outcome<CudaFunction> {
            Ok(device.get_or_load_custom_func(name, "student", PTX)?.into_cuda_function())
        };
        // Heads are padded with zeros to the next width that a kernel is made for.
        let attend = match head_dim {
            0..=64 => "attend_64",
            65..=80 => "attend_80",
            81..=128 => "attend_128",
            _ => candle_core::bail!("heads of {head_dim}; the kernels take up to 128"),
        };
        Ok(Self {
            device: device.clone(),
            stream: device.cuda_stream(),
            rope_store: get("rope_store")?,
            attend: get(attend)?,
            join_splits: get("join_splits")?,
            add_rms_norm: get("add_rms_norm")?,
            silu_mul: get("silu_mul")?,
        })
    }
}

/// Where a row stands, as the kernels read it: four i32 (branch or -1, place, position, prefix tokens it sees).
fn place(branch: i32, at: usize, position: usize, sees: usize) -> [i32; 4] {
    [branch, at as i32, position as i32, sees as i32]
}

/// What all blocks of one pass share.
struct Pass {
    rows: usize,
    places: CudaSlice<i32>,
    branch_len: CudaSlice<i32>,
    branches: usize,
    /// Prefix tokens that are there when the pass has stored its own.
    prefix: usize,
    splits: usize,
}

struct Block {
    norm1: Tensor,
    norm2: Tensor,
    query: (Linear, Tensor),
    key: (Linear, Tensor),
    value: (Linear, Tensor),
    out: Linear,
    gate: Linear,
    up: Linear,
    down: Linear,
    prefix: [CudaSlice<f16>; 2],
    branch: [CudaSlice<f16>; 2],
}

impl Block {
    fn load(file: &ModelFile, i: usize, shape: &TextShape, room: &Room, device: &Device) -> Result<Self> {
        let (hidden, ffn, kv) = (shape.hidden, shape.ffn, shape.kv_dim());
        let linear = |name: &str, n: usize, k: usize| {
            Linear::load(file, &format!("blk.{i}.{name}"), (n, k), false, DType::F32, device)
        };
        let values = |name: &str, n: usize| vector(file, &format!("blk.{i}.{name}"), n, DType::F32, device);
        let biased = |name: &str, n: usize| -> Result<(Linear, Tensor)> {
            Ok((linear(name, n, hidden)?, values(&format!("{name}.bias"), n)?))
        };
        let cuda = device.as_cuda_device().place("device")?;
        let cache = |tokens: usize| -> Result<[CudaSlice<f16>; 2]> {
            let make = || cuda.alloc_zeros::<f16>(kv * tokens).place("key and value cache");
            Ok([make()?, make()?])
        };
        Ok(Self {
            norm1: values("attn_norm.weight", hidden)?,
            norm2: values("ffn_norm.weight", hidden)?,
            query: biased("attn_q", hidden)?,
            key: biased("attn_k", kv)?,
            value: biased("attn_v", kv)?,
            out: linear("attn_output", hidden, hidden)?,
            gate: linear("ffn_gate", ffn, hidden)?,
            up: linear("ffn_up", ffn, hidden)?,
            down: linear("ffn_down", hidden, ffn)?,
            prefix: cache(room.prefix)?,
            branch: cache(room.branches * room.branch)?,
        })
    }
}

/// The language half with its caches on a GPU.
pub struct CudaLanguage {
    shape: TextShape,
    room: Room,
    device: Device,
    kernels: Kernels,
    table: Table,
    head: Option<Table>,
    norm: Tensor,
    blocks: Vec<Block>,
    cos: Tensor,
    sin: Tensor,
    prefix: usize,
    branches: Branches,
}

impl std::fmt::Debug for CudaLanguage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CudaLanguage").field("shape", &self.shape).field("room", &self.room).finish_non_exhaustive()
    }
}

impl CudaLanguage {
    /// Reads the language half of a model file to the GPU and allocates its caches.
    ///
    /// # Errors
    /// As [`super::candle::CandleLanguage::load`], and a fault of the device for what the driver refuses.
    pub fn load(file: &ModelFile, room: Room, device: &Device) -> Result<Self> {
        let shape = file.text_shape()?;
        room.check(&shape)?;
        let cuda = device.as_cuda_device().place("device")?;
        let kernels = Kernels::load(cuda, shape.head_dim()).place("CUDA kernels")?;
        let mut blocks = Vec::with_capacity(shape.layers);
        for i in 0..shape.layers {
            blocks.push(Block::load(file, i, &shape, &room, device)?);
        }
        let head = if shape.tied {
            None
        } else {
            Some(Table::load(file, "output.weight", shape.vocab, shape.hidden, device)?)
        };
        let (cos, sin) = super::candle::rotary(&shape, room.prefix + room.branch, device).place("rotary positions")?;
        Ok(Self {
            table: Table::load(file, "token_embd.weight", shape.vocab, shape.hidden, device)?,
            norm: vector(file, "output_norm.weight", shape.hidden, DType::F32, device)?,
            device: device.clone(),
            branches: Branches::new(&room),
            prefix: 0,
            kernels,
            blocks,
            head,
            shape,
            room,
            cos,
            sin,
        })
    }

    fn pass(&self, places: &[[i32; 4]], lens: &[usize], prefix: usize) -> Outcome<Pass> {
        let cuda = &self.kernels.device;
        // One length more than there are branches: an empty slice has no address.
        let mut lens: Vec<i32> = lens.iter().map(|len| *len as i32).collect();
        let branches = lens.len();
        lens.push(0);
        let tiles = (places.len() * self.shape.group()).div_ceil(BLOCK_QUERIES) * self.shape.kv_heads;
        let splits = WANTED_BLOCKS.div_ceil(tiles).min(prefix.div_ceil(TILE_KEYS)).clamp(1, MAX_SPLITS);
        Ok(Pass {
            rows: places.len(),
            places: cuda.clone_htod(places.as_flattened())?,
            branch_len: cuda.clone_htod(&lens)?,
            branches,
            prefix,
            splits,
        })
    }

    /// Rows x hidden through all blocks; what comes out has the last block's part still to be added.
    fn forward(&mut self, x: &Tensor, pass: &Pass) -> Outcome<Tensor> {
        let mut stream = owned(&self.kernels, x)?;
        let mut add: Option<Tensor> = None;
        let (shape, room) = (&self.shape, &self.room);
        for block in &mut self.blocks {
            let y = norm(&self.kernels, &mut stream, add.as_ref(), &block.norm1, shape)?;
            let y = attention(&self.kernels, block, &y, (&self.cos, &self.sin), pass, (shape, room))?;
            let y = block.out.forward(&y)?;
            let y = norm(&self.kernels, &mut stream, Some(&y), &block.norm2, shape)?;
            let y = silu_mul(&self.kernels, &block.gate.forward(&y)?, &block.up.forward(&y)?)?;
            add = Some(block.down.forward(&y)?);
        }
        norm(&self.kernels, &mut stream, add.as_ref(), &self.norm, shape)
    }

    fn grow(&mut self, rows: usize, embed: &dyn Fn(&Table, usize, usize) -> Outcome<Tensor>) -> Result<()> {
        self.branches.may_grow(self.prefix, rows, &self.room)?;
        let mut done = 0;
        while done < rows {
            let (at, count) = (self.prefix + done, (rows - done).min(MAX_STEP_ROWS));
            let places: Vec<[i32; 4]> = (at..at + count).map(|i| place(-1, i, i, i + 1)).collect();
            let x = embed(&self.table, done, count).place("prefix")?;
            let pass = self.pass(&places, &[], at + count).place("prefix")?;
            self.forward(&x, &pass).place("prefix")?;
            done += count;
        }
        self.prefix += rows;
        Ok(())
    }

    fn branch_pass(&mut self, rows: &[Row], marks: &[bool], places: &[[i32; 4]], lens: &[usize]) -> Outcome<Vec<f32>> {
        let ids: Vec<u32> = rows.iter().map(|row| row.token).collect();
        let x = self.table.rows(&Tensor::from_vec(ids, rows.len(), &self.device)?)?;
        let pass = self.pass(places, lens, self.prefix)?;
        let x = self.forward(&x, &pass)?;
        let marked: Vec<u32> = (0u32..).zip(marks).filter(|(_, mark)| **mark).map(|(i, _)| i).collect();
        if marked.is_empty() {
            return Ok(Vec::new());
        }
        let count = marked.len();
        let x =
            if count == rows.len() { x } else { x.index_select(&Tensor::from_vec(marked, count, &self.device)?, 0)? };
        self.head.as_ref().unwrap_or(&self.table).logits(&x)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
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
        for id in ids {
            check_token(&self.shape, *id)?;
        }
        let device = self.device.clone();
        self.grow(ids.len(), &|table, start, count| table.rows(&Tensor::new(&ids[start..start + count], &device)?))
    }

    fn extend_embeddings(&mut self, x: &[f32], rows: usize) -> Result<()> {
        let (hidden, device) = (self.shape.hidden, self.device.clone());
        if rows.checked_mul(hidden) != Some(x.len()) {
            return Err(call(format!("{} values for {rows} rows of {hidden}", x.len())));
        }
        self.grow(rows, &|_, start, count| {
            Tensor::from_slice(&x[start * hidden..(start + count) * hidden], (count, hidden), &device)
        })
    }

    fn extend_pieces(&mut self, pieces: &[Piece<'_>]) -> Result<()> {
        let hidden = self.shape.hidden;
        let mut parts = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let part = match piece {
                Piece::Tokens([]) | Piece::Embeddings([]) => continue,
                Piece::Tokens(ids) => {
                    for id in *ids {
                        check_token(&self.shape, *id)?;
                    }
                    Tensor::new(*ids, &self.device).and_then(|ids| self.table.rows(&ids))
                }
                Piece::Embeddings(x) if x.len() % hidden == 0 => {
                    Tensor::from_slice(x, (x.len() / hidden, hidden), &self.device)
                }
                Piece::Embeddings(x) => return Err(call(format!("{} values for rows of {hidden}", x.len()))),
            };
            parts.push(part.place("prefix")?);
        }
        if parts.is_empty() {
            return Ok(());
        }
        let x = Tensor::cat(&parts, 0).place("prefix")?;
        let rows = x.dim(0).place("prefix")?;
        self.grow(rows, &|_, start, count| x.narrow(0, start, count)?.force_contiguous())
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
            for block in &mut self.blocks {
                for cache in &mut block.branch {
                    let copied = copy_within(&self.kernels.device, cache, from * size, to * size, size);
                    copied.place("copy of a branch")?;
                }
            }
            Ok(())
        })
    }

    fn step(&mut self, rows: &[Row], logits_of: &[bool], out: &mut Vec<f32>) -> Result<()> {
        let runs = runs(&self.shape, &self.room, self.branches.lens(), rows, logits_of)?;
        let mut places = Vec::with_capacity(rows.len());
        let mut after = self.branches.clone();
        after.grow(&runs);
        for run in &runs {
            let held = self.branches.lens()[run.branch];
            places.extend((held..held + run.len).map(|at| place(run.branch as i32, at, self.prefix + at, self.prefix)));
        }
        out.extend(self.branch_pass(rows, logits_of, &places, after.lens()).place("step")?);
        self.branches = after;
        Ok(())
    }
}

/// Slices of f32 of tensors that candle made: contiguous, from their begin.
macro_rules! slice_of {
    ($tensor:expr, $storage:ident) => {{
        if !$tensor.is_contiguous() || $tensor.layout().start_offset() != 0 {
            candle_core::bail!("a tensor with gaps was given to a kernel");
        }
        $storage = $tensor.storage_and_layout().0;
        match &*$storage {
            Storage::Cuda(cuda) => cuda.as_cuda_slice::<f32>()?,
            _ => candle_core::bail!("a tensor on another device was given to a kernel"),
        }
    }};
}

fn tensor(kernels: &Kernels, data: CudaSlice<f32>, dims: (usize, usize)) -> Tensor {
    let storage = CudaStorage::wrap_cuda_slice(data, kernels.device.clone());
    Tensor::from_storage(Storage::Cuda(storage), dims, BackpropOp::none(), false)
}

/// A buffer whose every value the next kernel writes.
#[allow(unsafe_code, reason = "memory that is not set to zero first")]
fn fresh<T: candle_core::cuda_backend::cudarc::driver::DeviceRepr>(
    kernels: &Kernels,
    len: usize,
) -> Outcome<CudaSlice<T>> {
    // SAFETY: callers hand it to a kernel that writes all of it before anything reads it.
    unsafe { kernels.device.alloc::<T>(len) }
}

/// A copy that the stream may change.
fn owned(kernels: &Kernels, x: &Tensor) -> Outcome<CudaSlice<f32>> {
    let storage;
    let from = slice_of!(x, storage);
    let mut to = fresh(kernels, x.elem_count())?;
    kernels.device.memcpy_dtod(from, &mut to)?;
    Ok(to)
}

fn copy_within(device: &CudaDevice, cache: &mut CudaSlice<f16>, from: usize, to: usize, len: usize) -> Outcome<()> {
    // Two branches never overlap, so the parts are apart.
    let (low, high) = (from.min(to), from.max(to));
    let (mut first, mut second) = cache.split_at_mut(high);
    let (mut a, mut b) = (first.slice_mut(low..low + len), second.slice_mut(..len));
    if from < to { device.memcpy_dtod(&a, &mut b) } else { device.memcpy_dtod(&b, &mut a) }
}

fn launch(blocks: (usize, usize, usize), threads: usize) -> LaunchConfig {
    let grid_dim = (blocks.0 as u32, blocks.1 as u32, blocks.2 as u32);
    LaunchConfig { grid_dim, block_dim: (threads as u32, 1, 1), shared_mem_bytes: 0 }
}

/// The stream takes `add` in; its norm comes out.
#[allow(unsafe_code, reason = "a kernel launch")]
fn norm(
    kernels: &Kernels,
    stream: &mut CudaSlice<f32>,
    add: Option<&Tensor>,
    weight: &Tensor,
    shape: &TextShape,
) -> Outcome<Tensor> {
    let rows = stream.len() / shape.hidden;
    let mut out = fresh(kernels, stream.len())?;
    let (hidden, eps, null) = (shape.hidden as i32, shape.eps, 0u64);
    let (weight_storage, add_storage);
    let weight = slice_of!(weight, weight_storage);
    let mut args = kernels.stream.launch_builder(&kernels.add_rms_norm);
    args.arg(stream);
    let add = match add {
        Some(add) => Some(slice_of!(add, add_storage)),
        None => None,
    };
    match &add {
        Some(add) => args.arg(*add),
        None => args.arg(&null),
    };
    args.arg(weight).arg(&mut out).arg(&hidden).arg(&eps);
    // SAFETY: rows x hidden in stream, add and out; hidden in weight; 256 threads are a multiple of the warp.
    unsafe { args.launch(launch((rows, 1, 1), 256)) }.w()?;
    Ok(tensor(kernels, out, (rows, shape.hidden)))
}

#[allow(unsafe_code, reason = "a kernel launch")]
fn silu_mul(kernels: &Kernels, gate: &Tensor, up: &Tensor) -> Outcome<Tensor> {
    let dims = gate.dims2()?;
    let count = gate.elem_count();
    let (gate_storage, up_storage);
    let (gate, up) = (slice_of!(gate, gate_storage), slice_of!(up, up_storage));
    let mut out = fresh(kernels, count)?;
    let ints = count as i32;
    let mut args = kernels.stream.launch_builder(&kernels.silu_mul);
    args.arg(gate).arg(up).arg(&mut out).arg(&ints);
    // SAFETY: count values in all three; the kernel walks the whole count with any grid.
    unsafe { args.launch(launch((count.div_ceil(256).min(4096), 1, 1), 256)) }.w()?;
    Ok(tensor(kernels, out, dims))
}

/// Queries, keys and values of the normed rows; keys and values into the caches; attention; rows x hidden.
#[allow(unsafe_code, reason = "kernel launches")]
fn attention(
    kernels: &Kernels,
    block: &mut Block,
    y: &Tensor,
    (cos, sin): (&Tensor, &Tensor),
    pass: &Pass,
    (shape, room): (&TextShape, &Room),
) -> Outcome<Tensor> {
    let (rows, width) = (pass.rows, shape.head_dim());
    let (q, k, v) = (block.query.0.forward(y)?, block.key.0.forward(y)?, block.value.0.forward(y)?);
    let [heads, kv_heads, dim] = [shape.heads as i32, shape.kv_heads as i32, width as i32];
    let [prefix_room, branch_room, prefix] = [room.prefix as i32, room.branch as i32, pass.prefix as i32];
    let [row_count, branches, splits] = [rows as i32, pass.branches as i32, pass.splits as i32];
    let mut turned = fresh::<f16>(kernels, rows * shape.hidden)?;
    {
        let (sq, sk, sv, bq, bk, bv, sc, ss);
        let (q, k, v) = (slice_of!(q, sq), slice_of!(k, sk), slice_of!(v, sv));
        let (q_bias, k_bias) = (slice_of!(block.query.1, bq), slice_of!(block.key.1, bk));
        let (v_bias, cos, sin) = (slice_of!(block.value.1, bv), slice_of!(cos, sc), slice_of!(sin, ss));
        let ([pk, pv], [bk, bv]) = (&mut block.prefix, &mut block.branch);
        let mut args = kernels.stream.launch_builder(&kernels.rope_store);
        args.arg(q).arg(k).arg(v).arg(q_bias).arg(k_bias).arg(v_bias).arg(cos).arg(sin).arg(&pass.places);
        args.arg(&mut turned).arg(pk).arg(pv).arg(bk).arg(bv);
        args.arg(&heads).arg(&kv_heads).arg(&dim).arg(&prefix_room).arg(&branch_room);
        // SAFETY: `runs` and `limit` hold every place within its cache and every position within the angles.
        unsafe { args.launch(launch((rows, 1, 1), 128)) }.w()?;
    }
    let mut part = fresh::<f32>(kernels, pass.splits * rows * shape.hidden)?;
    let mut stat = fresh::<f32>(kernels, pass.splits * rows * shape.heads * 2)?;
    let tiles = (rows * shape.group()).div_ceil(BLOCK_QUERIES);
    let scale = 1.0 / (width as f32).sqrt();
    let mut args = kernels.stream.launch_builder(&kernels.attend);
    args.arg(&turned).arg(&block.prefix[0]).arg(&block.prefix[1]).arg(&block.branch[0]).arg(&block.branch[1]);
    args.arg(&pass.places).arg(&pass.branch_len).arg(&mut part).arg(&mut stat);
    args.arg(&row_count).arg(&heads).arg(&kv_heads).arg(&dim).arg(&prefix).arg(&prefix_room);
    args.arg(&branches).arg(&branch_room).arg(&scale);
    // SAFETY: a partial result a split, row and head in `part` and `stat`; reads stay within the caches' lengths.
    unsafe { args.launch(launch((tiles, shape.kv_heads, pass.splits), 128)) }.w()?;
    let mut out = fresh::<f32>(kernels, rows * shape.hidden)?;
    let row_heads = (rows * shape.heads) as i32;
    let mut args = kernels.stream.launch_builder(&kernels.join_splits);
    args.arg(&part).arg(&stat).arg(&mut out).arg(&row_heads).arg(&dim).arg(&splits);
    // SAFETY: one block a row and head, as `part` and `out` have them.
    unsafe { args.launch(launch((rows * shape.heads, 1, 1), width.clamp(32, 128))) }.w()?;
    Ok(tensor(kernels, out, (rows, shape.hidden)))
}
