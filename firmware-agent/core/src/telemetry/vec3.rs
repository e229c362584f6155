//! Three-vectors and unit quaternions in f64, as small as the telemetry trigger needs them. Never fails: a vector
//! too short to have a direction yields `None` from [`unit`], and quaternions are kept at unit length.

/// A vector; which axes and unit, its owner says.
pub(super) type V3 = [f64; 3];
/// A rotation, `w x y z`.
pub(super) type Quat = [f64; 4];

pub(super) const IDENTITY: Quat = [1.0, 0.0, 0.0, 0.0];
pub(super) const UP: V3 = [0.0, 0.0, 1.0];

pub(super) fn wide(v: [f32; 3]) -> V3 {
    v.map(f64::from)
}

pub(super) fn narrow(v: V3) -> [f32; 3] {
    v.map(|x| x as f32)
}

pub(super) fn add(a: V3, b: V3) -> V3 {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

pub(super) fn sub(a: V3, b: V3) -> V3 {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

pub(super) fn scale(a: V3, k: f64) -> V3 {
    [a[0] * k, a[1] * k, a[2] * k]
}

pub(super) fn dot(a: V3, b: V3) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(super) fn cross(a: V3, b: V3) -> V3 {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

pub(super) fn norm(a: V3) -> f64 {
    dot(a, a).sqrt()
}

/// `a + k (b - a)`.
pub(super) fn lerp(a: V3, b: V3, k: f64) -> V3 {
    add(a, scale(sub(b, a), k))
}

pub(super) fn unit(a: V3) -> Option<V3> {
    let n = norm(a);
    (n > 1e-9).then(|| scale(a, 1.0 / n))
}

/// `a` without its part along the unit vector `axis`.
pub(super) fn reject(a: V3, axis: V3) -> V3 {
    sub(a, scale(axis, dot(a, axis)))
}

/// `a`, shortened to at most `limit`.
pub(super) fn clamp_len(a: V3, limit: f64) -> V3 {
    let n = norm(a);
    if n > limit { scale(a, limit / n) } else { a }
}

/// Angle between two vectors, rad; 0 if one has no direction.
pub(super) fn angle(a: V3, b: V3) -> f64 {
    norm(cross(a, b)).atan2(dot(a, b))
}

pub(super) fn mul(a: Quat, b: Quat) -> Quat {
    [
        a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
        a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
        a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
        a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
    ]
}

pub(super) fn conj(q: Quat) -> Quat {
    [q[0], -q[1], -q[2], -q[3]]
}

pub(super) fn normalise(q: Quat) -> Quat {
    let n = q.iter().map(|x| x * x).sum::<f64>().sqrt();
    if n > 1e-9 { q.map(|x| x / n) } else { IDENTITY }
}

/// The rotation by the vector `r` (axis times angle, rad).
pub(super) fn exp(r: V3) -> Quat {
    let half = norm(r) * 0.5;
    // sin(half) / angle, with its limit near zero.
    let k = if half < 1e-6 { 0.5 } else { half.sin() / (2.0 * half) };
    [half.cos(), r[0] * k, r[1] * k, r[2] * k]
}

pub(super) fn rotate(q: Quat, v: V3) -> V3 {
    let u = [q[1], q[2], q[3]];
    let t = scale(cross(u, v), 2.0);
    add(add(v, scale(t, q[0])), cross(u, t))
}

/// The shortest rotation that takes the direction `from` to `to`.
pub(super) fn between(from: V3, to: V3) -> Quat {
    let (Some(a), Some(b)) = (unit(from), unit(to)) else { return IDENTITY };
    let d = dot(a, b);
    if d < -0.999_999 {
        let other = if a[0].abs() < 0.8 { [1.0, 0.0, 0.0] } else { [0.0, 1.0, 0.0] };
        let axis = unit(cross(a, other)).unwrap_or(UP);
        return [0.0, axis[0], axis[1], axis[2]];
    }
    let c = cross(a, b);
    normalise([1.0 + d, c[0], c[1], c[2]])
}

/// Angle of the rotation between two orientations, rad, 0 to pi.
pub(super) fn turn(a: Quat, b: Quat) -> f64 {
    let d = mul(conj(a), b);
    2.0 * norm([d[1], d[2], d[3]]).atan2(d[0].abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortest_rotation_takes_one_direction_to_the_other() {
        for (a, b) in [([1.0, 2.0, 3.0], [-2.0, 0.5, 1.0]), ([0.0, 0.0, -4.0], UP), ([3.0, 0.0, 0.0], [-1.0, 0.0, 0.0])]
        {
            let got = rotate(between(a, b), a);
            assert!(angle(got, b) < 1e-6, "{a:?} to {b:?} gave {got:?}");
        }
    }

    #[test]
    fn a_turn_is_measured_whatever_its_axis() {
        let q = exp([0.3, -0.4, 1.2]);
        assert!((turn(IDENTITY, q) - 1.3).abs() < 1e-9);
        assert!(turn(q, q) < 1e-9);
    }
}
