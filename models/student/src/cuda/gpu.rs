//! The device: memory, kernels, launches, large products.
//!
//! One stream for everything, so that order is the order of the calls. Addresses are plain numbers to the kernels;
//! [`Buffer`] owns what is behind them. Knows no model.
#![allow(unsafe_code, reason = "the driver's interface")]

use std::{
    ffi::{CString, c_void},
    marker::PhantomData,
    sync::Arc,
};

use candle_core::cuda_backend::{
    WrapErr,
    cudarc::{
        cublas::{self, CudaBlas},
        driver::{CudaContext, CudaGraph, CudaStream, result, sys},
    },
};

/// A result of the device.
pub(crate) type Outcome<T> = candle_core::Result<T>;

/// Bytes that begin where the driver may read whole words.
#[repr(C, align(16))]
struct Aligned<T: ?Sized>(T);

/// What `build.rs` made of the kernels: code for 8.7 (Orin) and 9.0 (Hopper), PTX for 8.0 for any other GPU. The driver
/// chooses.
static IMAGE: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/kernels.fatbin")));

/// A kernel.
#[derive(Clone, Copy)]
pub(crate) struct Function(sys::CUfunction);

macro_rules! kernels {
    ($($name:ident),* $(,)?) => {
        /// The kernels of `cuda/kernels.cu`, by their names there.
        pub(crate) struct Kernels { $(pub(crate) $name: Function),* }
        impl Kernels {
            fn load(module: sys::CUmodule) -> Outcome<Self> {
                let get = |name: &str| -> Outcome<Function> {
                    let name = CString::new(name).map_err(candle_core::Error::wrap)?;
                    // SAFETY: the module was loaded and is never unloaded.
                    Ok(Function(unsafe { result::module::get_function(module, name) }.w()?))
                };
                Ok(Self { $($name: get(stringify!($name))?),* })
            }
        }
    };
}

kernels!(
    pack_tiles,
    unpack_tiles,
    embed,
    linear_8_store,
    linear_8_add,
    linear_8_gated,
    linear_8_turned,
    linear_32_store,
    linear_32_add,
    linear_32_gated,
    linear_32_turned,
    prepare,
    rope_store,
    rope_patches,
    attend_64,
    attend_80,
    attend_128,
    join_splits,
    rms_norm,
    layer_norm,
    silu_mul,
    gelu,
    to_half,
    fill_rows,
    gather_mean,
    reduce_logits,
    pick_logits,
);

/// How a kernel is launched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    /// Blocks.
    pub(crate) grid: (usize, usize, usize),
    /// Threads of one.
    pub(crate) threads: usize,
    /// Bytes of dynamic shared memory.
    pub(crate) shared: usize,
}

impl How {
    /// Blocks in one row, after the kernel before.
    pub(crate) const fn row(blocks: usize, threads: usize) -> Self {
        Self { grid: (blocks, 1, 1), threads, shared: 0 }
    }

    /// Enough blocks of 256 threads for so many values; the kernels walk the rest.
    pub(crate) fn values(count: usize) -> Self {
        Self::row(count.div_ceil(256).clamp(1, 4096), 256)
    }
}

/// Launches a kernel; the arguments are values whose layouts the kernel's parameters have.
macro_rules! launch {
    ($gpu:expr, $function:expr, $how:expr; $($argument:expr),* $(,)?) => {
        $gpu.launch($function, $how, &mut [$(std::ptr::from_mut(&mut { $argument }).cast::<std::ffi::c_void>()),*])
    };
}
pub(crate) use launch;

/// A large product: `out` (rows x n, `width` apart) = `beta` out + `alpha` x (rows x k) w^T, with w n x k; w and x f16.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    pub(crate) w: u64,
    pub(crate) x: u64,
    pub(crate) out: u64,
    pub(crate) rows: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) width: usize,
    pub(crate) half: bool,
    pub(crate) alpha: f32,
    pub(crate) beta: f32,
}

/// An NVIDIA GPU with the kernels on it.
pub struct Gpu {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    blas: CudaBlas,
    pub(crate) kernels: Kernels,
    /// Multiprocessors.
    pub(crate) processors: usize,
}

