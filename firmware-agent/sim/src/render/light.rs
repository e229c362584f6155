//! The light of one frame: sun, sky, haze, street lamps and the ego vehicle's headlights, already times the
//! exposure, and what a flat face sends to the camera.
//!
//! Terms: colours are linear light, 1 for a white sheet in plain daylight at exposure 1. *Albedo* is the share of
//! light a face sends back. *Indoor* is 1 in a tunnel.
//!
//! What it never does: trace shadows between things; shadows fall on the ground only.

use super::vec3::{V3, add, decay, dot, lin, mix, normal, scale, sin_cos, step, sub, times};
use super::view::View;
use crate::world::state::{Body, Weather};

/// What a face is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    /// Linear albedo.
    pub(crate) albedo: V3,
    /// Light of its own, as a multiple of the albedo.
    pub(crate) emit: f32,
    /// Share of the sky it mirrors.
    pub(crate) gloss: f32,
}

impl Paint {
    pub(crate) const fn matt(c: [u8; 3]) -> Self {
        Self { albedo: lin(c), emit: 0.0, gloss: 0.0 }
    }

    pub(crate) const fn glossy(c: [u8; 3], gloss: f32) -> Self {
        Self { albedo: lin(c), emit: 0.0, gloss }
    }

    pub(crate) const fn shining(c: [u8; 3], emit: f32) -> Self {
        Self { albedo: lin(c), emit, gloss: 0.0 }
    }

    /// The same made darker or brighter.
    pub(crate) fn times(self, k: f32) -> Self {
        Self { albedo: scale(self.albedo, k), ..self }
    }
}

/// The light of one frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Light {
    /// Towards the sun, in world and in camera axes.
    pub(crate) sun_world: V3,
    pub(crate) sun_at: V3,
    pub(crate) sun: V3,
    /// From above, from below.
    pub(crate) sky: V3,
    pub(crate) bounce: V3,
    pub(crate) zenith: V3,
    pub(crate) horizon: V3,
    /// Colour of haze and fog; per metre.
    pub(crate) fog: V3,
    pub(crate) density: f32,
    /// Exposure; strength of lamps (0 by day).
    pub(crate) gain: f32,
    pub(crate) dark: f32,
    /// Light of street lamps where the thing drawn now stands.
    pub(crate) lamp: V3,
    pub(crate) indoor: f32,
    beam: f32,
    beam_at: V3,
    beam_ahead: V3,
    beam_left: V3,
    up: V3,
    eye_height: f32,
}

/// Where light comes from at a time of day, before exposure.
struct Day {
    sun: V3,
    sky: V3,
    zenith: V3,
    horizon: V3,
    dark: f32,
}

fn day(weather: &Weather) -> Day {
    let elevation = weather.sun_elevation_deg as f32;
    let (cloud, fog) = (weather.cloud.clamp(0.0, 1.0), weather.fog.clamp(0.0, 1.0));
    if weather.night {
        let glow = [0.0075, 0.0085, 0.012];
        let (zenith, horizon) = ([0.0012, 0.0016, 0.0032], [0.012, 0.011, 0.012]);
        return Day { sun: [0.0; 3], sky: glow, zenith, horizon, dark: 1.0 };
    }
    let high = step(-4.0, 25.0, elevation);
    let veil = 1.0 - (1.0 - 0.9 * cloud) * (1.0 - 0.95 * fog) * (1.0 - 0.5 * weather.rain.clamp(0.0, 1.0));
    let warm = mix([1.0, 0.62, 0.34], [1.0, 0.96, 0.88], high);
    let sun = scale(warm, 1.45 * step(-3.0, 8.0, elevation) * (1.0 - veil));
    let level = 0.12 + 0.88 * high;
    let (clear_zenith, clear_horizon) = ([0.13, 0.27, 0.56], mix([0.85, 0.60, 0.45], [0.56, 0.68, 0.80], high));
    let grey = 1.0 - 0.35 * weather.rain.clamp(0.0, 1.0);
    let (grey_zenith, grey_horizon) = (scale([0.42, 0.45, 0.49], grey), scale([0.58, 0.61, 0.64], grey));
    let zenith = scale(mix(clear_zenith, grey_zenith, veil), level);
    let horizon = scale(mix(clear_horizon, grey_horizon, veil), level);
    let sky = scale(mix([0.40, 0.46, 0.56], [0.72, 0.75, 0.79], veil), level * (0.6 + 0.4 * grey));
    Day { sun, sky, zenith, horizon, dark: 1.0 - step(-6.0, 6.0, elevation) }
}

