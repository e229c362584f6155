//! `[sources.can]`: which CAN interfaces are heard, and which of their frames. Nothing here opens anything.

use agent_drive::IdFilter;
use serde::{Serialize, Serializer};

use super::limits::{MAX_CAN_FILTERS, MAX_CAN_INTERFACES, MAX_INTERFACE_BYTES};
use super::reader::{At, Section, refuse, text};
use super::tree::Files;

/// `[sources.can]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct CanBusConfig {
    /// Names of the interfaces; bus numbers are their order.
    pub(crate) interfaces: Vec<String>,
    /// Every frame, or only those with signals that are mapped or that a filter lets through.
    pub(crate) record_all: bool,
    /// What else to let through.
    #[serde(serialize_with = "filter_list")]
    pub(crate) filters: Vec<IdFilter>,
    /// Where OBD-II is asked; one of `interfaces`.
    #[serde(serialize_with = "name_or_none")]
    pub(crate) obd_interface: Option<String>,
    /// How often, requests a second.
    pub(crate) obd_hz: f32,
}

/// What the program knows of buses without a DBC of the vehicle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CanPreset {
    /// Nothing.
    None,
    /// Trucks, buses and machines: SAE J1939.
    J1939,
    /// Cars by their diagnostic connector: OBD-II, asked for.
    Obd2,
}

/// The section inside `[sources]`; `dbc` says whether a DBC is configured, which may name what is to be heard.
pub(super) fn can_buses(files: &mut Files, sources: &mut Section<'_>, dbc: bool) -> CanBusConfig {
    let mut s = sources.section(files, "can");
    let list = s.list(files, "interfaces", MAX_CAN_INTERFACES);
    let mut interfaces: Vec<String> = Vec::with_capacity(list.value.len());
    for (i, node) in list.value.iter().enumerate() {
        let key = format!("{}[{i}]", s.key("interfaces"));
        let At { value, spot: Some(spot) } = text(files, &key, node, "a name such as \"can0\"") else { continue };
        if !is_interface(&value) {
            refuse(files, spot, key, format!("not the name of an interface, 1 to {MAX_INTERFACE_BYTES} characters"));
        } else if interfaces.contains(&value) {
            refuse(files, spot, key, "named twice".to_owned());
        } else {
            interfaces.push(value);
        }
    }
    let list_sound = list.spot.is_some() && interfaces.len() == list.value.len();
    let record_all = s.flag(files, "record_all");
    let list = s.list(files, "filters", MAX_CAN_FILTERS);
    let mut filters = Vec::with_capacity(list.value.len());
    for (i, node) in list.value.iter().enumerate() {
        let key = format!("{}[{i}]", s.key("filters"));
        let At { value, spot: Some(spot) } = text(files, &key, node, "\"ID\" or \"ID:MASK\"") else { continue };
        match filter(&value) {
            Ok(filter) => filters.push(filter),
            Err(reason) => refuse(files, spot, key, reason.to_owned()),
        }
    }
    if let (Some(spot), false, false) = (record_all.spot, record_all.value, dbc)
        && list.value.is_empty()
        && list.spot.is_some()
    {
        let reason = format!("but can.dbc is none and {} is empty: nothing would be heard", s.key("filters"));
        refuse(files, spot, s.key("record_all"), reason);
    }
    if let (Some(spot), true, false) = (list.spot, record_all.value, filters.is_empty()) {
        let reason = format!("but {} is true, which takes every frame", s.key("record_all"));
        refuse(files, spot, s.key("filters"), reason);
    }
    let named = s.checked(files, "obd_interface", "a name such as \"can0\", or \"none\"", |text| Ok(text.to_owned()));
    let named = named.filter(|at| at.value != "none");
    if let Some(At { value, spot: Some(spot) }) = &named
        && !interfaces.contains(value)
        && list_sound
    {
        refuse(files, *spot, s.key("obd_interface"), format!("not one of {}", s.key("interfaces")));
    }
    // The thread that hears the buses looks at the clock 20 times a second.
    let obd_hz = s.real(files, "obd_hz", 0.5, 20.0).value;
    s.finish(files);
    let obd_interface = named.map(|at| at.value);
    CanBusConfig { interfaces, record_all: record_all.value, filters, obd_interface, obd_hz }
}

/// What the kernel takes as the name of an interface.
fn is_interface(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':');
    (1..=MAX_INTERFACE_BYTES).contains(&name.len()) && name.chars().all(fits) && !matches!(name, "." | "..")
}

/// `ID` or `ID:MASK` as candump takes them: three hexadecimal digits for 11 bits, eight for 29.
fn filter(text: &str) -> Result<IdFilter, &'static str> {
    const FORM: &str = "not ID or ID:MASK in hexadecimal, each of three digits (11 bits) or eight (29 bits)";
    let number = |part: &str| match part.len() {
        3 | 8 if part.bytes().all(|b| b.is_ascii_hexdigit()) => {
            u32::from_str_radix(part, 16).ok().map(|n| (n, part.len() == 8))
        }
        _ => None,
    };
    let (id, mask) = match text.split_once(':') {
        Some((id, mask)) => (number(id).ok_or(FORM)?, Some(number(mask).ok_or(FORM)?)),
        None => (number(text).ok_or(FORM)?, None),
    };
    let (id, extended) = id;
    let all = IdFilter::all_bits(extended);
    let (mask, _) =
        mask.filter(|(_, wide)| *wide == extended).or(mask.is_none().then_some((all, extended))).ok_or(FORM)?;
    if (id | mask) & !all != 0 {
        return Err("more than 11 or 29 bits hold");
    }
    Ok(IdFilter { id, mask, extended })
}

fn name_or_none<S: Serializer>(name: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_deref().unwrap_or("none"))
}

fn filter_list<S: Serializer>(filters: &[IdFilter], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(filters.iter().map(ToString::to_string))
}
