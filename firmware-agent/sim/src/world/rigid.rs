//! A vehicle on its tyres as a rigid body in the plane: a single-track model that holds from standstill to a spin.
//!
//! Each axle has one tyre. Its sideways force follows the tangent of the slip angle, `mu N x / sqrt(1 + x^2)` with
//! `x = C tan(slip) / (mu N)`: the slope at 0 is the cornering stiffness, the limit the friction, and no angle is
//! needed, so it also holds when the body slides backwards. Braking and driving share the friction circle. Axle loads
//! follow the acceleration. What lies on its side, or walks, slides with one friction on all its body.
//!
//! Figures: cornering stiffness of 12 times the load per radian and a brake balance after the load are usual for
//! passenger cars; they are textbook values, not those of a make.

use super::geometry::{cross, dot};
use super::state::{Body, Point2};
use crate::maths::{cos, sin};

/// Gravity, m/s^2.
pub(crate) const G: f64 = 9.806_65;
/// Cornering stiffness over load, 1/rad.
const STIFFNESS: f64 = 12.0;
/// Below this speed the slip of a tyre is no longer a matter of angles, m/s.
const CREEP_MPS: f64 = 1.0;

/// What the driver asks of the vehicle.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Control {
    /// Along the vehicle, m/s^2: negative brakes.
    pub(crate) accel: f64,
    /// Of the front wheels, radians, left positive.
    pub(crate) steer: f64,
}

/// A force on the body from outside, newton and newton metre, world axes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Push {
    pub(crate) force: Point2,
    pub(crate) moment: f64,
}

/// The body.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rigid {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) heading: f64,
    /// World axes, m/s.
    pub(crate) v: Point2,
    pub(crate) yaw_rate: f64,
    pub(crate) mass: f64,
    pub(crate) inertia: f64,
    pub(crate) wheelbase: f64,
    /// Height of the centre of gravity, m.
    pub(crate) height: f64,
    /// Friction of the tyres on this road.
    pub(crate) mu: f64,
    /// No wheels roll: it slides.
    pub(crate) slides: bool,
    /// Mean over the last step in the body's axes (forward, left), m/s^2.
    pub(crate) accel: Point2,
}

impl Rigid {
    /// A body of a mass and size that moves along its heading.
    pub(crate) fn new(body: &Body, mass: f64, size: [f64; 2], mu: f64) -> Self {
        let [length, width] = size;
        Self {
            x: body.x,
            y: body.y,
            heading: body.heading,
            v: [body.speed * cos(body.heading), body.speed * sin(body.heading)],
            yaw_rate: body.yaw_rate,
            mass,
            inertia: mass * (length * length + width * width) / 12.0,
            wheelbase: length * 0.6,
            height: 0.55,
            mu,
            slides: false,
            accel: [0.0; 2],
        }
    }

    /// Forward speed, m/s.
    pub(crate) fn speed(&self) -> f64 {
        dot(self.v, [cos(self.heading), sin(self.heading)])
    }

    /// Velocity of a point of the body, world axes.
    pub(crate) fn velocity_at(&self, point: Point2) -> Point2 {
        let r = [point[0] - self.x, point[1] - self.y];
        [self.v[0] - self.yaw_rate * r[1], self.v[1] + self.yaw_rate * r[0]]
    }

    /// Moves on by `dt` seconds.
    pub(crate) fn advance(&mut self, dt: f64, control: Control, push: Push) {
        let forward = [cos(self.heading), sin(self.heading)];
        let left = [-forward[1], forward[0]];
        let tyres = if self.slides { self.sliding() } else { self.rolling(control, forward) };
        let force = [tyres.force[0] + push.force[0], tyres.force[1] + push.force[1]];
        let a = [force[0] / self.mass, force[1] / self.mass];
        self.accel = [dot(a, forward), dot(a, left)];
        let before = self.v;
        self.v = [self.v[0] + a[0] * dt, self.v[1] + a[1] * dt];
        self.yaw_rate += (tyres.moment + push.moment) / self.inertia * dt;
        self.x += (before[0] + self.v[0]) / 2.0 * dt;
        self.y += (before[1] + self.v[1]) / 2.0 * dt;
        self.heading += self.yaw_rate * dt;
    }

    fn sliding(&self) -> Push {
        let speed = dot(self.v, self.v).sqrt();
        let force = self.mu * self.mass * G / speed.max(0.2);
        let spin = self.mu * self.mass * G * self.wheelbase * 0.4;
        Push {
            force: [-force * self.v[0], -force * self.v[1]],
            moment: -spin * self.yaw_rate / (self.yaw_rate * self.yaw_rate + 0.25).sqrt(),
        }
    }

