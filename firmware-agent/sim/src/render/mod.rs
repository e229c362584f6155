//! The camera of the simulated world: a software renderer of road scenes.
//!
//! The way of a picture: the ground's plan is painted flat, things of flat faces are drawn by depth, sky and ground are
//! lit pixel by pixel where nothing stands, wet roads mirror, lamps and the sun spill their light; then the inner
//! image goes through the lens into the picture, and what is between lens and road is laid over it.
//!
//! Same states in the same order give the same bytes on every machine: all arithmetic is exactly rounded, and sine and
//! cosine are our own. A picture depends on those before it only by the automatic exposure.
//!
//! What it never does: allocate anything the size of a frame after [`Camera::new`], read a clock, or claim to be real
//! (pictures carry the word SYNTHETIC unless the caller switches it off).

mod boxes;
mod car;
mod frame;
mod glow;
mod ground;
mod heavy;
mod houses;
mod light;
pub mod limits;
mod mesh;
mod noise;
mod overlay;
mod people;
mod post;
mod roads;
mod scene;
mod sky;
mod street;
#[cfg(test)]
mod tests;
mod things;
mod trees;
mod tunnel;
mod vec3;
mod view;

pub use boxes::BoxTruth;

use crate::world::state::SceneState;
use boxes::Drawn;
use frame::Frame;
use limits::{ACTORS, GLOWS, SIDE_MAX, SIDE_MIN};
use mesh::Glow;
use overlay::{Overlay, Picture};
use post::{Exposure, Lens, Post, mean_light};

/// Mean linear light that the automatic exposure works towards.
const MIDDLE: f32 = 0.30;

/// What belongs to the camera and its mount, not to the scene.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CameraLook {
    /// Colour of the bonnet.
    pub bonnet: [u8; 3],
    /// Share of the picture's height that the bonnet covers in the middle; 0: not in view.
    pub bonnet_height: f32,
    /// Strength of the windscreen's reflections, 0 to 1.
    pub reflection: f32,
    /// Deviation of the sensor's noise by day, steps of 255; it grows as light fades.
    pub noise: f32,
    /// Exposure time by day, seconds (by night four times that).
    pub exposure_s: f32,
    /// Pixels of the inner image per pixel of the picture along each side, 1 to 2: more is smoother and slower.
    pub detail: f32,
    /// Writes SYNTHETIC into the upper left corner.
    pub caption: bool,
}

impl Default for CameraLook {
    fn default() -> Self {
        Self {
            bonnet: [60, 64, 70],
            bonnet_height: 0.09,
            reflection: 0.35,
            noise: 2.0,
            exposure_s: 0.008,
            detail: 1.25,
            caption: true,
        }
    }
}

/// Renders pictures of a scene.
pub struct Camera {
    width: usize,
    height: usize,
    look: CameraLook,
    frame: Frame,
    stage: scene::Stage,
    post: Post,
    overlay: Overlay,
    glows: Vec<Glow>,
    drawn: Vec<Drawn>,
    gain: f32,
    /// Time of the last picture; `None` before the first.
    last_t_s: Option<f64>,
    /// Time of what the boxes are of: the last picture or outline.
    traced_t_s: Option<f64>,
}

impl Camera {
    /// A camera with pictures of `width` by `height` pixels (brought within [`limits::SIDE_MIN`] and
    /// [`limits::SIDE_MAX`]); all its memory is taken here.
    #[must_use]
    pub fn new(width: usize, height: usize, look: CameraLook) -> Self {
        let (width, height) = (width.clamp(SIDE_MIN, SIDE_MAX), height.clamp(SIDE_MIN, SIDE_MAX));
        let detail = if look.detail.is_finite() { look.detail.clamp(1.0, 2.0) } else { 1.0 };
        let larger = |n: usize| (n as f32 * detail + 0.5) as usize;
        let inner = (larger(width), larger(height));
        Self {
            width,
            height,
            look,
            frame: Frame::new(inner.0, inner.1),
            stage: scene::Stage::new(inner.0, inner.1),
            post: Post::new(width, height, inner),
            overlay: Overlay::new(width, height, look),
            glows: Vec::with_capacity(GLOWS),
            drawn: Vec::with_capacity(ACTORS),
            gain: 1.0,
            last_t_s: None,
            traced_t_s: None,
        }
    }

