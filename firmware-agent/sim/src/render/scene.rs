//! One pass over a scene: the ground's plan, things, then sky and ground where nothing stands, then lamps.
//!
//! What it never does: keep anything of the scene between pictures but its scratch memory.

use std::sync::LazyLock;

use super::boxes::Drawn;
use super::frame::Frame;
use super::glow;
use super::ground::{self, Ground, Stuff};
use super::houses;
use super::light::Light;
use super::limits::{ACTORS, FAR_M, TAG_ACTOR, TAG_STATIC};
use super::mesh::{Canvas, Glow};
use super::noise::Tile;
use super::roads;
use super::sky::Sky;
use super::street;
use super::things;
use super::trees::{self, Leaves};
use super::tunnel::Tunnel;
use super::vec3::scale;
use super::view::{Linear, View};
use crate::world::state::{Actor, RoadKind, SceneState};

/// Ground with an inverse depth below this is painted as sky, 1/m.
const CUT: f32 = 1.0 / 900.0;

/// Made once for all cameras.
static PLASTER: LazyLock<Tile> = LazyLock::new(|| Tile::new(31, 16, 0.8));
static LEAVES: LazyLock<Leaves> = LazyLock::new(Leaves::new);

/// Where and in what light a frame was begun.
struct Stood {
    view: View,
    tunnel: Option<Tunnel>,
    /// How far inside the tunnel the camera is, 0 to 1.
    indoor: f32,
    light: Light,
    t_s: f32,
}

/// Textures and scratch memory.
pub(crate) struct Stage {
    ground: Ground,
    sky: Sky,
    order: Vec<(f32, u32)>,
    foot: Vec<u16>,
    ambient: f32,
    dark: f32,
}

impl Stage {
    pub(crate) fn new(width: usize, height: usize) -> Self {
        Self {
            ground: Ground::new(width, height),
            sky: Sky::new(width),
            order: Vec::with_capacity(ACTORS),
            foot: vec![0; width],
            ambient: 0.5,
            dark: 0.0,
        }
    }

    /// Light on a grey sheet in the last picture, 0 to 1.
    pub(crate) const fn ambient(&self) -> f32 {
        self.ambient
    }

    /// How dark it was in the last picture, 0 to 1.
    pub(crate) const fn dark(&self) -> f32 {
        self.dark
    }

    /// Paints a scene into the inner image; gives the veil of the sun over the lens.
    pub(crate) fn paint(
        &mut self,
        frame: &mut Frame,
        glows: &mut Vec<Glow>,
        drawn: &mut Vec<Drawn>,
        state: &SceneState<'_>,
        (focal, gain): (f32, f32),
    ) -> f32 {
        let Stood { view, tunnel, indoor, light, t_s } = self.stand(frame, glows, drawn, state, (focal, gain), false);
        self.ambient = (light.sky[1] + 0.5 * light.sun[1]) * (1.0 - 0.9 * indoor) + 0.1 * indoor;
        self.dark = light.dark;
        self.lay_ground(&view, &light, state, tunnel.as_ref());
        let plane = ground_plane(&view);
        self.sky.paint(frame, (&view, &light), (&state.weather, state.road.kind), (plane, CUT), state.t_s);
        self.ground.light(frame, &view, &light, (plane, CUT));
        let seed = (state.seed as u32) ^ ((t_s * 100.0) as u32).wrapping_mul(0x9e37_79b1);
        glow::mirror(frame, &self.ground, &mut self.foot, seed);
        glow::lamps(frame, &view, &light, glows);
        if indoor > 0.0 { 0.0 } else { glow::sun(frame, &view, &light, state.weather.cloud.clamp(0.0, 1.0)) }
    }

    /// Draws the things of a scene without sky, ground and patterns: tags and depths are those of [`Stage::paint`], colours are not.
    pub(crate) fn outline(
        &mut self,
        frame: &mut Frame,
        glows: &mut Vec<Glow>,
        drawn: &mut Vec<Drawn>,
        state: &SceneState<'_>,
        focal: f32,
    ) {
        let Stood { view, .. } = self.stand(frame, glows, drawn, state, (focal, 1.0), true);
        ground::cover(frame, (ground_plane(&view), CUT));
    }

    /// Begins a frame and draws all that stands in it.
    fn stand(
        &mut self,
        frame: &mut Frame,
        glows: &mut Vec<Glow>,
        drawn: &mut Vec<Drawn>,
        state: &SceneState<'_>,
        (focal, gain): (f32, f32),
        plain: bool,
    ) -> Stood {
        glows.clear();
        drawn.clear();
        frame.begin();
        let view = View::new(&state.camera, focal, frame.width, frame.height);
        let tunnel = Tunnel::find(state.road);
        let eye = [view.eye[0], view.eye[1]];
        let indoor = tunnel.as_ref().map_or(0.0, |t| t.holds(state.road, eye));
        let light = Light::new(&view, &state.weather, &state.ego, gain, indoor);
        let t_s = if state.t_s.is_finite() { (state.t_s % 3600.0) as f32 } else { 0.0 };
        self.gather(&view, state);
        let mut canvas = Canvas { frame, glows, view: &view, t_s, plain };
        self.draw_actors(&mut canvas, &light, drawn, state, tunnel.as_ref());
        self.draw_standing(&mut canvas, &light, state, tunnel.as_ref());
        Stood { view, tunnel, indoor, light, t_s }
    }

