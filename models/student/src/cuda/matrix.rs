//! Weights of a model file on the device.
//!
//! Terms: *tiles* as in `cuda/kernels.cu`; *rows* are f16 as cuBLAS takes them. A type that has no tiles of its own is
//! turned to f16 once.

use candle_core::quantized::GgmlDType;
use half::f16;

use super::gpu::{Buffer, Gpu, How, Outcome, Product, launch};
use crate::{
    error::{Place, Result, StudentError},
    file::ModelFile,
};

/// Rows of a tile.
const TILE: usize = 16;
/// Matrices of one launch.
pub(crate) const MAX_TOGETHER: usize = 3;

/// `Matrix` of `cuda/kernels.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Matrix {
    data: u64,
    bias: u64,
    kind: i32,
    n: i32,
    k: i32,
    first: i32,
    turned: i32,
    _room: i32,
}

/// `Matrices` of `cuda/kernels.cu`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Matrices {
    of: [Matrix; MAX_TOGETHER],
    count: i32,
}

/// How a type stands in tiles: its number there, values of k in a unit, bytes of a unit of 16 rows.
fn tiled(kind: GgmlDType) -> Option<(i32, usize, usize)> {
    match kind {
        GgmlDType::F16 => Some((0, 32, 1024)),
        GgmlDType::Q8_0 => Some((1, 32, 544)),
        GgmlDType::Q4K => Some((2, 256, 2304)),
        GgmlDType::Q6K => Some((3, 256, 3360)),
        _ => None,
    }
}

/// A matrix, n x k, in tiles.
#[derive(Debug)]
pub(crate) struct Tiles {
    _data: Buffer<u8>,
    pub(crate) n: usize,
    k: usize,
    unit: usize,
    matrix: Matrix,
}

impl Tiles {
    /// Reads `NAME.weight`. `turned`: half a head's width where rows are to stand by rotary pairs, else 0.
    ///
    /// # Errors
    /// [`StudentError::Tensor`] for what is missing or shaped otherwise; what the device says.
    pub(crate) fn load(gpu: &Gpu, file: &ModelFile, name: &str, (n, k): (usize, usize), turned: usize) -> Result<Self> {
        let name = format!("{name}.weight");
        let kind = file.expect(&name, &[n, k])?.kind;
        let (kind, bytes) = match tiled(kind) {
            Some(_) => (kind, file.bytes(&name)?),
            None => {
                let bytes = file.values(&name, &[n, k])?.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
                (GgmlDType::F16, bytes)
            }
        };
        let fault = || StudentError::Tensor { name: name.clone(), what: format!("rows of {k} are no whole units") };
        let (number, unit, unit_bytes) =
            tiled(kind).filter(|(_, unit, _)| k.is_multiple_of(*unit)).ok_or_else(fault)?;
        Self::pack(gpu, &bytes, (n, k), (number, unit, unit_bytes), turned).place("weights to the device")
    }

    fn pack(
        gpu: &Gpu,
        bytes: &[u8],
        (n, k): (usize, usize),
        (number, unit, size): (i32, usize, usize),
        turned: usize,
    ) -> Outcome<Self> {
        let (tiles, units) = (n.div_ceil(TILE), k / unit);
        let raw = gpu.buffer_of(bytes)?;
        let data = gpu.buffer::<u8>(tiles * units * size)?;
        let (n32, k32, tiles32) = (n as i32, k as i32, tiles as i32);
        let how = How::row((tiles * units).div_ceil(4).min(1 << 16), 128);
        launch!(gpu, gpu.kernels.pack_tiles, how; raw.at(0), data.at(0), number, n32, k32, tiles32, turned as i32)?;
        gpu.wait()?;
        let matrix =
            Matrix { data: data.at(0), kind: number, n: n32, k: k32, turned: turned as i32, ..Matrix::default() };
        Ok(Self { _data: data, n, k, unit, matrix })
    }

    /// Tiles of 16 rows.
    pub(crate) fn count(&self) -> usize {
        self.n.div_ceil(TILE)
    }

    /// Values of k that a warp takes at a time.
    pub(crate) fn unit(&self) -> usize {
        self.unit
    }

    /// Halves that [`Tiles::unpack`] writes.
    pub(crate) fn unpacked(&self) -> usize {
        self.count() * TILE * self.k
    }

    /// As a kernel takes it; results begin at `first` of a row, and `bias` (an address, or 0) is added.
    pub(crate) fn at(&self, first: usize, bias: u64) -> Matrix {
        Matrix { first: first as i32, bias, ..self.matrix }
    }

    /// To rows of f16.
    fn unpack(&self, gpu: &Gpu, to: &Buffer<f16>) -> Outcome<()> {
        // Four warps a block, some units a warp.
        let how = How::row((self.unpacked() / 4096).clamp(1, 1 << 14), 128);
        launch!(gpu, gpu.kernels.unpack_tiles, how; self.matrix, to.at(0))
    }

    /// A product of many rows: unpacked to `scratch`, then cuBLAS. `p` says the rest.
    pub(crate) fn multiply(&self, gpu: &Gpu, scratch: &Buffer<f16>, p: Product) -> Outcome<()> {
        self.unpack(gpu, scratch)?;
        gpu.multiply(Product { w: scratch.at(0), n: self.n, k: self.k, ..p })
    }
}

/// Up to three matrices of one launch.
pub(crate) fn together(of: &[Matrix]) -> Matrices {
    let mut all = Matrices { count: of.len().min(MAX_TOGETHER) as i32, ..Matrices::default() };
    for (to, from) in all.of.iter_mut().zip(of) {
        *to = *from;
    }
    all
}

/// Matrices under one another as rows of f16, with their biases.
#[derive(Debug)]
pub(crate) struct Rows {
    weights: Buffer<f16>,
    pub(crate) bias: Buffer<f32>,
    pub(crate) n: usize,
    k: usize,
}

impl Rows {
    /// Reads `NAME.weight` and `NAME.bias` of some names, each n x k.
    ///
    /// # Errors
    /// As [`Tiles::load`].
    pub(crate) fn load(gpu: &Gpu, file: &ModelFile, names: &[String], (n, k): (usize, usize)) -> Result<Self> {
        let (mut weights, mut bias) = (Vec::with_capacity(names.len() * n * k), Vec::new());
        for name in names {
            weights.extend(file.values(&format!("{name}.weight"), &[n, k])?.iter().map(|v| f16::from_f32(*v)));
            bias.extend(file.values(&format!("{name}.bias"), &[n])?);
        }
        let place = "weights to the device";
        let (weights, bias) = (gpu.buffer_of(&weights).place(place)?, gpu.buffer_of(&bias).place(place)?);
        gpu.wait().place(place)?;
        Ok(Self { weights, bias, n: n * names.len(), k })
    }

    /// A product without the bias; `p` says the rest.
    pub(crate) fn multiply(&self, gpu: &Gpu, p: Product) -> Outcome<()> {
        gpu.multiply(Product { w: self.weights.at(0), n: self.n, k: self.k, width: self.n, ..p })
    }
}
