//! Differential frame pruning: a vision token that shows what the frame before showed is not sent again.
//!
//! Terms: the *difference* of a token is the mean of |now - then| over its normalised values times 255 (upstream's
//! measure: with a standard deviation of 0.5 it counts half grey levels); its *floor* is what sensor noise alone makes
//! of it. Knows one job: frames of one size, in order.
//!
//! Upstream's threshold of 0.1 keeps every token of a camera with half a grey level of noise, so a second rule measures
//! the floor. Method: the quarter of a frame's tokens that changed least is taken as still, the median of their
//! differences as that frame's estimate, the least of all estimates so far as the floor (a camera's noise does not
//! change within seconds, while motion only adds), and 1.5 times the floor as the threshold. It is capped,
//! so that a drive in which everything moves is not taken for noise; and a token is compared with what was last *sent*
//! of it, so that slow drift adds up and is sent once it shows.
//!
//! Measured on 15 dashcam clips (3 fps, 420x252, 6 s each, recompressed for the web): upstream keeps 98 % of the tokens,
//! this rule 86 % (64 to 98 % a clip). A driving camera moves most of its picture, so this is a saving of a seventh, not
//! of a half; what it does to a trained model's answers is not known.

use super::PatchFrame;

/// Upstream's threshold (VideoLLaMA3, arXiv:2501.13106).
const UPSTREAM_THRESHOLD: f64 = 0.1;
/// Tokens of each frame that are always kept (the first ones), as upstream.
const MIN_TOKENS: usize = 1;
/// Threshold over floor. A token's mean over 2,352 values of white noise strays by some 2 % from the floor; 1.5 leaves
/// room for noise that differs between dark and bright places.
const FLOOR_FACTOR: f64 = 1.5;
/// The most that is taken for noise: a mean difference of 2 grey levels, which is noise of 1.8 levels in each frame,
/// much for a picture that was made smaller.
const MAX_FLOOR: f64 = 4.0;

/// Which rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pruning {
    /// Upstream's, exactly.
    #[default]
    Upstream,
    /// The threshold scales with the measured noise.
    NoiseFloor,
}

/// Marks the tokens of one job's frames.
#[derive(Clone, Debug)]
pub struct Pruner {
    rule: Pruning,
    sent: Vec<f32>,
    floor: Option<f64>,
}

impl Pruner {
    /// Before the first frame.
    #[must_use]
    pub fn new(rule: Pruning) -> Self {
        Self { rule, sent: Vec::new(), floor: None }
    }

    /// The measured floor so far, in units of the difference; `None` before the second frame and under upstream's rule.
    #[must_use]
    pub fn floor(&self) -> Option<f64> {
        self.floor
    }

    /// Sets the marks of the next frame. A frame of another size than the one before is kept whole.
    pub fn mark(&mut self, frame: &mut PatchFrame) {
        let tokens = frame.keep.len();
        let values = frame.pixels.len().checked_div(tokens).unwrap_or(0);
        if values == 0 || self.sent.len() != frame.pixels.len() {
            frame.keep.fill(true);
            self.sent.clone_from(&frame.pixels);
            return;
        }
        let pairs = frame.pixels.chunks_exact(values).zip(self.sent.chunks_exact(values));
        let differences: Vec<f64> = pairs.map(|(now, then)| difference(now, then)).collect();
        let threshold = self.threshold(&differences);
        for (keep, difference) in frame.keep.iter_mut().zip(&differences) {
            *keep = *difference > threshold;
        }
        if frame.kept() < MIN_TOKENS {
            frame.keep[..MIN_TOKENS.min(tokens)].fill(true);
        }
        self.remember(frame, values);
    }

    fn threshold(&mut self, differences: &[f64]) -> f64 {
        match self.rule {
            Pruning::Upstream => UPSTREAM_THRESHOLD,
            Pruning::NoiseFloor => {
                let mut sorted = differences.to_vec();
                sorted.sort_unstable_by(f64::total_cmp);
                let still = sorted.len().div_ceil(4);
                let estimate = sorted[still / 2].min(MAX_FLOOR);
                let floor = self.floor.map_or(estimate, |floor| floor.min(estimate));
                self.floor = Some(floor);
                (FLOOR_FACTOR * floor).max(UPSTREAM_THRESHOLD)
            }
        }
    }

    /// What later frames are compared with: upstream the frame itself, else what was sent.
    fn remember(&mut self, frame: &PatchFrame, values: usize) {
        match self.rule {
            Pruning::Upstream => self.sent.clone_from(&frame.pixels),
            Pruning::NoiseFloor => {
                let pairs = frame.pixels.chunks_exact(values).zip(self.sent.chunks_exact_mut(values));
                for ((now, then), keep) in pairs.zip(&frame.keep) {
                    if *keep {
                        then.copy_from_slice(now);
                    }
                }
            }
        }
    }
}