    /// Width and height of the pictures, pixels.
    #[must_use]
    pub const fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Bytes of a picture: 3 width height.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.width * self.height * 3
    }

    /// Renders a scene into `rgb`: rows from the top, red, green, blue, 8 bits each. A shorter buffer gets the rows
    /// that fit. States must come in order of time; a step back or of more than a second starts the exposure afresh.
    pub fn render(&mut self, state: &SceneState<'_>, rgb: &mut [u8]) {
        self.post.set_lens(Lens::new(state.camera.focal_px_at_width_1, state.camera.k1));
        let since = self.last_t_s.map(|last| state.t_s - last).filter(|dt| (0.0..=1.0).contains(dt));
        if since.is_none() {
            // The first picture is metered on itself.
            self.gain = 1.0;
            self.paint(state);
            self.gain = wanted_gain(mean_light(&self.frame), self.gain);
        }
        let veil = self.paint(state);
        let (light, indoor) = (self.stage.ambient(), self.stage.dark());
        let seed = (state.seed ^ (state.seed >> 32)) as u32;
        let exposure_s = self.look.exposure_s.clamp(0.0, 0.05) * (1.0 + 3.0 * indoor);
        let smear = |rate: f64| {
            let pixels = rate as f32 * exposure_s * self.post.focal;
            if pixels.is_finite() { pixels.clamp(-48.0, 48.0) } else { 0.0 }
        };
        let frame_salt = if state.t_s.is_finite() { (state.t_s * 1000.0) as i64 as u32 } else { 0 };
        let exposure = Exposure {
            smear: [smear(state.camera.yaw_rate), smear(-state.camera.pitch_rate)],
            veil: veil + 0.004,
            noise: self.look.noise.clamp(0.0, 30.0) * (1.0 + 1.6 * indoor),
            seed: noise::hash(seed ^ noise::hash(frame_salt)),
        };
        self.post.develop(&self.frame, &exposure, rgb);
        let mut picture =
            Picture { rgb, tags: &mut self.post.tags, width: self.width, height: self.height, ambient: light };
        self.overlay.draw(&mut picture, state, seed);
        let wanted = wanted_gain(mean_light(&self.frame), self.gain);
        let pace = since.map_or(0.0, |dt| (dt as f32 * 2.5).min(1.0));
        self.gain += (wanted - self.gain) * pace;
        self.last_t_s = Some(state.t_s);
        self.traced_t_s = self.last_t_s;
    }

    /// Finds what [`Camera::boxes`] gives, the same as of a picture of `state`, without painting one.
    pub fn outline(&mut self, state: &SceneState<'_>) {
        self.post.set_lens(Lens::new(state.camera.focal_px_at_width_1, state.camera.k1));
        self.stage.outline(&mut self.frame, &mut self.glows, &mut self.drawn, state, self.post.focal);
        self.post.trace(&self.frame);
        let (width, height) = (self.width, self.height);
        let tags = &mut self.post.tags;
        self.overlay.hide(&mut Picture { rgb: &mut [], tags, width, height, ambient: 0.0 }, state);
        self.traced_t_s = Some(state.t_s);
    }

    /// Boxes of the actors seen in the last picture or outline, near ones first. `state` must be that one's; for another
    /// time there is no truth and `out` is left empty.
    pub fn boxes(&self, state: &SceneState<'_>, out: &mut Vec<BoxTruth>) {
        out.clear();
        if self.traced_t_s == Some(state.t_s) {
            boxes::find(&self.frame, &self.post.tags, (self.width, self.height), &self.drawn, out);
        }
    }

    fn paint(&mut self, state: &SceneState<'_>) -> f32 {
        self.stage.paint(&mut self.frame, &mut self.glows, &mut self.drawn, state, (self.post.focal, self.gain))
    }
}

/// Exposure for a scene whose mean light was `mean` at `gain`: it makes up for half of a change (in stops), as the
/// eye and cameras leave night dark, within limits.
fn wanted_gain(mean: f32, gain: f32) -> f32 {
    let scene = mean / gain.max(1e-3);
    (MIDDLE / scene.max(1e-4)).sqrt().clamp(0.45, 2.0)
}
