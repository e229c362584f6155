//! `[sources.gpio]`: the unit's own lines. Nothing here opens anything.

use core::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::Config;
use super::reader::{Section, refuse};
use super::tree::Files;
use super::types::path_or_none;

/// `[sources.gpio]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct GpioConfig {
    /// The chip whose lines these are.
    #[serde(serialize_with = "path_or_none")]
    pub(crate) chip: Option<PathBuf>,
    /// Active while the vehicle's ignition is on.
    #[serde(serialize_with = "line_or_none")]
    pub(crate) ignition: Option<Line>,
    /// Off for so long means off, seconds; starters make the line dip.
    pub(crate) ignition_off_s: f32,
    /// Active while the panic button is pressed.
    #[serde(serialize_with = "line_or_none")]
    pub(crate) panic: Option<Line>,
    /// Active lights the lamp.
    #[serde(serialize_with = "line_or_none")]
    pub(crate) lamp: Option<Line>,
}

impl Config {
    /// The chip's device file, resolved; empty where none is named.
    pub(crate) fn gpio_chip(&self) -> PathBuf {
        self.resolve_or_empty(self.sources.gpio.chip.as_deref())
    }
}

/// A line of a chip: `17`, or `!17` where a low level means active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Its number.
    pub(crate) offset: u32,
    /// Active when low.
    pub(crate) active_low: bool,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.active_low { "!" } else { "" }, self.offset)
    }
}

/// Most lines of a chip that any kernel has.
const MAX_LINE: u32 = 1023;

/// The section inside `[sources]`; `signals` are the configured ones that trigger, `most` how many there may be.
pub(super) fn gpio(files: &mut Files, sources: &mut Section<'_>, signals: usize, most: usize) -> Option<GpioConfig> {
    let mut s = sources.section(files, "gpio");
    let chip = s.path_or_none(files, "chip");
    let mut seen: Vec<(u32, &'static str)> = Vec::with_capacity(3);
    let mut line = |files: &mut Files, s: &mut Section<'_>, key: &'static str| {
        let at = s.checked(files, key, "\"none\" or a line such as \"17\" or \"!17\"", parse)?;
        if let (Some(line), Some(spot)) = (at.value, at.spot) {
            if chip.value.is_none() && chip.spot.is_some() {
                refuse(files, spot, s.key(key), format!("but {} is none", s.key("chip")));
            }
            match seen.iter().find(|(offset, _)| *offset == line.offset) {
                Some((_, other)) => refuse(files, spot, s.key(key), format!("the line of {}", s.key(other))),
                None => seen.push((line.offset, key)),
            }
            if key == "panic" && signals >= most {
                let reason = format!("but trigger.signals has all {most} that there may be; the button is one more");
                refuse(files, spot, s.key(key), reason);
            }
        }
        Some(at.value)
    };
    let ignition = line(files, &mut s, "ignition");
    let panic = line(files, &mut s, "panic");
    let lamp = line(files, &mut s, "lamp");
    let ignition_off_s = s.real(files, "ignition_off_s", 0.1, 600.0).value;
    s.finish(files);
    Some(GpioConfig { chip: chip.value, ignition: ignition?, ignition_off_s, panic: panic?, lamp: lamp? })
}

fn parse(text: &str) -> Result<Option<Line>, String> {
    if text == "none" {
        return Ok(None);
    }
    let (number, active_low) = text.strip_prefix('!').map_or((text, false), |number| (number, true));
    match number.parse() {
        Ok(offset) if offset <= MAX_LINE => Ok(Some(Line { offset, active_low })),
        _ => Err(format!("not \"none\" or a line from 0 to {MAX_LINE}, with a \"!\" before it where low means active")),
    }
}

fn line_or_none<S: Serializer>(line: &Option<Line>, serializer: S) -> Result<S::Ok, S::Error> {
    match line {
        Some(line) => serializer.collect_str(line),
        None => serializer.serialize_str("none"),
    }
}
