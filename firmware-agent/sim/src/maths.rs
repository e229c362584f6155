//! Sine, cosine and 3-vectors from exactly rounded operations only, so that results are equal on every machine
//! (a system's libm may differ in the last bit, and a drive's bytes would differ with it).

/// Half a turn.
pub const PI: f64 = core::f64::consts::PI;

/// Sine of `x` radians; absolute error below 1e-11 for |x| below 1e6.
#[must_use]
pub fn sin(x: f64) -> f64 {
    let turns = (x / (2.0 * PI)).round();
    let mut r = x - turns * (2.0 * PI);
    if r > PI / 2.0 {
        r = PI - r;
    } else if r < -PI / 2.0 {
        r = -PI - r;
    }
    let q = r * r;
    // Taylor series by Horner's rule: the first term left out is r^17/17!, below 1e-11 on this range.
    let mut sum = 1.0;
    for n in [15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0] {
        sum = 1.0 - q / (n * (n - 1.0)) * sum;
    }
    r * sum
}

/// Cosine of `x` radians; as exact as [`sin`].
#[must_use]
pub fn cos(x: f64) -> f64 {
    sin(x + PI / 2.0)
}

/// Angle of the vector (`x`, `y`) from the x axis, -pi to pi; absolute error below 1e-12. 0 for the zero vector.
#[must_use]
pub fn atan2(y: f64, x: f64) -> f64 {
    let (ax, ay) = (x.abs(), y.abs());
    let (low, high) = (ax.min(ay), ax.max(ay));
    if high <= 0.0 {
        return 0.0;
    }
    // Halved twice: tan(pi / 16) at most, where the series converges fast.
    let half = |t: f64| t / (1.0 + (1.0 + t * t).sqrt());
    let t = half(half(low / high));
    let q = t * t;
    let mut sum = 0.0;
    for n in [19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        sum = 1.0 / n - q * sum;
    }
    let mut angle = 4.0 * t * sum;
    if ay > ax {
        angle = PI / 2.0 - angle;
    }
    if x < 0.0 {
        angle = PI - angle;
    }
    if y < 0.0 { -angle } else { angle }
}

/// A 3 by 3 matrix, rows first.
pub type Mat3 = [[f64; 3]; 3];

/// Matrix times vector.
#[must_use]
pub fn mul(m: &Mat3, v: [f64; 3]) -> [f64; 3] {
    m.map(|row| row[0] * v[0] + row[1] * v[1] + row[2] * v[2])
}

/// The transpose: for a rotation, its inverse.
#[must_use]
pub fn transpose(m: &Mat3) -> Mat3 {
    [[m[0][0], m[1][0], m[2][0]], [m[0][1], m[1][1], m[2][1]], [m[0][2], m[1][2], m[2][2]]]
}

/// Rotation Rz(yaw) Ry(pitch) Rx(roll), radians, right-handed: takes vectors of the turned frame to the fixed one.
#[must_use]
pub fn rotation(yaw: f64, pitch: f64, roll: f64) -> Mat3 {
    let (sy, cy, sp, cp, sr, cr) = (sin(yaw), cos(yaw), sin(pitch), cos(pitch), sin(roll), cos(roll));
    [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sine_and_cosine_follow_the_library() {
        for i in -2000..2000 {
            let x = f64::from(i) * 0.0137;
            assert!((sin(x) - x.sin()).abs() < 1e-10, "sin {x}");
            assert!((cos(x) - x.cos()).abs() < 1e-10, "cos {x}");
        }
    }

    #[test]
    fn the_angle_of_a_vector_follows_the_library() {
        for i in -180..=180 {
            let a = f64::from(i) * PI / 180.0;
            let got = atan2(3.0 * a.sin(), 3.0 * a.cos());
            assert!((got - (3.0 * a.sin()).atan2(3.0 * a.cos())).abs() < 1e-12, "{i}: {got}");
        }
        assert_eq!(atan2(0.0, 0.0), 0.0);
    }

    #[test]
    fn a_rotation_times_its_transpose_is_the_identity() {
        let r = rotation(0.6, -0.3, 0.12);
        let t = transpose(&r);
        for (i, row) in r.iter().enumerate() {
            let product = mul(&r, mul(&t, core::array::from_fn(|j| f64::from(u8::from(i == j)))));
            for (j, value) in product.iter().enumerate() {
                assert!((value - f64::from(u8::from(i == j))).abs() < 1e-10, "{row:?}");
            }
        }
    }
}
