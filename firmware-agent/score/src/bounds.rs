//! How sure a figure is: a bootstrap over cases, and exact bounds of a rate of rare events.

/// Rounds of a bootstrap.
pub const ROUNDS: usize = 1000;

/// SplitMix64: enough for drawing indices, the same everywhere.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        ((u128::from(z) * n as u128) >> 64) as usize
    }
}

/// The 95 % percentile interval of a figure over `n` cases (drives), drawn with replacement from `seed`. The figure gets the
/// indices drawn; rounds in which it is not defined are left out, and with fewer than half of them left there is none.
pub fn bootstrap(n: usize, seed: u64, mut figure: impl FnMut(&[usize]) -> Option<f64>) -> Option<[f64; 2]> {
    if n < 2 {
        return None;
    }
    let mut draws = Draws(seed);
    let (mut values, mut drawn) = (Vec::with_capacity(ROUNDS), vec![0; n]);
    for _ in 0..ROUNDS {
        drawn.fill_with(|| draws.below(n));
        values.extend(figure(&drawn).filter(|v| v.is_finite()));
    }
    if values.len() * 2 < ROUNDS {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let at = |q: f64| values[((values.len() - 1) as f64 * q).round() as usize];
    Some([at(0.025), at(0.975)])
}

/// Probability of at most `count` events when `expected` are.
fn poisson_at_most(count: u32, expected: f64) -> f64 {
    if expected <= 0.0 {
        return 1.0;
    }
    let (mut log_term, mut sum) = (-expected, (-expected).exp());
    for k in 1..=count {
        log_term += (expected / f64::from(k)).ln();
        sum += log_term.exp();
    }
    sum.min(1.0)
}

/// Exact two-sided 95 % bounds (Garwood) of the expected number of events of which `count` were seen.
pub fn poisson(count: u32) -> [f64; 2] {
    let solve = |target: f64, count: u32| {
        let (mut low, mut high) = (0.0, 20.0 + 3.0 * f64::from(count));
        for _ in 0..200 {
            let middle = (low + high) / 2.0;
            if poisson_at_most(count, middle) > target { low = middle } else { high = middle }
        }
        (low + high) / 2.0
    };
    let lower = count.checked_sub(1).map_or(0.0, |fewer| solve(0.975, fewer));
    [lower, solve(0.025, count)]
}
