//! How sure a figure is: a bootstrap over cases, and exact bounds of a share and of a rate of rare events.

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

/// Probability of at most `count` hits in `of` cases, each with probability `p`.
fn binomial_at_most(count: usize, of: usize, p: f64) -> f64 {
    if p <= 0.0 || count >= of {
        return 1.0;
    }
    if p >= 1.0 {
        return 0.0;
    }
    let odds = p.ln() - (-p).ln_1p();
    let mut log_term = of as f64 * (-p).ln_1p();
    let mut sum = log_term.exp();
    for k in 1..=count {
        log_term += ((of - k + 1) as f64 / k as f64).ln() + odds;
        sum += log_term.exp();
    }
    sum.min(1.0)
}

/// Where a falling function of a value from 0 to `high` reaches `target`.
fn solve(mut high: f64, target: f64, falling: impl Fn(f64) -> f64) -> f64 {
    let mut low = 0.0;
    // Halved until a double has no more digits.
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if falling(middle) > target { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

/// Exact two-sided 95 % bounds (Clopper and Pearson) of the share of which `hits` in `of` were seen: unlike a bootstrap's
/// they have a width at 0 % and 100 % too. `None` of no cases or more hits than cases.
pub fn share(hits: usize, of: usize) -> Option<[f64; 2]> {
    if of == 0 || hits > of {
        return None;
    }
    let lower = hits.checked_sub(1).map_or(0.0, |fewer| solve(1.0, 0.975, |p| binomial_at_most(fewer, of, p)));
    let upper = if hits == of { 1.0 } else { solve(1.0, 0.025, |p| binomial_at_most(hits, of, p)) };
    Some([lower, upper])
}

/// The expected number of which at most `count` events have the probability `tail`.
fn poisson_bound(count: u32, tail: f64) -> f64 {
    solve(20.0 + 3.0 * f64::from(count), tail, |expected| poisson_at_most(count, expected))
}

/// Exact two-sided 95 % bounds (Garwood) of the expected number of events of which `count` were seen.
pub fn poisson(count: u32) -> [f64; 2] {
    let lower = count.checked_sub(1).map_or(0.0, |fewer| poisson_bound(fewer, 0.975));
    [lower, poisson_bound(count, 0.025)]
}

/// Exact one-sided upper bound of the expected number of events of which `count` were seen: with 95 % confidence it is no
/// more. 3.0 of none.
pub fn poisson_at_most_95(count: u32) -> f64 {
    poisson_bound(count, 0.05)
}