// SAFETY: handles of the driver may be used from any thread whose context is set, which every call here sees to.
unsafe impl Send for Gpu {}
// SAFETY: as above; the callers hold `&mut` of what they run, and the driver locks itself.
unsafe impl Sync for Gpu {}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gpu").field("processors", &self.processors).finish_non_exhaustive()
    }
}

impl Gpu {
    /// Opens a GPU by its number and loads the kernels.
    ///
    /// # Errors
    /// What the driver says.
    pub fn open(number: usize) -> Outcome<Arc<Self>> {
        let context = CudaContext::new(number).w()?;
        let stream = context.new_stream().w()?;
        let attribute = |which| context.attribute(which).w();
        let processors = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        // SAFETY: the image's header says how long it is, and it is never changed; the context is this thread's since it
        // was made.
        let module = unsafe { result::module::load_data(IMAGE.0.as_ptr().cast()) }.w()?;
        Ok(Arc::new(Self {
            blas: CudaBlas::new(Arc::clone(&stream)).w()?,
            kernels: Kernels::load(module)?,
            processors: usize::try_from(processors).unwrap_or(1).max(1),
            context,
            stream,
        }))
    }

    /// Makes the device this thread's.
    pub(crate) fn enter(&self) -> Outcome<()> {
        self.context.bind_to_thread().w()
    }

    /// Waits for everything that was asked for.
    pub(crate) fn wait(&self) -> Outcome<()> {
        self.stream.synchronize().w()
    }

    /// Use [`launch!`].
    pub(crate) fn launch(&self, function: Function, how: How, arguments: &mut [*mut c_void]) -> Outcome<()> {
        let of = |(x, y, z): (usize, usize, usize)| (x as u32, y as u32, z as u32);
        let (grid, threads, stream) = (of(how.grid), (how.threads as u32, 1, 1), self.stream.cu_stream());
        // SAFETY: the arguments are those of the kernel (each call site stands beside its signature's order), and point
        // to buffers that outlive the pass.
        unsafe { result::launch_kernel(function.0, grid, threads, how.shared as u32, stream, arguments) }.w()
    }

    /// Records what `work` launches; it is not run.
    pub(crate) fn record(&self, work: impl FnOnce() -> Outcome<()>) -> Outcome<Recorded> {
        self.stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).w()?;
        let done = work();
        let graph = self.stream.end_capture(sys::CUgraphInstantiate_flags(0)).w();
        done?;
        match graph? {
            Some(graph) => Ok(Recorded(graph)),
            None => candle_core::bail!("nothing was recorded"),
        }
    }

    /// cuBLAS, sums in f32.
    pub(crate) fn multiply(&self, p: Product) -> Outcome<()> {
        use cublas::sys::{cublasComputeType_t, cublasGemmAlgo_t, cublasOperation_t, cudaDataType_t};
        let (half, single) = (cudaDataType_t::CUDA_R_16F, cudaDataType_t::CUDA_R_32F);
        let out = if p.half { half } else { single };
        // SAFETY: cuBLAS counts by columns: w is k x n there and taken turned, x is k x rows, out n x rows; the callers'
        // buffers hold them.
        unsafe {
            cublas::result::gemm_ex(
                *self.blas.handle(),
                cublasOperation_t::CUBLAS_OP_T,
                cublasOperation_t::CUBLAS_OP_N,
                p.n as i32,
                p.rows as i32,
                p.k as i32,
                (&raw const p.alpha).cast(),
                p.w as *const c_void,
                half,
                p.k as i32,
                p.x as *const c_void,
                half,
                p.k as i32,
                (&raw const p.beta).cast(),
                p.out as *mut c_void,
                out,
                p.width as i32,
                cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
            )
        }
        .w()
    }

    /// Copies values to an address of the device. They may be changed as soon as this returns, unless they are pinned.
    pub(crate) fn upload<T: Copy>(&self, to: u64, values: &[T]) -> Outcome<()> {
        // SAFETY: callers give an address within a buffer with room for the values.
        unsafe { result::memcpy_htod_async(to, values, self.stream.cu_stream()) }.w()
    }

    /// Copies values from an address of the device and waits for them.
    pub(crate) fn download<T: Copy>(&self, from: u64, values: &mut [T]) -> Outcome<()> {
        // SAFETY: callers give an address within a buffer that holds so many values, plain numbers.
        unsafe { result::memcpy_dtoh_async(values, from, self.stream.cu_stream()) }.w()?;
        self.wait()
    }

    /// Copies bytes within the device; the parts are apart.
    pub(crate) fn copy(&self, from: u64, to: u64, bytes: usize) -> Outcome<()> {
        // SAFETY: callers give addresses within their buffers.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) }.w()
    }

    /// GB/s of a copy within the device, read and written: what memory gives at most. The median of some.
    ///
    /// # Errors
    /// What the driver says.
    pub fn copy_rate(&self, bytes: usize) -> Outcome<f64> {
        let (from, to) = (self.buffer::<u8>(bytes)?, self.buffer::<u8>(bytes)?);
        let mut spent = Vec::new();
        for round in 0..8 {
            self.wait()?;
            let begun = std::time::Instant::now();
            self.copy(from.at(0), to.at(0), bytes)?;
            self.wait()?;
            if round >= 3 {
                spent.push(begun.elapsed().as_secs_f64());
            }
        }
        spent.sort_by(f64::total_cmp);
        let median = spent.get(spent.len() / 2).copied().unwrap_or(f64::NAN);
        Ok(2.0 * bytes as f64 / median / 1e9)
    }

    /// Memory for so many values, all zero.
    pub(crate) fn buffer<T: Copy>(&self, len: usize) -> Outcome<Buffer<T>> {
        self.enter()?;
        let bytes = (len * size_of::<T>()).max(16);
        // SAFETY: the context is set; the memory is written before anything reads it.
        let at = unsafe {
            let at = result::malloc_sync(bytes).w()?;
            result::memset_d8_async(at, 0, bytes, self.stream.cu_stream()).w()?;
            at
        };
        Ok(Buffer { at, context: Arc::clone(&self.context), values: PhantomData })
    }

    /// Memory with these values.
    pub(crate) fn buffer_of<T: Copy>(&self, values: &[T]) -> Outcome<Buffer<T>> {
        let buffer = self.buffer(values.len())?;
        self.upload(buffer.at, values)?;
        Ok(buffer)
    }
}

