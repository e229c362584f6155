//! The first visible sign of a danger: when the camera sees who brings it.
//!
//! What it never does: judge light, rain or contrast. Who shows in enough pixels counts as seen, by night as well.

use super::drive::WorldDrive;
use super::verdict::in_view;
use crate::limits::TRACE_MS;
use crate::render::{BoxTruth, Camera, CameraLook};

/// Size of the picture in which the sign is looked for, pixels; whatever is drawn of the drive, its truth is the same.
const SIZE: [usize; 2] = [640, 360];
/// So many pixels of somebody are a sign: a person at 60 m, of whom a third shows.
const SIGN_PX: u32 = 24;

/// Gives the first sign of a danger of which `shows_s` says when it begins to show, s, and whether there is one before
/// `contact_s`: the first instant in which the camera sees one of the `cast`, past whatever stands in between, within
/// 90 m (30 m in the thickest fog) of the vehicle's middle.
pub(crate) fn first_sign(drive: &mut WorldDrive, shows_s: Option<f64>, contact_s: f64) -> (f64, bool) {
    let Some(from) = shows_s else { return (contact_s, false) };
    let cast = drive.stage().facts.cast.clone();
    if cast.is_empty() {
        // The danger is the ego vehicle's own way.
        return (from.min(contact_s), true);
    }
    let contact = (contact_s * 1000.0).round() as usize;
    let look = CameraLook { bonnet_height: drive.look().bonnet_height, detail: 1.0, ..CameraLook::default() };
    let (mut camera, mut boxes) = (None, Vec::<BoxTruth>::new());
    let mut at = (from.max(0.0) * 1000.0) as usize;
    while at < contact {
        let near = |i: usize| in_view(drive.stage(), drive.trace(), i, at);
        let near: Vec<u32> = cast.iter().filter(|i| near(**i)).filter_map(|i| drive.mover_id(*i)).collect();
        if !near.is_empty() {
            let camera = camera.get_or_insert_with(|| Camera::new(SIZE[0], SIZE[1], look));
            let scene = drive.scene(at);
            camera.outline(&scene);
            camera.boxes(&scene, &mut boxes);
            if boxes.iter().any(|b| b.pixels >= SIGN_PX && near.contains(&b.id)) {
                return (at as f64 * 1e-3, true);
            }
        }
        at += TRACE_MS;
    }
    (contact_s, false)
}
