//! Keys and values of one layer, allocated once, and attention over them.
//!
//! Terms: *prefix* tensors are kv heads x room x head width; *branch* tensors (branches x kv heads) x room x head
//! width. Rows are written in place and read as views: the prefix is never copied, and query heads that share a key
//! head are folded into the rows of one product instead of repeating keys.
//!
//! Method: cascade attention as in Hydragen (Juravsky et al. 2024, arXiv:2402.05099): all rows of all branches
//! against the shared prefix in one product, each branch against its own suffix, one softmax over both.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops;

use super::{Room, Run};
use crate::shape::TextShape;

/// Keys and values of one layer.
#[derive(Debug)]
pub(super) struct Cache {
    prefix_key: Tensor,
    prefix_value: Tensor,
    branch_key: Tensor,
    branch_value: Tensor,
}

/// Sizes that attention needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heads {
    pub(super) kv: usize,
    pub(super) group: usize,
    pub(super) width: usize,
}

/// Rows that are appended to the prefix.
#[derive(Debug)]
pub(super) struct Append {
    /// Rows in the prefix before.
    pub(super) start: usize,
    /// 1 x rows x (start + rows): minus infinity where a row must not look; `None` for a single row.
    pub(super) mask: Option<Tensor>,
}

/// Rows of several branches.
#[derive(Debug)]
pub(super) struct Cascade {
    /// Rows of the prefix.
    pub(super) prefix: usize,
    /// Branches that are open, so many stand in the padded batch.
    pub(super) branches: usize,
    /// Rows of the longest run.
    pub(super) longest: usize,
    /// Rows of the longest branch, with this step's.
    pub(super) total: usize,
    /// (rows x kv heads) x head width: the row of the flat branch cache that each value goes to.
    pub(super) write: Tensor,
    /// branches x longest: the row that stands in each place of the padded batch (0 where none does).
    pub(super) pad: Tensor,
    /// rows: the place of each row in the padded batch.
    pub(super) unpad: Tensor,
    /// branches x 1 x longest x total: minus infinity where a row must not look.
    pub(super) mask: Tensor,
}

impl Append {
    pub(super) fn new(start: usize, rows: usize, kind: DType, device: &Device) -> Result<Self> {
        if rows == 1 {
            return Ok(Self { start, mask: None });
        }
        let mut mask = vec![0f32; rows * (start + rows)];
        for (i, line) in mask.chunks_mut(start + rows).enumerate() {
            line[start + i + 1..].fill(f32::NEG_INFINITY);
        }
        let mask = Tensor::from_vec(mask, (1, rows, start + rows), device)?.to_dtype(kind)?;
        Ok(Self { start, mask: Some(mask) })
    }
}

impl Cascade {
    pub(super) fn new(
        prefix: usize,
        lens: &[usize],
        runs: &[Run],
        heads: Heads,
        room: &Room,
        (kind, device): (DType, &Device),
    ) -> Result<Self> {
        let branches = lens.len();
        let longest = runs.iter().map(|run| run.len).max().unwrap_or(0);
        let total = runs.iter().map(|run| lens[run.branch] + run.len).max().unwrap_or(0);
        let rows: usize = runs.iter().map(|run| run.len).sum();
        let mut write = Vec::with_capacity(rows * heads.kv * heads.width);
        let mut pad = vec![0u32; branches * longest];
        let mut unpad = vec![0u32; rows];
        let mut mask = vec![f32::NEG_INFINITY; branches * longest * total];
        for run in runs {
            for i in 0..run.len {
                let (place, at) = (run.branch * longest + i, lens[run.branch] + i);
                for head in 0..heads.kv {
                    let to = (run.branch * heads.kv + head) * room.branch + at;
                    write.extend(std::iter::repeat_n(to as u32, heads.width));
                }
                pad[place] = (run.start + i) as u32;
                unpad[run.start + i] = place as u32;
                mask[place * total..place * total + at + 1].fill(0.0);
            }
        }
        let write = Tensor::from_vec(write, (rows * heads.kv, heads.width), device)?;
        let mask = Tensor::from_vec(mask, (branches, 1, longest, total), device)?.to_dtype(kind)?;
        Ok(Self {
            prefix,
            branches,
            longest,
            total,
            write,
            pad: Tensor::from_vec(pad, branches * longest, device)?,
            unpad: Tensor::from_vec(unpad, rows, device)?,
            mask,
        })
    }
}

impl Cache {
    pub(super) fn new(shape: &TextShape, room: &Room, kind: DType, device: &Device) -> Result<Self> {
        let (kv, width) = (shape.kv_heads, shape.head_dim());
        let prefix = || Tensor::zeros((kv, room.prefix, width), kind, device);
        let branch = || Tensor::zeros((room.branches * kv, room.branch, width), kind, device);
        Ok(Self { prefix_key: prefix()?, prefix_value: prefix()?, branch_key: branch()?, branch_value: branch()? })
    }