/// Launches that were recorded, to be run as one.
pub(crate) struct Recorded(CudaGraph);

// SAFETY: used by one thread at a time, behind `&mut` of its owner.
unsafe impl Send for Recorded {}

impl Recorded {
    /// Runs them.
    pub(crate) fn run(&self) -> Outcome<()> {
        self.0.launch().w()
    }
}

/// Memory of the device.
#[derive(Debug)]
pub(crate) struct Buffer<T> {
    at: u64,
    context: Arc<CudaContext>,
    values: PhantomData<T>,
}

impl<T> Buffer<T> {
    /// Address of a value.
    pub(crate) fn at(&self, index: usize) -> u64 {
        self.at + (index * size_of::<T>()) as u64
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: allocated by `Gpu::buffer` and freed once; freeing waits for the device.
            let _ = unsafe { result::free_sync(self.at) };
        }
    }
}

/// Memory of the host that the device copies to and from without a stop between.
#[derive(Debug)]
pub(crate) struct Pinned<T> {
    at: *mut T,
    len: usize,
    context: Arc<CudaContext>,
}

// SAFETY: plain memory behind one owner.
unsafe impl<T: Send> Send for Pinned<T> {}

impl<T: Copy + Default> Pinned<T> {
    /// So many values.
    pub(crate) fn new(gpu: &Gpu, len: usize) -> Outcome<Self> {
        gpu.enter()?;
        // SAFETY: the context is set.
        let at: *mut T = unsafe { result::malloc_host(len.max(1) * size_of::<T>(), 0) }.w()?.cast();
        for i in 0..len {
            // SAFETY: within what was just allocated; pinned memory is aligned to pages.
            unsafe { at.add(i).write(T::default()) };
        }
        Ok(Self { at, len, context: Arc::clone(&gpu.context) })
    }
}

impl<T> std::ops::Deref for Pinned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `len` values were written in `new`.
        unsafe { std::slice::from_raw_parts(self.at, self.len) }
    }
}

impl<T> std::ops::DerefMut for Pinned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `&mut self` is the only way to it.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.len) }
    }
}

impl<T> Drop for Pinned<T> {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: allocated by `new` and freed once.
            let _ = unsafe { result::free_host(self.at.cast()) };
        }
    }
}
