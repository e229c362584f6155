//! A PEFT adapter: low-rank changes of matrices, merged while these are written.
//!
//! LoRA (Hu et al. 2021): W' = W + s B A, s = alpha / r, or alpha / sqrt(r) where `use_rslora` says so. DoRA (Liu et
//! al. 2024), as PEFT merges it: with V = W + s B A, each output row of V is scaled to the length that
//! `lora_magnitude_vector` gives it. Key names of PEFT 0.4 and of today (`.default.`, `.weight` after the magnitude)
//! are read. A and B of one matrix are in memory while it is merged, in f32; nothing else is.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use serde::Deserialize;

use super::error::ConvertError;
use super::limits::{MAX_ADAPTER_VALUES, MAX_RANK};
use super::names::{Named, resolve};
use super::source::{Source, Stored, read_json};

/// The part of `adapter_config.json` that the merge follows; other keys do not change it.
#[derive(Debug, Deserialize)]
struct Config {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    lora_bias: bool,
    #[serde(default)]
    bias: Option<String>,
    #[serde(default)]
    rank_pattern: Option<BTreeMap<String, usize>>,
    #[serde(default)]
    alpha_pattern: Option<BTreeMap<String, f64>>,
}

/// The parts of one change, as they are found.
#[derive(Debug, Default)]
struct Parts {
    /// The module's name in the adapter.
    module: String,
    a: Option<Stored>,
    b: Option<Stored>,
    magnitude: Option<Stored>,
}

/// The change of one matrix.
#[derive(Clone, Debug)]
pub struct Change {
    a: Stored,
    b: Stored,
    magnitude: Option<Stored>,
    rank: usize,
    scale: f32,
}

/// An adapter, opened.
#[derive(Debug)]
pub struct Adapter {
    /// Its weights.
    pub source: Source,
    /// Changes by the name of their matrix in the model file.
    pub changes: BTreeMap<String, Change>,
    /// Tensors that it replaces whole, by their name in the model file.
    pub replaced: BTreeMap<String, Stored>,
}

/// One change with its factors in memory.
#[derive(Debug)]
pub struct Loaded {
    a: Vec<f32>,
    b: Vec<f32>,
    magnitude: Option<Vec<f32>>,
    rank: usize,
    scale: f32,
}

impl Adapter {
    /// Opens an adapter folder.
    ///
    /// # Errors
    /// [`ConvertError::Input`] for a configuration that cannot be followed, [`ConvertError::Tensor`] for a tensor that
    /// has no place or lacks its partner, and those of [`Source`].
    pub fn open(folder: &Path) -> Result<Self, ConvertError> {
        let path = folder.join("adapter_config.json");
        let config: Config =
            serde_json::from_value(read_json(&path)?).map_err(|e| ConvertError::input(&path, e.to_string()))?;
        config.check(&path)?;
        let source = Source::open_folder(folder, "adapter_model", "adapter_model")?;
        let mut parts: BTreeMap<String, Parts> = BTreeMap::new();
        let mut replaced = BTreeMap::new();
        for stored in source.tensors.values() {
            let file = source.path(stored);
            let unknown = || ConvertError::tensor(file, &stored.name, "stands for no tensor of the model");
            let Some((module, part)) = split(&stored.name) else {
                match resolve(&stored.name) {
                    Named::Tensor(name) => drop(replaced.insert(name, stored.clone())),
                    Named::Derived => {}
                    Named::Unknown => return Err(unknown()),
                }
                continue;
            };
            let Named::Tensor(name) = resolve(&format!("{module}.weight")) else { return Err(unknown()) };
            let entry = parts.entry(name).or_default();
            entry.module = module.to_owned();
            let slot = match part {
                Part::A => &mut entry.a,
                Part::B => &mut entry.b,
                Part::Magnitude => &mut entry.magnitude,
            };
            if slot.replace(stored.clone()).is_some() {
                return Err(ConvertError::tensor(file, &stored.name, "stands twice, under two names"));
            }
        }
        let mut changes = BTreeMap::new();
        for (name, parts) in parts {
            changes.insert(name, config.change(&source, folder, parts)?);
        }
        if changes.is_empty() && replaced.is_empty() {
            return Err(ConvertError::input(folder, "the adapter changes nothing"));
        }
        Ok(Self { source, changes, replaced })
    }

