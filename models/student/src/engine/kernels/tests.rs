//! The kernels of this machine against their portable twins, on random shapes.

use super::*;

/// Splitmix64 (Steele, Lea, Flood 2014).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }
}

fn same(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Random activations of `cols` rows, quantised: integers, sums, scales and strides.
fn acts(draw: &mut Draw, cols: usize, k: usize) -> (Vec<i16>, Vec<f32>, Vec<f32>, usize) {
    let stride = k + 32 * draw.below(3);
    let (mut ints, mut sums, mut scales) = (vec![0; cols * stride], vec![0.0; cols * k / 32], vec![0.0; cols]);
    for c in 0..cols {
        let values = draw.floats(k);
        scales[c] = Isa::Portable.quantise(&values, &mut ints[c * stride..], &mut sums[c * k / 32..]);
    }
    (ints, sums, scales, stride)
}

#[test]
fn every_kind_unpacks_and_multiplies_to_the_same_bits() {
    let mut draw = Draw(1);
    for round in 0..200 {
        let kind = [Chunk::Q8, Chunk::Q4, Chunk::Q6, Chunk::I16][round % 4];
        let k = if matches!(kind, Chunk::Q8 | Chunk::I16) { 32 * (1 + draw.below(8)) } else { CHUNK };
        let mut packed: Vec<u8> = (0..kind.bytes(k)).map(|_| draw.next() as u8).collect();
        // Factors of Q4_K have six bits; halves and floats are made finite.
        match kind {
            Chunk::Q8 => (0..k / 32 * PANEL).for_each(|i| packed[2 * i + 1] = 0x21),
            Chunk::Q4 => {
                (0..2 * PANEL).for_each(|i| packed[2 * i + 1] = 0x22);
                packed[4 * PANEL..20 * PANEL].iter_mut().for_each(|byte| *byte &= 63);
            }
            Chunk::Q6 => (0..PANEL).for_each(|i| packed[2 * i + 1] = 0xa3),
            _ => {
                (0..k / 32 * PANEL).for_each(|i| packed[4 * i + 3] = 0x3c);
                for i in 0..k * PANEL {
                    let int = (draw.below(16_383) as i16 - 8191).to_le_bytes();
                    packed[k / 32 * 4 * PANEL + 2 * i..][..2].copy_from_slice(&int);
                }
            }
        }
        let unpack = |isa: Isa| {
            let (mut ints, mut scales, mut mins) = (vec![0; k * PANEL], vec![0.0; 8 * PANEL], vec![0.0; 8 * PANEL]);
            isa.unpack(kind, k, &packed, &mut ints, &mut scales, &mut mins);
            (ints, scales, mins)
        };
        let ((ints, scales, mins), twin) = (unpack(Isa::detect()), unpack(Isa::Portable));
        assert!(ints == twin.0 && same(&scales, &twin.1) && same(&mins, &twin.2), "{kind:?} {k}");
        let cols = 1 + draw.below(COLS);
        let (acts, sums, act_scales, stride) = acts(&mut draw, cols, k);
        let mins = if kind.has_mins() { &mins[..] } else { &[] };
        let tile = IntTile { ints: &ints, scales: &scales, mins, segment: kind.segment() };
        let acts =
            ActTile { ints: &acts, stride, sums: &sums, sums_stride: k / 32, scales: &act_scales, scales_stride: 1 };
        let mut totals = [[0.25; PANEL]; COLS];
        let mut twin = totals;
        Isa::detect().int_tile(&tile, &acts, cols, &mut totals);
        Isa::Portable.int_tile(&tile, &acts, cols, &mut twin);
        assert!(same(totals.as_flattened(), twin.as_flattened()), "{kind:?} {k} {cols}");
        if Isa::detect().fuses(kind, cols) {
            let mut fused = [[0.25; PANEL]; COLS];
            Isa::detect().fused_tile(kind, k, &packed, &acts, cols, &mut fused);
            assert!(same(fused.as_flattened(), twin.as_flattened()), "fused {kind:?} {k} {cols}");
        }
        assert!(totals[0][0] != 0.25 && totals[cols..].as_flattened().iter().all(|x| *x == 0.25));
    }
}

#[test]
fn the_largest_integers_do_not_wrap() {
    for (kind, weight) in [(Chunk::Q8, -128), (Chunk::Q4, 15 * 63), (Chunk::Q6, 32 * 128), (Chunk::I16, 8191)] {
        let ints = vec![weight; CHUNK * PANEL];
        let scales = vec![1.0; 8 * PANEL];
        let (acts, sums) = (vec![8191; CHUNK], vec![0.0; 8]);
        let tile = IntTile { ints: &ints, scales: &scales, mins: &[], segment: kind.segment() };
        let acts =
            ActTile { ints: &acts, stride: CHUNK, sums: &sums, sums_stride: 8, scales: &[1.0], scales_stride: 1 };
        for isa in [Isa::detect(), Isa::Portable] {
            let mut totals = [[0.0; PANEL]; COLS];
            isa.int_tile(&tile, &acts, 1, &mut totals);
            let exact = f64::from(weight) * 8191.0 * CHUNK as f64;
            assert!((f64::from(totals[0][3]) / exact - 1.0).abs() < 1e-6, "{kind:?} {}", totals[0][3]);
        }
    }
}

#[test]
fn floats_multiply_to_the_same_bits_at_odd_sizes() {
    let mut draw = Draw(2);
    for _ in 0..100 {
        let (k, cols) = (1 + draw.below(90), 1 + draw.below(COLS));
        let stride = k + draw.below(5);
        let (weights, acts) = (draw.floats(k * PANEL), draw.floats(cols * stride));
        let tile = F32Tile { weights: &weights, acts: &acts, stride, k };
        let mut totals = [[0.5; PANEL]; COLS];
        let mut twin = totals;
        Isa::detect().f32_tile(&tile, cols, &mut totals);
        Isa::Portable.f32_tile(&tile, cols, &mut twin);
        assert!(same(totals.as_flattened(), twin.as_flattened()), "{k} {cols}");
    }
}

#[test]
fn activations_quantise_to_the_same_bits_and_stay_close() {
    let mut draw = Draw(3);
    for round in 0..100 {
        let k = 32 * (1 + draw.below(8));
        let mut values = draw.floats(k);
        values.iter_mut().for_each(|value| *value *= 10_f32.powi(round % 40 - 20));
        let quantise = |isa: Isa| {
            let (mut ints, mut sums) = (vec![0; k], vec![0.0; k / 32]);
            let scale = isa.quantise(&values, &mut ints, &mut sums);
            (ints, sums, scale)
        };
        let (ints, sums, scale) = quantise(Isa::detect());
        assert!((ints.clone(), sums.clone(), scale) == quantise(Isa::Portable));
        for (value, int) in values.iter().zip(&ints) {
            assert!((value - f32::from(*int) * scale).abs() <= 0.501 * scale);
        }
        for (sum, block) in sums.iter().zip(ints.chunks(32)) {
            assert_eq!(*sum, block.iter().map(|int| f32::from(*int)).sum::<f32>());
        }
    }
}

#[test]
fn what_is_not_finite_shows_and_what_is_zero_stays_zero() {
    for isa in [Isa::detect(), Isa::Portable] {
        let (mut ints, mut sums) = (vec![7; 64], vec![7.0; 2]);
        assert_eq!(isa.quantise(&[0.0; 64], &mut ints, &mut sums), 0.0);
        assert!(ints.iter().all(|int| *int == 0) && sums == [0.0; 2]);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = [1.0; 64];
            values[45] = bad;
            assert!(isa.quantise(&values, &mut ints, &mut sums).is_nan());
        }
    }
}

