//! Tiny checkpoints made on the spot: weights from a formula, in every format and naming that the importer reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use agent_student::convert::random::byte_tokens;
use agent_student::convert::tensors::{shape_tiny, tensors};
use agent_student::convert::tokens::QWEN2_PATTERN;
use agent_student::shape::ModelShape;
use serde_json::json;

/// Name, dimensions and values of a tensor.
pub(crate) type Tensor = (String, Vec<usize>, Vec<f32>);

/// Who names the tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// VideoLLaMA3's own code.
    Original,
    /// Its port in transformers.
    HuggingFace,
    /// CrashChat's merged files.
    Merged,
}

/// Values between -1 and 1 that depend on a name, and that 16-bit floats hold exactly.
pub(crate) fn values(name: &str, n: usize) -> Vec<f32> {
    let seed = name.bytes().fold(17u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
    (0..n as u64)
        .map(|i| {
            let z = (seed ^ i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            ((z >> 53) as f32 - 1024.0) / 1024.0
        })
        .collect()
}

/// The shape that the fixtures have; untied, so that every tensor is there.
pub(crate) fn shape() -> ModelShape {
    let mut shape = shape_tiny();
    shape.text.tied = false;
    shape
}

/// A tensor's foreign name.
pub(crate) fn foreign(ours: &str, names: Names) -> String {
    let (vision, projector, text) = match names {
        Names::Original => ("model.vision_encoder.", "model.mm_projector.readout.", "model."),
        Names::HuggingFace => ("model.vision_model.", "model.projector.readout.", "model.language_model."),
        Names::Merged => ("vision_encoder.vision_encoder.", "model.mm_projector.readout.", "model."),
    };
    if let Some(rest) = ours.strip_prefix("mm.") {
        return format!("{projector}{rest}");
    }
    if let Some(rest) = ours.strip_prefix("v.") {
        let rest = [
            ("patch_embd", "embeddings.patch_embedding"),
            ("post_ln", "post_layernorm"),
            ("blk.", "encoder.layers."),
            ("ln1", "layer_norm1"),
            ("ln2", "layer_norm2"),
            ("attn_out", "self_attn.out_proj"),
            ("ffn_up", "mlp.fc1"),
            ("ffn_down", "mlp.fc2"),
        ]
        .iter()
        .fold(rest.to_owned(), |r, (a, b)| r.replace(a, b));
        let rest =
            ["q", "k", "v"].iter().fold(rest, |r, x| r.replace(&format!("attn_{x}."), &format!("self_attn.{x}_proj.")));
        return format!("{vision}{rest}");
    }
    match ours {
        "output.weight" => return "lm_head.weight".into(),
        "output_norm.weight" => return format!("{text}norm.weight"),
        "token_embd.weight" => return format!("{text}embed_tokens.weight"),
        _ => {}
    }
    let rest = [
        ("blk.", "layers."),
        ("attn_norm", "input_layernorm"),
        ("ffn_norm", "post_attention_layernorm"),
        ("attn_output", "self_attn.o_proj"),
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("ffn_gate", "mlp.gate_proj"),
        ("ffn_up", "mlp.up_proj"),
        ("ffn_down", "mlp.down_proj"),
    ]
    .iter()
    .fold(ours.to_owned(), |r, (a, b)| r.replace(a, b));
    format!("{text}{rest}")
}

/// All tensors of the fixture's shape under foreign names; the patch convolution with its four dimensions.
pub(crate) fn weights(names: Names) -> Vec<Tensor> {
    tensors(&shape())
        .into_iter()
        .map(|t| {
            let all = values(&t.name, t.dims.iter().product());
            let dims = if t.name == "v.patch_embd.weight" { vec![t.dims[0], 3, 14, 14] } else { t.dims };
            (foreign(&t.name, names), dims, all)
        })
        .collect()
}

/// `config.json` in the form of the naming.
pub(crate) fn config(names: Names) -> serde_json::Value {
    let s = shape();
    let mut text = json!({
        "model_type": "qwen2", "hidden_size": s.text.hidden, "intermediate_size": s.text.ffn,
        "num_hidden_layers": s.text.layers, "num_attention_heads": s.text.heads,
        "num_key_value_heads": s.text.kv_heads, "vocab_size": s.text.vocab, "max_position_embeddings": 4096,
        "rope_theta": 1e6, "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "hidden_act": "silu",
    });
    let vision = json!({
        "hidden_size": s.vision.hidden, "intermediate_size": s.vision.ffn,
        "num_hidden_layers": s.vision.layers, "num_attention_heads": s.vision.heads, "patch_size": 14,
        "layer_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh",
    });
    if names == Names::HuggingFace {
        text["rope_theta"] = serde_json::Value::Null;
        text["rope_parameters"] = json!({"rope_theta": 1e6, "rope_type": "default"});
        return json!({"model_type": "video_llama_3", "image_token_id": 509, "text_config": text,
            "vision_config": vision});
    }
    text["image_token_index"] = json!(509);
    text["vision_encoder_config"] = vision;
    text
}

/// Everything of a checkpoint but its weights, and the questions beside it.
pub(crate) fn surroundings(folder: &Path, names: Names) {
    std::fs::create_dir_all(folder).unwrap();
    let write = |name: &str, value: &serde_json::Value| std::fs::write(folder.join(name), value.to_string()).unwrap();
    write("config.json", &config(names));
    write("preprocessor_config.json", &json!({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}));
    write("tokenizer.json", &tokenizer());
    write("tokenizer_config.json", &json!({"eos_token": "<|im_end|>", "pad_token": {"content": "<|endoftext|>"}}));
    std::fs::write(folder.join("README.md"), "---\nlicense: apache-2.0\n---\n# tiny\n").unwrap();
}

fn tokenizer() -> serde_json::Value {
    let table = byte_tokens(shape().text.vocab).unwrap();
    let (mut vocab, mut added) = (serde_json::Map::new(), Vec::new());
    for (id, (text, kind)) in table.tokens.iter().zip(&table.kinds).enumerate() {
        if *kind == 3 {
            added.push(json!({"id": id, "content": text, "special": true}));
        } else {
            vocab.insert(text.clone(), json!(id));
        }
    }
    json!({
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": QWEN2_PATTERN}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false},
        ]},
        "added_tokens": added,
        "model": {"type": "BPE", "vocab": vocab, "merges": table.merges},
    })
}

