//! tract, the reference: it runs any ONNX graph of the right shapes, and what our networks (`net`, `cell`) say is held to its word.
//!
//! It is the one part of this crate that a build may lack (the feature `tract`): it takes 11 to 14 MB of a program, and what ships
//! needs it no more once its answers are in probe files (`probe`).

use std::path::Path;

use agent_core::vision::{GLOBAL_FEATURES, RISK_SLOTS, RiskFeatures, SLOT_FEATURES};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid as _;
use tract_onnx::tract_hir::internal::DimLike as _;

use crate::detector::DetectorError;
use crate::manifest::Manifest;
use crate::sizes;

type State = tract_onnx::tract_core::plan::SimpleState<TypedFact, Box<dyn TypedOp>>;

/// A detector's network under tract.
pub(crate) struct Net {
    plan: Box<State>,
    /// Of its input.
    shape: [usize; 4],
}

impl Net {
    /// Parses a file, settles its shapes, compares them with the manifest's, and makes a plan of it.
    ///
    /// # Errors
    /// [`DetectorError::Model`], [`DetectorError::Shape`].
    pub(crate) fn read(m: &Manifest, path: &Path, bytes: &[u8]) -> Result<Self, DetectorError> {
        let bad = |e: &dyn std::fmt::Display| DetectorError::Model { path: path.to_owned(), reason: format!("{e:#}") };
        let most = sizes::most(3 * m.input.width * m.input.height);
        let typed = settle(bytes, most, |_| Ok(())).map_err(|e| bad(&e))?;
        let shape = |fact: TractResult<&TypedFact>| -> Result<Vec<usize>, DetectorError> {
            let fact = fact.map_err(|e| bad(&e))?;
            fact.shape
                .as_concrete()
                .map(<[usize]>::to_vec)
                .ok_or_else(|| bad(&format!("shape {:?} is open", fact.shape)))
        };
        let input = [1, 3, m.input.height, m.input.width];
        let checks = [
            ("input", shape(typed.input_fact(0))?, input.to_vec()),
            ("output", shape(typed.output_fact(0))?, m.output_shape()),
        ];
        for (what, found, expected) in checks {
            if found != expected {
                return Err(DetectorError::Shape { path: path.to_owned(), what, found, expected });
            }
        }
        let plan = typed.into_optimized().and_then(|m| m.into_runnable()).and_then(|p| p.spawn());
        plan.map(|state| Self { plan: Box::new(state), shape: input }).map_err(|e| bad(&e))
    }

    /// The output for an image `[3][rows][columns]`, in the order of the ONNX output.
    ///
    /// # Errors
    /// [`DetectorError::Run`].
    pub(crate) fn run(&mut self, image: &[f32], out: &mut [f32]) -> Result<(), DetectorError> {
        let bad = |e: TractError| DetectorError::Run(format!("{e:#}"));
        let input = Tensor::from_shape(&self.shape, image).map_err(bad)?;
        let outputs = self.plan.run(tvec!(input.into_tvalue())).map_err(bad)?;
        let Some(first) = outputs.first() else { return Err(DetectorError::Run("no output".into())) };
        let plain = first.try_as_plain_ram().map_err(bad)?;
        let values = plain.as_slice::<f32>().map_err(bad)?;
        if values.len() != out.len() {
            return Err(DetectorError::Run(format!("{} values, not {}", values.len(), out.len())));
        }
        out.copy_from_slice(values);
        Ok(())
    }
}

/// A risk head's network under tract.
pub(crate) struct Head(Box<State>);

impl Head {
    /// Parses a file and makes a plan of it, for a state of so many values.
    ///
    /// # Errors
    /// What tract says.
    pub(crate) fn read(onnx: &[u8], state: usize) -> Result<Self, String> {
        let plan = || -> TractResult<Self> {
            let shapes: [&[usize]; 4] =
                [&[1, RISK_SLOTS, SLOT_FEATURES], &[1, RISK_SLOTS], &[1, GLOBAL_FEATURES], &[1, state]];
            let typed = settle(onnx, sizes::most(0), |model| {
                for (i, shape) in shapes.iter().enumerate() {
                    model.set_input_fact(i, InferenceFact::dt_shape(f32::datum_type(), *shape))?;
                }
                Ok(())
            })?;
            Ok(Self(Box::new(typed.into_optimized()?.into_runnable()?.spawn()?)))
        };
        plan().map_err(|e| format!("{e:#}"))
    }