#[test]
fn activation_functions_stay_within_a_few_ulps_of_f64() {
    let close = |ours: f32, exact: f64| (f64::from(ours) - exact).abs() <= 1e-6 * exact.abs().max(1e-3);
    let inputs: Vec<f32> = (-1009..1010).map(|i| i as f32 / 50.0).collect();
    for isa in [Isa::detect(), Isa::Portable] {
        let (mut silu, mut gelu, mut power) = (inputs.clone(), inputs.clone(), inputs.clone());
        isa.swiglu(&mut silu, &vec![0.5; inputs.len()]);
        isa.gelu_tanh(&mut gelu);
        let sum = isa.exp_sum(&mut power, 20.5);
        let mut exact_sum = 0.0;
        for (i, x) in inputs.iter().map(|x| f64::from(*x)).enumerate() {
            assert!(close(silu[i], 0.5 * x / (1.0 + (-x).exp())), "silu {x} {}", silu[i]);
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            assert!(close(gelu[i], 0.5 * x * (1.0 + inner.tanh())), "gelu {x} {}", gelu[i]);
            let exact = f64::from(inputs[i] - 20.5).exp(); // the difference rounded, as the kernel has it
            assert!((f64::from(power[i]) / exact - 1.0).abs() < 1e-6, "exp {x}");
            exact_sum += exact;
        }
        assert!((f64::from(sum) / exact_sum - 1.0).abs() < 1e-5);
        let mut masked = [f32::NEG_INFINITY, 0.0, -200.0, f32::NEG_INFINITY, 0.0, 0.0, 0.0, 0.0, f32::NEG_INFINITY];
        assert_eq!(isa.exp_sum(&mut masked, 0.0), 5.0);
        assert_eq!((masked[0], masked[2], masked[8]), (0.0, 0.0, 0.0));
    }
}