    /// Checks each change against the matrix that it is for; `dims` gives those of the model file.
    ///
    /// # Errors
    /// [`ConvertError::Tensor`] for a matrix that the model lacks or whose shape is another.
    pub fn check(&self, dims: &BTreeMap<&str, &[usize]>) -> Result<(), ConvertError> {
        for (name, change) in &self.changes {
            let wrong = |s: &Stored, what: String| Err(ConvertError::tensor(self.source.path(s), &s.name, what));
            let Some(&[rows, columns]) = dims.get(name.as_str()) else {
                return wrong(&change.a, format!("is for {name}, which is no matrix of this model"));
            };
            if change.a.dims != [change.rank, *columns] {
                return wrong(
                    &change.a,
                    format!("{:?}, for {name} it must be {:?}", change.a.dims, [change.rank, *columns]),
                );
            }
            if change.b.dims != [*rows, change.rank] {
                return wrong(
                    &change.b,
                    format!("{:?}, for {name} it must be {:?}", change.b.dims, [*rows, change.rank]),
                );
            }
            if let Some(m) = change.magnitude.as_ref().filter(|m| m.len() != *rows) {
                return wrong(m, format!("{:?}, for {name} it must have {rows} values", m.dims));
            }
        }
        Ok(())
    }

    /// Reads the factors of one change.
    ///
    /// # Errors
    /// Those of [`Source::read`].
    pub fn load(&self, change: &Change) -> Result<Loaded, ConvertError> {
        if change.a.len().saturating_add(change.b.len()) > MAX_ADAPTER_VALUES {
            let file = self.source.path(&change.a);
            return Err(ConvertError::tensor(file, &change.a.name, format!("more than {MAX_ADAPTER_VALUES} values")));
        }
        let whole = |stored: &Stored| {
            let mut values = Vec::new();
            self.source.read(stored, 0, stored.len(), &mut values).map(|()| values)
        };
        Ok(Loaded {
            a: whole(&change.a)?,
            b: whole(&change.b)?,
            magnitude: change.magnitude.as_ref().map(whole).transpose()?,
            rank: change.rank,
            scale: change.scale,
        })
    }
}

impl Loaded {
    /// Merges into `rows`, which are whole rows of `columns` values from row `first` on.
    pub fn merge(&self, rows: &mut [f32], first: usize, columns: usize) {
        rows.par_chunks_mut(columns.max(1)).enumerate().for_each(|(i, row)| {
            let at = first + i;
            let factors = self.b.get(at * self.rank..(at + 1) * self.rank).unwrap_or_default();
            let mut delta = vec![0.0f32; row.len()];
            for (b, a) in factors.iter().zip(self.a.chunks_exact(columns.max(1))) {
                delta.iter_mut().zip(a).for_each(|(d, a)| *d += b * a);
            }
            row.iter_mut().zip(&delta).for_each(|(w, d)| *w += self.scale * d);
            let Some(magnitude) = self.magnitude.as_ref().and_then(|m| m.get(at)) else { return };
            // Summed in f64: the length of a row of 18,944 values is then exact to f32.
            let length = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
            // A row of zeros has no direction to scale.
            let factor = if length > 0.0 { (f64::from(*magnitude) / length) as f32 } else { 0.0 };
            row.iter_mut().for_each(|w| *w *= factor);
        });
    }
}

impl Config {
    fn check(&self, path: &Path) -> Result<(), ConvertError> {
        let refuse = |what: String| Err(ConvertError::input(path, what));
        if self.peft_type != "LORA" {
            return refuse(format!("peft_type {}; LORA (with or without DoRA) is merged", self.peft_type));
        }
        if self.r == 0 || self.r > MAX_RANK {
            return refuse(format!("r = {}, must be 1 to {MAX_RANK}", self.r));
        }
        if !self.lora_alpha.is_finite() {
            return refuse("lora_alpha is not finite".into());
        }
        if self.fan_in_fan_out {
            return refuse("fan_in_fan_out: no matrix of this model is transposed".into());
        }
        if self.lora_bias {
            return refuse("lora_bias is not merged".into());
        }
        if let Some(bias) = self.bias.as_deref().filter(|b| *b != "none") {
            return refuse(format!("bias = {bias}: trained biases are not merged"));
        }
        let patterns = self.rank_pattern.iter().flat_map(|m| m.keys());
        let plain = |k: &str| k.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        match patterns.chain(self.alpha_pattern.iter().flat_map(|m| m.keys())).find(|k| !plain(k)) {
            Some(k) => refuse(format!("pattern {k}: expressions are not followed, names are")),
            None => Ok(()),
        }
    }

    /// The value for a module: of the pattern that is its name or the end of it after a dot, else the general one.
    fn of<T: Copy>(patterns: Option<&BTreeMap<String, T>>, module: &str, general: T) -> T {
        let matches = |k: &str| module == k || module.strip_suffix(k).is_some_and(|rest| rest.ends_with('.'));
        patterns.and_then(|m| m.iter().find(|(k, _)| matches(k))).map_or(general, |(_, v)| *v)
    }