    /// Appends rows to the prefix and attends. `query` is rows x heads x width, scaled; `key` and `value` rows x kv
    /// heads x width; the result is rows x (heads x width).
    pub(super) fn append(
        &self,
        heads: Heads,
        plan: &Append,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
    ) -> Result<Tensor> {
        let (rows, total) = (query.dim(0)?, plan.start + query.dim(0)?);
        self.prefix_key.slice_set(&key.transpose(0, 1)?.contiguous()?, 1, plan.start)?;
        self.prefix_value.slice_set(&value.transpose(0, 1)?.contiguous()?, 1, plan.start)?;
        let query = query.transpose(0, 1)?.contiguous()?.reshape((heads.kv, heads.group * rows, heads.width))?;
        let scores = query.matmul(&self.prefix_key.narrow(1, 0, total)?.t()?)?;
        let scores = match &plan.mask {
            Some(mask) => scores.reshape((heads.kv * heads.group, rows, total))?.broadcast_add(mask)?.reshape((
                heads.kv,
                heads.group * rows,
                total,
            ))?,
            None => scores,
        };
        let out = ops::softmax_last_dim(&scores)?.matmul(&self.prefix_value.narrow(1, 0, total)?)?;
        out.reshape((heads.kv * heads.group, rows, heads.width))?.transpose(0, 1)?.reshape((rows, ()))
    }

    /// Appends rows to their branches and attends the prefix and each row's own branch. Shapes as for
    /// [`Cache::append`].
    pub(super) fn cascade(
        &self,
        heads: Heads,
        plan: &Cascade,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
    ) -> Result<Tensor> {
        let rows = query.dim(0)?;
        let Heads { kv, group, width } = heads;
        self.write(&self.branch_key, plan, key)?;
        self.write(&self.branch_value, plan, value)?;
        // Against the prefix: kv heads x (group x rows) x prefix.
        let folded = query.transpose(0, 1)?.contiguous()?.reshape((kv, group * rows, width))?;
        let far = folded.matmul(&self.prefix_key.narrow(1, 0, plan.prefix)?.t()?)?;
        // Against each branch, padded: (branches x kv heads) x (group x longest) x total.
        let (open, longest, total) = (plan.branches, plan.longest, plan.total);
        let padded = query.index_select(&plan.pad, 0)?.reshape((open, longest, kv * group, width))?;
        let padded = padded.transpose(1, 2)?.contiguous()?.reshape((open * kv, group * longest, width))?;
        let keys = self.branch_key.narrow(0, 0, open * kv)?.narrow(1, 0, total)?;
        let near = padded.matmul(&keys.t()?)?.reshape((open, kv * group, longest, total))?;
        let near = near.broadcast_add(&plan.mask)?;
        // Places of the batch back to rows, then one softmax over both parts.
        let near = near.transpose(1, 2)?.reshape((open * longest, kv * group * total))?.index_select(&plan.unpad, 0)?;
        let near = near.reshape((rows, kv * group, total))?.transpose(0, 1)?.reshape((kv, group * rows, total))?;
        let weights = ops::softmax_last_dim(&Tensor::cat(&[&far, &near], D::Minus1)?)?;
        let far = view(&weights, 0, plan.prefix)?.matmul(&self.prefix_value.narrow(1, 0, plan.prefix)?)?;
        let near = weights.narrow(2, plan.prefix, total)?.reshape((kv * group, rows, total))?;
        let near = near.transpose(0, 1)?.reshape((rows, kv * group * total))?.index_select(&plan.pad, 0)?;
        let near = near.reshape((open, longest, kv * group, total))?.transpose(1, 2)?;
        let near = near.contiguous()?.reshape((open * kv, group * longest, total))?;
        let values = self.branch_value.narrow(0, 0, open * kv)?.narrow(1, 0, total)?;
        let near = near.matmul(&values)?.reshape((open, kv * group, longest, width))?.transpose(1, 2)?;
        let near = near.reshape((open * longest, kv * group * width))?.index_select(&plan.unpad, 0)?;
        let far = far.reshape((kv * group, rows, width))?.transpose(0, 1)?.reshape((rows, kv * group * width))?;
        far + near
    }

    fn write(&self, cache: &Tensor, plan: &Cascade, rows: &Tensor) -> Result<()> {
        let (lines, room, width) = cache.dims3()?;
        let flat = cache.reshape((lines * room, width))?;
        flat.scatter_set(&plan.write, &rows.contiguous()?.reshape(plan.write.shape())?, 0)
    }

    /// Copies the first `len` rows of a branch to another.
    pub(super) fn copy(&self, kv: usize, from: usize, to: usize, len: usize) -> Result<()> {
        for cache in [&self.branch_key, &self.branch_value] {
            // A copy first: source and target share their storage.
            let rows = cache.narrow(0, from * kv, kv)?.narrow(1, 0, len)?.force_contiguous()?;
            cache.narrow(0, to * kv, kv)?.slice_set(&rows, 1, 0)?;
        }
        Ok(())
    }
}

/// Columns of the weights: a view where the device multiplies views, a copy where it does not (cuBLAS here).
fn view(weights: &Tensor, start: usize, len: usize) -> Result<Tensor> {
    let view = weights.narrow(2, start, len)?;
    if view.device().is_cpu() { Ok(view) } else { view.contiguous() }
}