impl Light {
    pub(crate) fn new(view: &View, weather: &Weather, ego: &Body, gain: f32, indoor: f32) -> Self {
        let d = day(weather);
        let radians =
            |deg: f64| if deg.is_finite() { deg.clamp(-3600.0, 3600.0) * crate::maths::PI / 180.0 } else { 0.5 };
        let (se, ce) = sin_cos(radians(weather.sun_elevation_deg));
        let (sa, ca) = sin_cos(radians(weather.sun_azimuth_deg));
        let sun_world = [ce * ca, ce * sa, se];
        let fogginess = weather.fog.clamp(0.0, 1.0);
        let rain = weather.rain.clamp(0.0, 1.0);
        let density = 0.000_7 + 0.075 * fogginess * fogginess + 0.006 * rain;
        let fog = mix(d.horizon, scale(add(d.horizon, d.zenith), 0.5), 0.3);
        let (sh, ch) = sin_cos(if ego.heading.is_finite() { ego.heading.clamp(-1e6, 1e6) } else { 0.0 });
        let beam_ahead = view.turn([ch, sh, 0.0]);
        let beam_left = view.turn([-sh, ch, 0.0]);
        let drop = sub(scale(beam_ahead, 1.2), scale(view.up, 0.7));
        let dark = d.dark.max(indoor);
        Self {
            sun_world,
            sun_at: view.turn(sun_world),
            sun: scale(d.sun, gain),
            sky: scale(d.sky, gain),
            bounce: scale(times(add(scale(d.sky, 0.45), scale(d.sun, 0.16)), [1.0, 0.96, 0.90]), gain),
            zenith: scale(d.zenith, gain),
            horizon: scale(d.horizon, gain),
            fog: scale(fog, gain),
            density,
            gain,
            dark,
            lamp: [0.0; 3],
            indoor: 0.0,
            beam: gain * if weather.night { 0.85 } else { 0.25 * dark },
            beam_at: drop,
            beam_ahead,
            beam_left,
            up: view.up,
            eye_height: view.eye[2] as f32,
        }
    }

    /// Share of a thing's own light that comes through the haze.
    pub(crate) fn clear(&self, distance: f32) -> f32 {
        decay(distance * self.density)
    }

    /// The same light with the headlights out.
    pub(crate) fn without_beam(self) -> Self {
        Self { beam: 0.0, ..self }
    }

    /// The ego vehicle's dipped beam at a place in camera axes, before incidence; asymmetric cut-off left out.
    pub(crate) fn beam(&self, p: V3) -> f32 {
        if self.beam <= 0.0 {
            return 0.0;
        }
        let d = sub(p, self.beam_at);
        let (ahead, left) = (dot(d, self.beam_ahead), dot(d, self.beam_left));
        if !(0.3..110.0).contains(&ahead) {
            return 0.0;
        }
        let side = left / (1.5 + 0.2 * ahead);
        let side = side * side;
        let height = dot(self.up, p) + self.eye_height;
        let cut = 1.0 - 0.86 * step(0.5, 1.3 + 0.012 * ahead, height);
        let far = ahead * (1.0 / 24.0);
        self.beam * cut / ((1.0 + side * side) * (1.0 + far * far)) * (1.0 - step(45.0, 110.0, ahead))
    }

    /// The dipped beam on the ground at a distance ahead and aside of the lamps, metres.
    pub(crate) fn beam_on_ground(&self, p: V3) -> f32 {
        let ahead = (dot(sub(p, self.beam_at), self.beam_ahead)).max(0.0);
        self.beam(p) * step(1.5, 7.0, ahead) / (1.0 + ahead * 0.055)
    }