/// A file of questions in the small form; its path.
pub(crate) fn questions(folder: &Path) -> PathBuf {
    let path = folder.join("questions.toml");
    let mut text = String::from("[prompts]\n");
    for task in ["recognition", "description", "cause", "prevention", "localization", "pre_crash"] {
        writeln!(text, "{task} = \"what of {task}?\"").unwrap();
    }
    text.push_str("[codebook]\ndescription = [\"no collision.\", \"car hits car.\"]\ncause = [\"none\"]\n");
    std::fs::write(&path, text).unwrap();
    path
}

/// Writes safetensors with the given type: F32, F16 or BF16.
pub(crate) fn safetensors(path: &Path, tensors: &[Tensor], dtype: &str) {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut data = Vec::new();
    for (name, dims, values) in tensors {
        let from = data.len();
        for v in values {
            match dtype {
                "F32" => data.extend(v.to_le_bytes()),
                "F16" => data.extend(half::f16::from_f32(*v).to_le_bytes()),
                _ => data.extend(half::bf16::from_f32(*v).to_le_bytes()),
            }
        }
        header.insert(name.clone(), json!({"dtype": dtype, "shape": dims, "data_offsets": [from, data.len()]}));
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    file.write_all(&data).unwrap();
}

/// Writes two shards of safetensors and their index.
pub(crate) fn sharded(folder: &Path, tensors: &[Tensor]) {
    shards(folder, "model", "safetensors", tensors, |path, shard| safetensors(path, shard, "F32"));
}

/// Writes two shards of PyTorch archives and their index, as checkpoints from before safetensors have them.
pub(crate) fn sharded_torch(folder: &Path, tensors: &[Tensor]) {
    shards(folder, "pytorch_model", "bin", tensors, torch);
}

fn shards(folder: &Path, stem: &str, suffix: &str, tensors: &[Tensor], write: impl Fn(&Path, &[Tensor])) {
    let mut map = BTreeMap::new();
    let (first, second) = tensors.split_at(tensors.len() / 3);
    for (i, shard) in [first, second].into_iter().enumerate() {
        let name = format!("{stem}-0000{}-of-00002.{suffix}", i + 1);
        shard.iter().for_each(|t| drop(map.insert(t.0.clone(), name.clone())));
        write(&folder.join(&name), shard);
    }
    let index = json!({"metadata": {}, "weight_map": map});
    std::fs::write(folder.join(format!("{stem}.{suffix}.index.json")), index.to_string()).unwrap();
}

/// Writes a PyTorch archive as `torch.save` does: protocol 2, one storage a tensor, an ordered dictionary.
pub(crate) fn torch(path: &Path, tensors: &[Tensor]) {
    let mut p = b"\x80\x02ccollections\nOrderedDict\n)Rq\x00(".to_vec();
    let text = |p: &mut Vec<u8>, s: &str| {
        p.push(b'X');
        p.extend((s.len() as u32).to_le_bytes());
        p.extend(s.as_bytes());
    };
    let int = |p: &mut Vec<u8>, n: usize| {
        p.push(b'J');
        p.extend((n as i32).to_le_bytes());
    };
    for (i, (name, dims, values)) in tensors.iter().enumerate() {
        text(&mut p, name);
        p.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut p, "storage");
        p.extend(b"ctorch\nFloatStorage\n");
        text(&mut p, &i.to_string());
        text(&mut p, "cpu");
        int(&mut p, values.len());
        p.extend(b"tQK\x00(");
        dims.iter().for_each(|d| int(&mut p, *d));
        p.extend(b"t(");
        (0..dims.len()).for_each(|k| int(&mut p, dims[k + 1..].iter().product()));
        p.extend(b"t\x89ccollections\nOrderedDict\n)RtR");
    }
    p.extend(b"u}X\x09\0\0\0_metadataK\x01sb.");
    archive(path, &p, tensors);
}

/// The archive around a pickle.
pub(crate) fn archive(path: &Path, pickle: &[u8], tensors: &[Tensor]) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("archive/data.pkl", options).unwrap();
    zip.write_all(pickle).unwrap();
    zip.start_file("archive/byteorder", options).unwrap();
    zip.write_all(b"little").unwrap();
    for (i, (_, _, values)) in tensors.iter().enumerate() {
        zip.start_file(format!("archive/data/{i}"), options).unwrap();
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        zip.write_all(&bytes).unwrap();
    }
    zip.finish().unwrap();
}

/// The values of a tensor in a model file, dequantised by candle.
pub(crate) fn dequantised(path: &Path, name: &str) -> Vec<f32> {
    let mut file = std::fs::File::open(path).unwrap();
    let content = candle_core::quantized::gguf_file::Content::read(&mut file).unwrap();
    let tensor = content.tensor(&mut file, name, &candle_core::Device::Cpu).unwrap();
    tensor.dequantize(&candle_core::Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}