    /// One step: the state becomes the next one; gives the two probabilities.
    ///
    /// # Errors
    /// What tract says, or outputs of another shape.
    pub(crate) fn step(&mut self, f: &RiskFeatures, state: &mut [f32]) -> Result<[f32; 2], String> {
        let mut mask = [0.0f32; RISK_SLOTS];
        mask.iter_mut().take(f.count).for_each(|m| *m = 1.0);
        let tensor = |shape: &[usize], values: &[f32]| Tensor::from_shape(shape, values).map_err(|e| e.to_string());
        let inputs = tvec![
            tensor(&[1, RISK_SLOTS, SLOT_FEATURES], f.slots.as_flattened())?.into_tvalue(),
            tensor(&[1, RISK_SLOTS], &mask)?.into_tvalue(),
            tensor(&[1, GLOBAL_FEATURES], &f.global)?.into_tvalue(),
            tensor(&[1, state.len()], state)?.into_tvalue(),
        ];
        let outputs = self.0.run(inputs).map_err(|e| format!("{e:#}"))?;
        let read = |i: usize| -> Result<Vec<f32>, String> {
            let value = outputs.get(i).ok_or("an output is missing")?;
            let view = value.to_plain_array_view::<f32>().map_err(|e| e.to_string())?;
            Ok(view.iter().copied().collect())
        };
        let (risk, next) = (read(0)?, read(1)?);
        let risk = <[f32; 2]>::try_from(risk).map_err(|r| format!("{} probabilities instead of 2", r.len()))?;
        if next.len() != state.len() {
            return Err(format!("a state of {} values", next.len()));
        }
        state.copy_from_slice(&next);
        Ok(risk)
    }
}

/// What tract has found out about the tensors of a graph.
///
/// # Errors
/// The node, and the shape.
fn check_facts<F, O>(model: &Graph<F, O>, most: usize, shape: impl Fn(&F) -> Option<Vec<usize>>) -> TractResult<()>
where
    F: Fact + Clone + 'static,
    O: std::fmt::Debug + std::fmt::Display + AsRef<dyn Op> + AsMut<dyn Op> + Clone + 'static,
{
    for node in &model.nodes {
        for outlet in &node.outputs {
            let Some(shape) = shape(&outlet.fact) else { continue };
            let values = shape.iter().try_fold(1usize, |all, d| all.checked_mul(*d));
            if values.is_none_or(|values| values > most) {
                return Err(TractError::msg(format!("{:?} has the shape {shape:?}: at most {most} values", node.name)));
            }
        }
    }
    Ok(())
}

/// The shape of a fact before types are known.
fn inferred(fact: &InferenceFact) -> Option<Vec<usize>> {
    let dims = fact.shape.concretize()?;
    dims.iter().map(|d| d.to_usize().ok()).collect()
}

/// The shape of a fact of a typed graph.
fn typed(fact: &TypedFact) -> Option<Vec<usize>> {
    fact.shape.as_concrete().map(<[usize]>::to_vec)
}

/// A file's graph with types, its inputs named by `inputs`, of sizes that were looked at on the way.
///
/// # Errors
/// What tract says, or the node with too large a tensor.
pub(crate) fn settle(
    bytes: &[u8],
    most: usize,
    inputs: impl FnOnce(&mut InferenceModel) -> TractResult<()>,
) -> TractResult<TypedModel> {
    let mut model = tract_onnx::onnx().model_for_read(&mut &*bytes)?;
    inputs(&mut model)?;
    model.analyse(false)?;
    check_facts(&model, most, inferred)?;
    let model = model.into_typed()?;
    check_facts(&model, most, typed)?;
    Ok(model)
}