    fn rolling(&self, control: Control, forward: Point2) -> Push {
        let half = self.wheelbase / 2.0;
        let shift = (self.mass * self.accel[0].clamp(-12.0, 12.0) * self.height / self.wheelbase)
            .clamp(-0.4 * self.mass * G, 0.4 * self.mass * G);
        let steered = {
            let (s, c) = (sin(control.steer), cos(control.steer));
            [c * forward[0] - s * forward[1], s * forward[0] + c * forward[1]]
        };
        let mut sum = Push::default();
        for (arm, load, axis) in
            [(half, self.mass * G / 2.0 - shift, steered), (-half, self.mass * G / 2.0 + shift, forward)]
        {
            let r = [forward[0] * arm, forward[1] * arm];
            let v = [self.v[0] - self.yaw_rate * r[1], self.v[1] + self.yaw_rate * r[0]];
            let side = [-axis[1], axis[0]];
            let (along, across) = (dot(v, axis), dot(v, side));
            let grip = self.mu * load;
            let slip = STIFFNESS / self.mu * across / along.abs().max(CREEP_MPS);
            let mut fy = -grip * slip / (1.0 + slip * slip).sqrt();
            // Each axle takes its share by load, as brakes are laid out; so it is with the engine, for simplicity.
            let asked = control.accel * load / G;
            let mut fx = if control.accel < 0.0 { asked * along / (along * along + 0.04).sqrt() } else { asked };
            let total = (fx * fx + fy * fy).sqrt();
            if total > grip {
                fx *= grip / total;
                fy *= grip / total;
            }
            let force = [axis[0] * fx + side[0] * fy, axis[1] * fx + side[1] * fy];
            sum.force = [sum.force[0] + force[0], sum.force[1] + force[1]];
            sum.moment += cross(r, force);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn car(speed: f64, mu: f64) -> Rigid {
        Rigid::new(&Body { speed, ..Body::default() }, 1500.0, [4.5, 1.8], mu)
    }

    fn run(car: &mut Rigid, seconds: f64, control: Control) -> f64 {
        let mut peak = 0.0f64;
        for _ in 0..(seconds * 1000.0) as usize {
            car.advance(1e-3, control, Push::default());
            peak = peak.max((car.accel[0] * car.accel[0] + car.accel[1] * car.accel[1]).sqrt());
        }
        peak
    }

    #[test]
    fn braking_is_limited_by_friction_and_ends_at_rest() {
        for (mu, asked, got) in [(0.9, 6.0, 6.0), (0.9, 12.0, 0.9 * G), (0.35, 8.0, 0.35 * G)] {
            let mut car = car(20.0, mu);
            run(&mut car, 1.0, Control { accel: -asked, steer: 0.0 });
            assert!((20.0 - car.speed() - got).abs() < 0.1, "mu {mu}: {}", 20.0 - car.speed());
            run(&mut car, 8.0, Control { accel: -asked, steer: 0.0 });
            assert!(car.speed().abs() < 0.02, "{}", car.speed());
        }
    }

    #[test]
    fn a_gentle_turn_has_the_radius_of_the_wheels_and_a_hard_one_that_of_the_tyres() {
        let mut gentle = car(10.0, 0.9);
        run(&mut gentle, 3.0, Control { accel: 0.0, steer: 0.05 });
        // v / r over the wheelbase: kinematic radius within a few percent.
        let radius = gentle.speed() / gentle.yaw_rate;
        assert!((radius - 2.7 / 0.05).abs() < 3.0, "{radius}");
        let mut hard = car(25.0, 0.5);
        let peak = run(&mut hard, 2.0, Control { accel: 0.0, steer: 0.3 });
        assert!(peak < 0.5 * G * 1.01, "{peak}");
    }

    #[test]
    fn a_spun_body_comes_to_rest() {
        let mut car = car(15.0, 0.8);
        car.yaw_rate = 4.0;
        let peak = run(&mut car, 8.0, Control { accel: -6.0, steer: 0.0 });
        assert!(peak < 0.8 * G * 1.01, "{peak}");
        assert!(dot(car.v, car.v).sqrt() < 0.05 && car.yaw_rate.abs() < 0.05, "{:?} {}", car.v, car.yaw_rate);
    }
}