    /// Everything that can be in sight, near ones first: index into the actors, parked ones after the others.
    fn gather(&mut self, view: &View, state: &SceneState<'_>) {
        self.order.clear();
        for (i, actor) in state.actors.iter().chain(&state.road.parked).enumerate() {
            let distance = roads::distance(view, [actor.body.x, actor.body.y]);
            if distance.is_nan() || distance >= things::sight(actor) {
                continue;
            }
            if self.order.len() < ACTORS {
                self.order.push((distance, i as u32));
            }
        }
        self.order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    }

    fn lay_ground(&mut self, view: &View, light: &Light, state: &SceneState<'_>, tunnel: Option<&Tunnel>) {
        let base = if state.road.kind == RoadKind::Town { Stuff::Yard } else { Stuff::Grass };
        self.ground.begin(base, state.weather.wet.max(0.0));
        roads::lay(&mut self.ground, view, state.road);
        let reach = |at: [f64; 2], extra: f64| f64::from(roads::distance(view, at)) < 140.0 + extra;
        if let Some(sun) = roads::Sun::new(light) {
            for b in state.road.buildings.iter().filter(|b| reach(b.at, b.length)) {
                sun.building(&mut self.ground, view, b);
            }
            for tree in state.road.trees.iter().filter(|t| reach(t.at, 0.0)) {
                sun.tree(&mut self.ground, view, tree);
            }
            for (_, i) in self.order.iter().filter(|(d, _)| *d < 120.0) {
                if let Some(actor) = actor_at(state, *i) {
                    sun.actor(&mut self.ground, view, actor);
                }
            }
        }
        for (_, i) in &self.order {
            if let Some(actor) = actor_at(state, *i) {
                roads::contact(&mut self.ground, view, actor);
            }
        }
        if light.dark > 0.3 {
            roads::pools(&mut self.ground, view, state.road, state.actors, light.dark);
        }
        if let Some(tunnel) = tunnel {
            tunnel.shade(&mut self.ground, view, state.road);
        }
    }

    fn draw_actors(
        &self,
        canvas: &mut Canvas<'_>,
        light: &Light,
        drawn: &mut Vec<Drawn>,
        state: &SceneState<'_>,
        tunnel: Option<&Tunnel>,
    ) {
        for (k, (distance, i)) in self.order.iter().enumerate() {
            let Some(actor) = actor_at(state, *i) else { continue };
            let at = [actor.body.x, actor.body.y];
            let mut local = *light;
            local.lamp = scale(roads::lamplight(state.road, at, light.dark), light.gain);
            if let Some(tunnel) = tunnel {
                local = tunnel.relight(state.road, at, &local);
            }
            canvas.frame.set_tag(TAG_ACTOR + k as u16);
            things::draw(canvas, &local, actor);
            drawn.push(Drawn {
                id: actor.id,
                kind: actor.kind,
                distance: *distance,
                parked: *i as usize >= state.actors.len(),
                covered: canvas.frame.stamped,
            });
        }
    }

    fn draw_standing(&self, canvas: &mut Canvas<'_>, light: &Light, state: &SceneState<'_>, tunnel: Option<&Tunnel>) {
        canvas.frame.set_tag(TAG_STATIC);
        let road = state.road;
        let eye = [canvas.view.eye[0], canvas.view.eye[1]];
        let near = |at: [f64; 2], reach: f64| {
            let (dx, dy) = (at[0] - eye[0], at[1] - eye[1]);
            dx * dx + dy * dy < reach * reach
        };
        let lit = |at: [f64; 2]| {
            let mut local = *light;
            local.lamp = scale(roads::lamplight(road, at, light.dark), light.gain);
            tunnel.map_or(local, |t| t.relight(road, at, &local))
        };
        let buried = |at: [f64; 2]| tunnel.is_some_and(|t| t.holds(road, at) > 0.0);
        if let Some(tunnel) = tunnel {
            tunnel.draw(canvas, light, &PLASTER, road);
        }
        for rail in &road.rails {
            street::rail(canvas, &|at| tunnel.map_or(*light, |t| t.relight(road, at, light)), rail);
        }
        for sign in road.signs.iter().filter(|s| near(s.at, 160.0)) {
            street::sign(canvas, &lit(sign.at), sign);
        }
        for lamp in road.lights.iter().filter(|l| near(l.at, 200.0)) {
            street::traffic_light(canvas, light, lamp, state.t_s);
        }
        for lamp in road.lamps.iter().filter(|l| near(l.at, 220.0)) {
            street::lamp(canvas, light, lamp);
        }
        for bump in road.bumps.iter().filter(|b| near(b.at, 80.0)) {
            street::bump(canvas, &lit(bump.at), bump);
        }
        if let Some(crossing) = &road.level_crossing
            && near(crossing.at, 160.0)
        {
            street::crossing(canvas, &lit(crossing.at), crossing, state.t_s);
        }
        for b in road.buildings.iter().filter(|b| near(b.at, f64::from(FAR_M))) {
            houses::draw(canvas, &lit(b.at), &PLASTER, b, state.seed as u32);
        }
        for tree in road.trees.iter().filter(|t| near(t.at, f64::from(FAR_M)) && !buried(t.at)) {
            trees::draw(canvas, &lit(tree.at), &LEAVES, tree);
        }
    }
}

fn ground_plane(view: &View) -> Linear {
    view.inverse_depth(view.up, scale(view.up, -view.eye[2] as f32)).unwrap_or_default()
}

/// An actor by its index over moving and parked ones.
fn actor_at<'a>(state: &SceneState<'a>, index: u32) -> Option<&'a Actor> {
    let i = index as usize;
    state.actors.get(i).or_else(|| state.road.parked.get(i.checked_sub(state.actors.len())?))
}
