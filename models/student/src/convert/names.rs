//! The names of others for the tensors of a model file.
//!
//! Read are the names of VideoLLaMA3's own code (`model.vision_encoder.*`, `model.mm_projector.*`, `model.layers.*`),
//! of its port in transformers (`model.vision_model.*`, `model.projector.*`, `model.language_model.layers.*`) and of
//! CrashChat's merged files (`vision_encoder.vision_encoder.*`). Pure text.

/// What a foreign name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A tensor of the model file.
    Tensor(String),
    /// A table that some versions save and that follows from the shape.
    Derived,
    /// Nothing of ours.
    Unknown,
}

/// Resolves a name of a checkpoint, or of an adapter once its own endings are taken off.
pub fn resolve(name: &str) -> Named {
    if name.ends_with("rotary_emb.inv_freq") || name.ends_with("embeddings.position_ids") {
        return Named::Derived;
    }
    resolved(name).map_or(Named::Unknown, Named::Tensor)
}

fn resolved(name: &str) -> Option<String> {
    let mut rest = name.strip_prefix("base_model.").unwrap_or(name);
    // PEFT puts its own `model.` before those of the model.
    while let Some(shorter) = rest.strip_prefix("model.") {
        rest = shorter;
    }
    if let Some(projector) = rest.strip_prefix("mm_projector.").or_else(|| rest.strip_prefix("projector.")) {
        let (layer, part) = projector.strip_prefix("readout.")?.split_once('.')?;
        return (matches!(layer, "0" | "2") && kind(part)).then(|| format!("mm.{layer}.{part}"));
    }
    if let Some(vision) = rest.strip_prefix("vision_encoder.").or_else(|| rest.strip_prefix("vision_model.")) {
        return vision_tensor(vision.strip_prefix("vision_encoder.").unwrap_or(vision));
    }
    if let Some(text) = rest.strip_prefix("language_model.") {
        rest = text.strip_prefix("model.").unwrap_or(text);
    }
    text_tensor(rest)
}

fn kind(part: &str) -> bool {
    matches!(part, "weight" | "bias")
}

/// `layers.N.rest` to `(N, rest)`; N without leading zeros, so that each tensor has one name.
fn layer(name: &str) -> Option<(u32, &str)> {
    let (number, rest) = name.strip_prefix("layers.")?.split_once('.')?;
    let n = number.parse().ok()?;
    (format!("{n}") == number).then_some((n, rest))
}

fn text_tensor(name: &str) -> Option<String> {
    match name {
        "embed_tokens.weight" => return Some("token_embd.weight".into()),
        "norm.weight" => return Some("output_norm.weight".into()),
        "lm_head.weight" => return Some("output.weight".into()),
        _ => {}
    }
    let (n, rest) = layer(name)?;
    let (module, part) = rest.rsplit_once('.')?;
    let ours = match module {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    kind(part).then(|| format!("blk.{n}.{ours}.{part}"))
}

fn vision_tensor(name: &str) -> Option<String> {
    let (module, part) = name.rsplit_once('.')?;
    if !kind(part) {
        return None;
    }
    match module {
        "embeddings.patch_embedding" => return Some(format!("v.patch_embd.{part}")),
        "post_layernorm" => return Some(format!("v.post_ln.{part}")),
        _ => {}
    }
    let (n, module) = layer(module.strip_prefix("encoder.")?)?;
    let ours = match module {
        "layer_norm1" => "ln1",
        "layer_norm2" => "ln2",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.out_proj" => "attn_out",
        "mlp.fc1" => "ffn_up",
        "mlp.fc2" => "ffn_down",
        _ => return None,
    };
    Some(format!("v.blk.{n}.{ours}.{part}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_schemes_name_the_same_tensors() {
        for (ours, theirs) in [
            ("token_embd.weight", ["model.embed_tokens.weight", "model.language_model.embed_tokens.weight", ""]),
            ("output.weight", ["lm_head.weight", "language_model.lm_head.weight", ""]),
            (
                "blk.11.attn_k.bias",
                [
                    "model.layers.11.self_attn.k_proj.bias",
                    "model.language_model.layers.11.self_attn.k_proj.bias",
                    "base_model.model.model.layers.11.self_attn.k_proj.bias",
                ],
            ),
            (
                "v.blk.0.ffn_down.weight",
                [
                    "model.vision_encoder.encoder.layers.0.mlp.fc2.weight",
                    "model.vision_model.encoder.layers.0.mlp.fc2.weight",
                    "vision_encoder.vision_encoder.encoder.layers.0.mlp.fc2.weight",
                ],
            ),
            (
                "v.patch_embd.weight",
                [
                    "model.vision_encoder.vision_encoder.embeddings.patch_embedding.weight",
                    "model.vision_model.embeddings.patch_embedding.weight",
                    "vision_encoder.embeddings.patch_embedding.weight",
                ],
            ),
            (
                "mm.2.bias",
                [
                    "model.mm_projector.readout.2.bias",
                    "model.projector.readout.2.bias",
                    "base_model.model.model.mm_projector.readout.2.bias",
                ],
            ),
        ] {
            for name in theirs.into_iter().filter(|n| !n.is_empty()) {
                assert_eq!(resolve(name), Named::Tensor(ours.into()), "{name}");
            }
        }
        assert_eq!(resolve("model.layers.0.self_attn.rotary_emb.inv_freq"), Named::Derived);
        for unknown in [
            "model.layers.01.mlp.up_proj.weight",
            "model.layers.x.mlp.up_proj.weight",
            "model.layers.0.self_attn.q_norm.weight",
            "model.mm_projector.readout.1.weight",
            "model.vision_encoder.head.probe",
            "weight",
            "",
        ] {
            assert_eq!(resolve(unknown), Named::Unknown, "{unknown}");
        }
    }
}
