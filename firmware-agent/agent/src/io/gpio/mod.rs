//! The unit's own lines: ignition, panic button and lamp, by the kernel's GPIO character device.
//!
//! The lines are read 50 times a second and believed when they say the same three times in a row. *Parked* is the state of a
//! daemon whose ignition is off: it runs, and records nothing.

mod state;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use agent_core::time::MonoTime;
use gpiocdev::Request;
use gpiocdev::line::Value;

use crate::config::gpio::GpioConfig;
use crate::io::camera::clock::monotonic_now;
pub(crate) use state::Lamp;
use state::{Button, Ignition};

/// Between two readings.
const POLL: Duration = Duration::from_millis(20);
/// A chip that fails is opened again after this.
const RETRY: Duration = Duration::from_secs(1);

/// What the lines say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum News {
    /// The ignition has been off for as long as the configuration wants.
    IgnitionOff,
    /// The panic button went down or up.
    Panic(bool, MonoTime),
    /// Something that a person should know.
    Said(String),
}

/// The lines, as far as they are configured; true is active.
pub(crate) trait Lines {
    fn ignition(&mut self) -> Result<Option<bool>, String>;
    fn panic(&mut self) -> Result<Option<bool>, String>;
    fn lamp(&mut self, lit: bool) -> Result<(), String>;
}

/// Lines that the kernel gave to us.
#[derive(Debug)]
pub(crate) struct Kernel {
    request: Request,
    config: GpioConfig,
    lit: Option<bool>,
}

impl Kernel {
    /// Asks for the configured lines; another program that holds one is an error.
    pub(crate) fn open(config: &GpioConfig, chip: &Path) -> Result<Self, String> {
        let mut builder = Request::builder();
        builder.on_chip(chip).with_consumer("firmware-agent");
        for line in [config.ignition, config.panic].into_iter().flatten() {
            let line_config = builder.with_line(line.offset).as_input();
            if line.active_low {
                line_config.as_active_low()
            } else {
                line_config.as_active_high()
            };
        }
        if let Some(line) = config.lamp {
            let line_config = builder.with_line(line.offset).as_output(Value::Inactive);
            if line.active_low {
                line_config.as_active_low()
            } else {
                line_config.as_active_high()
            };
        }
        let request = builder.request().map_err(|e| format!("{}: {e}", chip.display()))?;
        Ok(Self { request, config: config.clone(), lit: None })
    }

    fn get(&self, line: Option<crate::config::gpio::Line>) -> Result<Option<bool>, String> {
        let Some(line) = line else { return Ok(None) };
        let value = self.request.value(line.offset).map_err(|e| format!("line {}: {e}", line.offset))?;
        Ok(Some(value == Value::Active))
    }
}

impl Lines for Kernel {
    fn ignition(&mut self) -> Result<Option<bool>, String> {
        self.get(self.config.ignition)
    }

    fn panic(&mut self) -> Result<Option<bool>, String> {
        self.get(self.config.panic)
    }

    fn lamp(&mut self, lit: bool) -> Result<(), String> {
        let Some(line) = self.config.lamp.filter(|_| self.lit != Some(lit)) else { return Ok(()) };
        let value = if lit { Value::Active } else { Value::Inactive };
        self.request.set_value(line.offset, value).map_err(|e| format!("line {}: {e}", line.offset))?;
        self.lit = Some(lit);
        Ok(())
    }
}

/// Waits until the ignition is on; true if it is, false if told to stop. Lines that cannot be read do not stop a recorder:
/// then the ignition counts as on.
pub(crate) fn wait_for_ignition(lines: &mut dyn Lines, stop: &dyn Fn() -> bool, parked: &mut dyn FnMut()) -> bool {
    let mut seen = 0;
    let begun = Instant::now();
    while !stop() {
        match lines.ignition() {
            Ok(Some(false)) => seen = 0,
            Ok(Some(true)) => seen += 1,
            Ok(None) | Err(_) => return true,
        }
        if seen >= state::SURE {
            return true;
        }
        if seen == 0 {
            parked();
            // Nothing but a short flash every few seconds shows that the unit lives.
            let _ = lines.lamp(Lamp::Parked.lit(begun.elapsed()));
        }
        std::thread::sleep(POLL);
    }
    false
}

/// Reads the lines until `stop`. `lamp` holds what the lamp is to show; `beat` is called many times a second; `tell` says false
/// when nobody listens any more.
pub(crate) fn run(
    config: &GpioConfig,
    open: &mut dyn FnMut() -> Result<Box<dyn Lines>, String>,
    lamp: &AtomicU8,
    stop: &AtomicBool,
    beat: &dyn Fn(),
    tell: &mut dyn FnMut(News) -> bool,
) {
    let begun = Instant::now();
    let mut ignition = Ignition::new(Duration::from_secs_f32(config.ignition_off_s));
    let mut button = Button::default();
    let mut said: Option<String> = None;
    let mut lines: Option<Box<dyn Lines>> = None;
    let mut again = begun;
    while !stop.load(Ordering::Relaxed) {
        beat();
        let now = Instant::now();
        let step = match &mut lines {
            Some(lines) => look(lines.as_mut(), lamp, begun, now, &mut ignition, &mut button, tell),
            None if now >= again => open().map(|opened| {
                lines = Some(opened);
                true
            }),
            None => Ok(true),
        };
        match step {
            Ok(true) => {}
            Ok(false) => return,
            Err(why) => {
                (lines, again) = (None, now + RETRY);
                let why = format!("GPIO: {why}; tried again every second");
                if said.as_ref() != Some(&why) && !tell(News::Said(why.clone())) {
                    return;
                }
                said = Some(why);
            }
        }
        std::thread::sleep(POLL);
    }
    if let Some(lines) = &mut lines {
        let _ = lines.lamp(false);
    }
}