    fn change(&self, source: &Source, folder: &Path, parts: Parts) -> Result<Change, ConvertError> {
        let Parts { module, a, b, magnitude } = parts;
        let lacks = |what: &str| ConvertError::tensor(folder, &module, format!("its {what} is missing"));
        let (a, b) = (a.ok_or_else(|| lacks("lora_A"))?, b.ok_or_else(|| lacks("lora_B"))?);
        if self.use_dora && magnitude.is_none() {
            return Err(lacks("lora_magnitude_vector"));
        }
        let rank = Self::of(self.rank_pattern.as_ref(), &module, self.r);
        if a.dims.first() != Some(&rank) {
            let what = format!("{:?}, the configuration says rank {rank}", a.dims);
            return Err(ConvertError::tensor(source.path(&a), &a.name, what));
        }
        let alpha = Self::of(self.alpha_pattern.as_ref(), &module, self.lora_alpha);
        let divisor = if self.use_rslora { (rank as f64).sqrt() } else { rank as f64 };
        Ok(Change { a, b, magnitude, rank, scale: (alpha / divisor) as f32 })
    }
}

enum Part {
    A,
    B,
    Magnitude,
}

/// A key's module and part, `None` for keys of whole tensors. `.default` is the adapter's name, which PEFT takes off
/// when it saves and training loops sometimes do not.
fn split(key: &str) -> Option<(&str, Part)> {
    let bare = key.strip_suffix(".weight").unwrap_or(key);
    let bare = bare.strip_suffix(".default").unwrap_or(bare);
    let (module, part) = bare.rsplit_once('.')?;
    match part {
        "lora_A" => Some((module, Part::A)),
        "lora_B" => Some((module, Part::B)),
        "lora_magnitude_vector" => Some((module, Part::Magnitude)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_all_versions_split() {
        for key in [
            "base_model.model.model.layers.0.mlp.up_proj.lora_magnitude_vector",
            "base_model.model.model.layers.0.mlp.up_proj.lora_magnitude_vector.weight",
            "base_model.model.model.layers.0.mlp.up_proj.lora_magnitude_vector.default.weight",
        ] {
            let (module, part) = split(key).unwrap();
            assert_eq!(module, "base_model.model.model.layers.0.mlp.up_proj");
            assert!(matches!(part, Part::Magnitude));
        }
        assert!(matches!(split("x.q_proj.lora_A.default.weight"), Some(("x.q_proj", Part::A))));
        assert!(matches!(split("x.q_proj.lora_B.weight"), Some(("x.q_proj", Part::B))));
        assert!(split("x.q_proj.weight").is_none());
        assert!(split("lora_B").is_none());
    }

    #[test]
    fn patterns_are_names_or_their_ends() {
        let m = BTreeMap::from([("q_proj".to_owned(), 8), ("layers.1.self_attn.k_proj".to_owned(), 16)]);
        assert_eq!(Config::of(Some(&m), "model.layers.1.self_attn.q_proj", 4), 8);
        assert_eq!(Config::of(Some(&m), "model.layers.1.self_attn.k_proj", 4), 16);
        assert_eq!(Config::of(Some(&m), "model.layers.11.self_attn.k_proj", 4), 4);
        assert_eq!(Config::of(Some(&m), "model.layers.1.self_attn.xq_proj", 4), 4);
    }

    #[test]
    fn merging_is_that_of_a_direct_computation() {
        let (rows, columns, rank, scale) = (5usize, 7usize, 3usize, 0.25f32);
        let value = |i: usize, m: usize| ((i * 37 + 11) % m) as f32 / m as f32 - 0.4;
        let a: Vec<f32> = (0..rank * columns).map(|i| value(i, 29)).collect();
        let b: Vec<f32> = (0..rows * rank).map(|i| value(i, 31)).collect();
        let w: Vec<f32> = (0..rows * columns).map(|i| value(i, 41)).collect();
        let magnitude: Vec<f32> = (0..rows).map(|i| 0.5 + i as f32).collect();
        for dora in [false, true] {
            let loaded = Loaded { a: a.clone(), b: b.clone(), magnitude: dora.then(|| magnitude.clone()), rank, scale };
            let mut merged = w.clone();
            // In two parts, as the importer does it.
            let (first, second) = merged.split_at_mut(2 * columns);
            loaded.merge(first, 0, columns);
            loaded.merge(second, 2, columns);
            for r in 0..rows {
                let row: Vec<f64> = (0..columns)
                    .map(|c| {
                        let ba: f64 =
                            (0..rank).map(|k| f64::from(b[r * rank + k]) * f64::from(a[k * columns + c])).sum();
                        f64::from(w[r * columns + c]) + f64::from(scale) * ba
                    })
                    .collect();
                let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
                for c in 0..columns {
                    let expected = if dora { row[c] * f64::from(magnitude[r]) / length } else { row[c] };
                    assert!((f64::from(merged[r * columns + c]) - expected).abs() < 1e-6, "row {r} column {c}");
                }
            }
        }
    }
}
