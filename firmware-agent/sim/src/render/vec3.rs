//! Small vectors of single precision and colours of linear light. Only exactly rounded operations.
//!
//! What it never does: call a system's mathematical library; results are equal on every machine.

/// Three numbers: a place, a direction or linear red, green, blue (1: a white sheet in plain daylight).
pub(crate) type V3 = [f32; 3];

pub(crate) fn dot(a: V3, b: V3) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(crate) fn cross(a: V3, b: V3) -> V3 {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

pub(crate) fn add(a: V3, b: V3) -> V3 {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

pub(crate) fn sub(a: V3, b: V3) -> V3 {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

pub(crate) fn scale(a: V3, k: f32) -> V3 {
    [a[0] * k, a[1] * k, a[2] * k]
}

pub(crate) fn times(a: V3, b: V3) -> V3 {
    [a[0] * b[0], a[1] * b[1], a[2] * b[2]]
}

pub(crate) fn mix(a: V3, b: V3, t: f32) -> V3 {
    [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t]
}

pub(crate) fn length(a: V3) -> f32 {
    dot(a, a).sqrt()
}

/// Of length 1, or null where there is no direction.
pub(crate) fn normal(a: V3) -> V3 {
    let l = length(a);
    if l > 1e-20 { scale(a, 1.0 / l) } else { [0.0; 3] }
}

/// A screen colour as linear light (gamma 2).
pub(crate) const fn lin(c: [u8; 3]) -> V3 {
    let (r, g, b) = (c[0] as f32 / 255.0, c[1] as f32 / 255.0, c[2] as f32 / 255.0);
    [r * r, g * g, b * b]
}

/// e to the power -x for x >= 0, within 0.5 % up to x = 2 and always between 0 and 1: (1 - x/64)^64 by squaring.
pub(crate) fn decay(x: f32) -> f32 {
    let mut y = (1.0 - x * (1.0 / 256.0)).clamp(0.0, 1.0);
    for _ in 0..8 {
        y *= y;
    }
    y
}

/// The whole number below. Without the processor's own instruction the library's `floor` is a call.
#[inline]
pub(crate) fn floor(x: f32) -> f32 {
    let t = x as i32 as f32;
    if t > x { t - 1.0 } else { t }
}

/// Sine and cosine of an angle, radians.
pub(crate) fn sin_cos(angle: f64) -> (f32, f32) {
    (crate::maths::sin(angle) as f32, crate::maths::cos(angle) as f32)
}

/// 0 below `low`, 1 above `high`, smooth between.
pub(crate) fn step(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floor_is_the_library_s() {
        for x in [-2.5f32, -2.0, -0.1, 0.0, 0.9, 7.0, 1e6] {
            assert_eq!(floor(x), x.floor(), "{x}");
        }
    }

    #[test]
    fn decay_follows_the_exponential() {
        for i in 0..400 {
            let x = i as f32 * 0.01;
            assert!((decay(x) - (-x).exp()).abs() < 0.01, "{x}");
        }
        assert_eq!(decay(1e9), 0.0);
        assert_eq!(decay(0.0), 1.0);
    }
}
