//! What the sensors do, from when their newest sample came. Looks at times alone; what a live camera says of its pictures is
//! its source's matter.

use agent_wire::{CameraState, SensorState, Sensors};

use crate::agent::Agent;
use crate::time::{MonoTime, Span};

/// Without a sample for this long a camera, a bus or a motion sensor is silent.
const SILENT: Span = Span::from_ms(5_000);
/// The same of fixes: receivers lose them for moments, under a bridge for example.
const FIXES_SILENT: Span = Span::from_ms(15_000);

impl Agent {
    /// All of them now.
    pub(crate) fn sensors(&self) -> Sensors {
        let state = |newest: Option<MonoTime>, silent: Span| match newest {
            None => SensorState::Unheard,
            Some(t) if self.now.since(t) > silent => SensorState::Silent,
            Some(_) => SensorState::Good,
        };
        Sensors {
            camera: match state(self.frames.newest(), SILENT) {
                SensorState::Unheard => CameraState::Unheard,
                SensorState::Good => CameraState::Good,
                SensorState::Silent => CameraState::Stalled,
            },
            can: state(self.can.newest(), SILENT),
            imu: state(self.imu.newest(), SILENT),
            gnss: state(self.gnss.newest(), FIXES_SILENT),
        }
    }
}