fn look(
    lines: &mut dyn Lines,
    lamp: &AtomicU8,
    begun: Instant,
    now: Instant,
    ignition: &mut Ignition,
    button: &mut Button,
    tell: &mut dyn FnMut(News) -> bool,
) -> Result<bool, String> {
    lines.lamp(Lamp::from(lamp.load(Ordering::Relaxed)).lit(now.saturating_duration_since(begun)))?;
    if let Some(on) = lines.ignition()?
        && ignition.went_off(on, now)
        && !tell(News::IgnitionOff)
    {
        return Ok(false);
    }
    if let Some(down) = lines.panic()?
        && let Some(down) = button.changed(down)
    {
        return Ok(tell(News::Panic(down, monotonic_now())));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// Lines that follow a script of readings; its last repeats.
    #[derive(Clone, Default)]
    struct Script {
        ignition: Rc<RefCell<Vec<bool>>>,
        panic: Rc<RefCell<Vec<bool>>>,
        lit: Rc<RefCell<Vec<bool>>>,
        fails: Rc<RefCell<u32>>,
    }

    fn next(list: &Rc<RefCell<Vec<bool>>>) -> Option<bool> {
        let mut list = list.borrow_mut();
        if list.len() > 1 { Some(list.remove(0)) } else { list.first().copied() }
    }

    impl Lines for Script {
        fn ignition(&mut self) -> Result<Option<bool>, String> {
            let mut fails = self.fails.borrow_mut();
            if *fails > 0 {
                *fails -= 1;
                return Err("line 3: gone".to_owned());
            }
            Ok(next(&self.ignition))
        }

        fn panic(&mut self) -> Result<Option<bool>, String> {
            Ok(next(&self.panic))
        }

        fn lamp(&mut self, lit: bool) -> Result<(), String> {
            self.lit.borrow_mut().push(lit);
            Ok(())
        }
    }

    fn config() -> GpioConfig {
        let text = "[sources.gpio]\nchip = \"/dev/gpiochip0\"\nignition = \"!3\"\npanic = \"4\"\nlamp = \"5\"\nignition_off_s = 0.1\n";
        crate::config::load_str("unit.toml", text).unwrap().sources.gpio
    }

    fn run_script(script: &Script, enough: usize) -> Vec<News> {
        let (stop, lamp) = (AtomicBool::new(false), AtomicU8::new(Lamp::On as u8));
        let mut heard = Vec::new();
        let begun = Instant::now();
        let beat =
            || stop.store(stop.load(Ordering::Relaxed) || begun.elapsed() > Duration::from_secs(5), Ordering::Relaxed);
        let mut open = || Ok(Box::new(script.clone()) as Box<dyn Lines>);
        run(&config(), &mut open, &lamp, &stop, &beat, &mut |news| {
            heard.push(news);
            heard.len() < enough
        });
        heard
    }

    #[test]
    fn a_pressed_button_and_an_ignition_that_stays_off_are_told_and_a_dip_is_not() {
        let script = Script::default();
        *script.panic.borrow_mut() = [[false; 4].as_slice(), &[true], &[false; 3], &[true; 5], &[false; 9]].concat();
        *script.ignition.borrow_mut() = [[true; 4].as_slice(), &[false; 3], &[true; 20], &[false]].concat();
        let heard = run_script(&script, 3);
        assert!(matches!(heard[..], [News::Panic(true, _), News::Panic(false, _), News::IgnitionOff]), "{heard:?}");
        assert!(script.lit.borrow().iter().all(|lit| *lit));
    }

    #[test]
    fn a_chip_that_fails_is_said_once_and_opened_again() {
        let script = Script::default();
        *script.ignition.borrow_mut() = [[true; 4].as_slice(), &[false]].concat();
        *script.fails.borrow_mut() = 2;
        let heard = run_script(&script, 2);
        assert!(
            matches!(&heard[..], [News::Said(why), News::IgnitionOff] if why.contains("line 3: gone")),
            "{heard:?}"
        );
        let why = Kernel::open(&config(), Path::new("/dev/nochip9")).unwrap_err();
        assert!(why.contains("nochip9"), "{why}");
    }

    #[test]
    fn parked_until_the_ignition_is_surely_on() {
        let mut script = Script::default();
        *script.ignition.borrow_mut() = [[false; 3].as_slice(), &[true], &[false; 2], &[true]].concat();
        let mut parked = 0;
        assert!(wait_for_ignition(&mut script, &|| false, &mut || parked += 1));
        assert_eq!(parked, 5);
        *script.ignition.borrow_mut() = vec![false];
        assert!(!wait_for_ignition(&mut script, &|| true, &mut || {}));
        *script.fails.borrow_mut() = 1;
        assert!(wait_for_ignition(&mut script, &|| false, &mut || {}), "an unreadable line must not stop a recorder");
    }
}
