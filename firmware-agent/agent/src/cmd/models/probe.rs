//! `models probe`: what tract says to a probe of a detector or a risk head, beside its ONNX file.

use std::path::Path;

use agent_models::{Detector, RiskHead};
use serde_json::json;

use crate::convert::read_text;
use crate::exit::{Outcome, bad_input};
use crate::show::put;

pub(super) fn probe(manifest: &Path) -> anyhow::Result<Outcome> {
    // Only a detector's manifest has a family; what else is wrong with either, their own readers say.
    let table = read_text(manifest)?.parse::<toml::Table>();
    let (path, text) = if table.is_ok_and(|t| !t.contains_key("family") && t.contains_key("state")) {
        RiskHead::probe_file(manifest).map_err(bad_input)?
    } else {
        Detector::probe_file(manifest).map_err(bad_input)?
    };
    // Whole or not at all: a half one would be refused on the unit.
    let half = path.with_extension("new");
    std::fs::write(&half, &text)
        .and_then(|()| std::fs::rename(&half, &path))
        .map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
    put!("{}", json!({"file": path, "values": text.lines().count() - 1}))?;
    Ok(Outcome::Done)
}