    /// What a face with normal `n` at `p` (camera axes) sends to the camera, haze included.
    pub(crate) fn face(&self, n: V3, p: V3, paint: &Paint) -> V3 {
        let distance = (dot(p, p)).sqrt();
        let outdoor = 1.0 - self.indoor;
        let facing = dot(n, self.sun_at).max(0.0) * outdoor;
        let rise = dot(n, self.up);
        let mut e = scale(mix(self.bounce, self.sky, 0.5 + 0.5 * rise), 1.0 - 0.93 * self.indoor);
        e = add(e, scale(self.sun, facing));
        e = add(e, scale(self.lamp, 0.55 + 0.45 * rise));
        let towards = -dot(n, p) / distance.max(1e-3);
        let beam = self.beam(p) * (0.25 + 0.75 * towards.max(0.0));
        e = add(e, [beam, beam * 0.97, beam * 0.86]);
        let mut c = times(paint.albedo, e);
        if paint.emit > 0.0 {
            c = add(c, scale(paint.albedo, paint.emit * self.gain));
        }
        if paint.gloss > 0.0 {
            let graze = 1.0 - towards.clamp(0.0, 1.0);
            let mirror = paint.gloss * (0.25 + 0.75 * graze * graze) * (0.35 + 0.65 * (0.5 + 0.5 * rise));
            let mirror = mirror * (1.0 - 0.9 * self.indoor);
            c = add(c, scale(self.horizon, mirror));
            let half = normal(sub(self.sun_at, scale(p, 1.0 / distance.max(1e-3))));
            let shine = dot(n, half).max(0.0);
            let shine = shine * shine * shine * shine;
            let shine = shine * shine * shine * shine;
            c = add(c, scale(self.sun, shine * paint.gloss * outdoor));
        }
        self.through_air(c, distance)
    }

    /// A colour after `distance` metres of haze.
    pub(crate) fn through_air(&self, c: V3, distance: f32) -> V3 {
        mix(self.fog, c, self.clear(distance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::state::CameraPose;

    fn light(weather: Weather) -> Light {
        let pose = CameraPose { z: 1.3, ..CameraPose::default() };
        Light::new(&View::new(&pose, 400.0, 600, 400), &weather, &Body::default(), 1.0, 0.0)
    }

    #[test]
    fn faces_towards_the_sun_are_brighter_and_distance_fades_into_fog() {
        let noon = light(Weather { sun_elevation_deg: 50.0, sun_azimuth_deg: 180.0, ..Weather::default() });
        let grey = Paint::matt([128; 3]);
        let p = [0.0, 0.0, 10.0];
        let towards = noon.face([0.0, 0.0, -1.0], p, &grey);
        let away = noon.face([1.0, 0.0, 0.0], p, &grey);
        assert!(towards[0] > 1.3 * away[0], "{towards:?} {away:?}");
        let fog = light(Weather { fog: 1.0, ..Weather { sun_elevation_deg: 50.0, ..Weather::default() } });
        let black = fog.face([0.0, 0.0, -1.0], [0.0, 0.0, 80.0], &Paint::matt([0; 3]));
        assert!((black[1] - fog.fog[1]).abs() < 0.02, "{black:?} {:?}", fog.fog);
    }

    #[test]
    fn the_dipped_beam_lights_the_lane_and_not_the_sky() {
        let night = light(Weather { night: true, ..Weather::default() });
        let low = night.beam([0.0, 0.9, 15.0]);
        assert!(low > 5.0 * night.beam([0.0, -3.0, 15.0]), "{low}");
        assert!(low > 5.0 * night.beam([14.0, 0.9, 15.0]));
        assert_eq!(night.beam([0.0, 0.9, -5.0]), 0.0);
        assert_eq!(light(Weather { sun_elevation_deg: 50.0, ..Weather::default() }).beam([0.0, 0.9, 15.0]), 0.0);
    }
}
