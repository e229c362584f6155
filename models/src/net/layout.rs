//! Where each buffer of a lowered network lies in the arena.
//!
//! While a graph is lowered, an address is symbolic: buffer number in the upper half, float within it in the lower.
//! [`place`] gives each buffer a range for the steps in which it lives (first fit), and makes addresses final.

use super::kernels::SLACK;
use super::{Kind, Part, Step};

const SHIFT: u32 = 32;
const LOW: usize = (1 << SHIFT) - 1;
const _: () = assert!(usize::BITS == 64, "symbolic addresses need 64 bits");

/// A symbolic address.
pub(crate) fn address(buffer: usize, float: usize) -> usize {
    (buffer << SHIFT) | float
}

/// The buffer of a symbolic address.
pub(crate) fn buffer(address: usize) -> usize {
    address >> SHIFT
}

/// Floats between two planes of `pixels`: an odd number of cache lines (16 floats), because planes a power of two
/// apart would share a few sets of the cache.
pub(crate) fn plane_stride(pixels: usize) -> usize {
    ((pixels + SLACK).div_ceil(16) | 1) * 16
}

fn tables(step: &mut Step) -> impl Iterator<Item = &mut usize> {
    let (residual, other): (&mut [usize], &mut [usize]) = match &mut step.kind {
        Kind::Pointwise { filter, .. } | Kind::Dense { filter, .. } => (&mut filter.residual, &mut []),
        Kind::Add { other, .. } => (&mut [], other),
        _ => (&mut [], &mut []),
    };
    step.src.iter_mut().chain(step.dst.iter_mut()).chain(residual).chain(other)
}

/// Makes all addresses final. `sizes` are the buffers' floats. Returns the floats of the arena.
pub(crate) fn place(sizes: &[usize], steps: &mut [Step], inputs: &mut [usize], parts: &mut [Part]) -> usize {
    let end = steps.len();
    // (first step, last step) of each buffer; step 0 is the input, steps count from 1.
    let mut life = vec![(usize::MAX, 0usize); sizes.len()];
    let mut touch = |address: usize, step: usize| {
        let (first, last) = &mut life[buffer(address)];
        *first = (*first).min(step);
        *last = (*last).max(step);
    };
    for a in inputs.iter() {
        touch(*a, 0);
    }
    for (i, step) in steps.iter_mut().enumerate() {
        for a in tables(step) {
            touch(*a, i + 1);
        }
    }
    for a in parts.iter().flat_map(|p| &p.planes) {
        touch(*a, end + 1);
    }
    let mut order: Vec<usize> = (0..sizes.len()).filter(|b| life[*b].0 != usize::MAX).collect();
    order.sort_by_key(|b| (life[*b].0, *b));
    let mut base = vec![0usize; sizes.len()];
    let mut live: Vec<usize> = Vec::new();
    let mut floats = 0;
    for b in order {
        live.retain(|other| life[*other].1 >= life[b].0);
        live.sort_by_key(|other| base[*other]);
        let mut at = 0;
        for other in &live {
            if at + sizes[b] <= base[*other] {
                break;
            }
            at = at.max(base[*other] + sizes[*other]);
        }
        base[b] = at;
        floats = floats.max(at + sizes[b]);
        live.push(b);
    }
    let fix = |a: &mut usize| *a = base[buffer(*a)] + (*a & LOW);
    inputs.iter_mut().for_each(fix);
    for step in steps {
        tables(step).for_each(fix);
    }
    parts.iter_mut().flat_map(|p| p.planes.iter_mut()).for_each(fix);
    floats
}