/// Mean of |now - then| times 255. Summed in f64: the reference sums in f32 in an order of its own. With a mean and a
/// deviation of 0.5 and whole grey levels the sums are whole, and none lies within that error of the threshold.
fn difference(now: &[f32], then: &[f32]) -> f64 {
    let sum: f64 = now.iter().zip(then).map(|(now, then)| f64::from((now - then).abs())).sum();
    sum / now.len() as f64 * 255.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: usize = 2352;

    /// Noise of a normal shape (the sum of four even ones), standard deviation 1, by a linear congruence.
    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> f32 {
            let mut even = || {
                self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5
            };
            (even() + even() + even() + even()) * 3f32.sqrt()
        }
    }

    /// A frame of 40 tokens of grey level `levels[token]` plus noise, rounded to bytes as a camera does.
    fn frame(levels: &[f32; 40], sigma: f32, noise: &mut Noise) -> PatchFrame {
        let value = |level: f32| ((level).round().clamp(0.0, 255.0) / 255.0 - 0.5) / 0.5;
        let mut pixels = Vec::new();
        for level in levels {
            pixels.extend((0..VALUES).map(|_| value(level + sigma * noise.next())));
        }
        PatchFrame { rows: 8, cols: 20, pixels, keep: vec![true; 40] }
    }

    #[test]
    fn noise_of_half_a_level_defeats_upstream_and_not_the_floor() {
        for sigma in [0.5, 1.0, 2.0] {
            let mut noise = Noise(7);
            let (mut upstream, mut floor) = (Pruner::new(Pruning::Upstream), Pruner::new(Pruning::NoiseFloor));
            let mut levels = [100.0; 40];
            for i in 0..6 {
                // Tokens 30 to 39 move: four noise deviations a frame.
                levels[30..].iter_mut().for_each(|level| *level += 4.0 * sigma);
                let mut one = frame(&levels, sigma, &mut noise);
                let mut two = one.clone();
                upstream.mark(&mut one);
                floor.mark(&mut two);
                assert_eq!(one.kept(), 40, "upstream keeps all, frame {i}");
                if i > 0 {
                    assert!(two.keep[30..].iter().all(|keep| *keep), "what moves is kept, sigma {sigma}, frame {i}");
                    assert_eq!(two.kept(), 10, "what is still is dropped, sigma {sigma}, frame {i}");
                }
            }
        }
    }

    #[test]
    fn without_noise_both_rules_agree() {
        let (mut upstream, mut floor) = (Pruner::new(Pruning::Upstream), Pruner::new(Pruning::NoiseFloor));
        let mut levels = [100.0; 40];
        for i in 0..4 {
            levels[3] += 1.0;
            let mut one = frame(&levels, 0.0, &mut Noise(1));
            let mut two = one.clone();
            upstream.mark(&mut one);
            floor.mark(&mut two);
            assert_eq!(one.keep, two.keep, "frame {i}");
            assert_eq!(one.kept(), if i == 0 { 40 } else { 1 }, "frame {i}");
        }
    }

    #[test]
    fn slow_drift_adds_up_under_the_floor_rule() {
        let mut noise = Noise(3);
        let mut pruner = Pruner::new(Pruning::NoiseFloor);
        let (mut levels, mut sent) = ([100.0; 40], 0);
        for i in 0..12 {
            // A quarter of a noise deviation a frame: below the threshold against the frame before.
            levels[5] += 0.5;
            let mut now = frame(&levels, 2.0, &mut noise);
            pruner.mark(&mut now);
            sent += usize::from(i > 0 && now.keep[5]);
        }
        assert!((1..=6).contains(&sent), "sent {sent} times");
    }

    #[test]
    fn a_drive_in_which_everything_moves_is_not_taken_for_noise() {
        let mut pruner = Pruner::new(Pruning::NoiseFloor);
        for i in 0..4 {
            let mut now = frame(&[40.0 + 20.0 * i as f32; 40], 0.5, &mut Noise(9));
            pruner.mark(&mut now);
            assert_eq!(now.kept(), 40, "frame {i}");
        }
    }

    #[test]
    fn a_still_frame_keeps_one_token_and_a_new_size_all() {
        let mut pruner = Pruner::new(Pruning::Upstream);
        let mut now = frame(&[9.0; 40], 0.0, &mut Noise(1));
        pruner.mark(&mut now.clone());
        pruner.mark(&mut now);
        assert_eq!(now.kept(), 1);
        assert!(now.keep[0]);
        let mut other = PatchFrame { rows: 2, cols: 2, pixels: vec![0.0; VALUES], keep: vec![false] };
        pruner.mark(&mut other);
        assert_eq!(other.kept(), 1);
    }
}
