//! Broken checkpoints, adapters and model files: each fault is named, and nothing is left in place.

use std::path::{Path, PathBuf};

use agent_student::convert::gguf::{Header, Type, Writer};
use agent_student::convert::{
    ConvertError, ImportOptions, Preset, describe, export_language, import, shape_tiny, verify, write_random,
};
use serde_json::{Value, json};

use super::convert_fixture::{
    Names, Tensor, archive, config, questions, safetensors, sharded, sharded_torch, surroundings, torch, values,
    weights,
};

/// A whole checkpoint with questions; the tensors can be changed before they are written.
struct Bench {
    dir: tempfile::TempDir,
    tensors: Vec<Tensor>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        surroundings(&dir.path().join("base"), Names::Original);
        Self { dir, tensors: weights(Names::Original) }
    }

    fn base(&self) -> PathBuf {
        self.dir.path().join("base")
    }

    fn write(&self) {
        safetensors(&self.base().join("model.safetensors"), &self.tensors, "F32");
    }

    fn options(&self) -> ImportOptions {
        ImportOptions::new(self.base(), questions(self.dir.path()), Preset::F32)
    }

    /// Imports what must fail: as an input's fault, without anything in place of the output.
    fn refused(&self, options: &ImportOptions) -> String {
        let out = self.dir.path().join("m.gguf");
        let error = import(options, &out, &mut |_, _, _| {}).unwrap_err();
        assert!(error.is_input(), "{error}");
        assert!(!out.exists() && !self.dir.path().join("m.gguf.part").exists(), "{error}");
        error.to_string()
    }

    fn tensor(&mut self, end: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|t| t.0.ends_with(end)).unwrap()
    }
}

fn says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
}

#[test]
fn missing_extra_and_wrongly_shaped_tensors_are_named() {
    let mut b = Bench::new();
    b.tensors.retain(|t| !t.0.ends_with("layers.1.mlp.up_proj.weight"));
    b.write();
    says(&b.refused(&b.options()), &["missing blk.1.ffn_up.weight"]);

    let mut b = Bench::new();
    b.tensors.retain(|t| !t.0.contains("vision_encoder.encoder.layers.0"));
    b.write();
    says(&b.refused(&b.options()), &["missing v.blk.0.ln1.weight", "and 8 more"]);

    let mut b = Bench::new();
    b.tensors.push(("model.layers.0.self_attn.q_norm.weight".into(), vec![64], values("x", 64)));
    b.write();
    says(&b.refused(&b.options()), &["tensor model.layers.0.self_attn.q_norm.weight", "no tensor of the model"]);

    let mut b = Bench::new();
    b.tensors.push(("model.layers.2.input_layernorm.weight".into(), vec![256], values("x", 256)));
    b.write();
    says(&b.refused(&b.options()), &["layers.2.input_layernorm.weight", "a model of this shape does not have"]);

    let mut b = Bench::new();
    b.tensor("layers.0.mlp.down_proj.weight").1.reverse();
    b.write();
    says(&b.refused(&b.options()), &["down_proj.weight", "[512, 256]", "must be [256, 512]"]);

    let mut b = Bench::new();
    let twice = b.tensor("norm1.bias").clone();
    let name = twice.0.replace("vision_encoder.", "vision_encoder.vision_encoder.");
    b.tensors.push((name, twice.1, twice.2));
    b.write();
    says(&b.refused(&b.options()), &["layer_norm1.bias", "and so is"]);
}

#[test]
fn values_that_are_no_numbers_or_fit_no_half_are_named() {
    let mut b = Bench::new();
    b.tensor("layers.0.self_attn.k_proj.weight").2[70] = f32::NAN;
    b.write();
    says(&b.refused(&b.options()), &["layers.0.self_attn.k_proj.weight", "value 70 is not finite"]);

    let mut b = Bench::new();
    b.tensor("readout.0.weight").2[3] = 1e5;
    b.write();
    let options = ImportOptions { preset: Preset::F16, ..b.options() };
    let error = import(&options, &b.dir.path().join("m.gguf"), &mut |_, _, _| {}).unwrap_err().to_string();
    says(&error, &["tensor mm.0.weight", "beyond 16-bit floats"]);
}

#[test]
fn broken_weight_files_are_named() {
    let b = Bench::new();
    says(&b.refused(&b.options()), &["neither model.safetensors nor pytorch_model.bin"]);

    b.write();
    let path = b.base().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for (bytes, part) in [
        (whole[..whole.len() - 1].to_vec(), "the file is cut short"),
        (whole[..header / 2].to_vec(), "a header of"),
        (whole[..3].to_vec(), "model.safetensors"),
        ([&[0xff; 8], &whole[8..]].concat(), "a header of 18446744073709551615 bytes"),
        ([&whole[..8], &vec![b'{'; header][..], &whole[8 + header..]].concat(), "header: "),
    ] {
        std::fs::write(&path, bytes).unwrap();
        says(&b.refused(&b.options()), &["model.safetensors", part]);
    }
    for (shape, range, dtype, part) in [
        (json!([2, 2]), json!([0, 8]), "F32", "[2, 2] takes 16 bytes, its place has 8"),
        (json!([1]), json!([0, 8]), "F32", "[1] takes 4 bytes, its place has 8"),
        (json!([2]), json!([8, 0]), "F32", "data from 8 to 0"),
        (json!([4_294_967_296u64, 4_294_967_296u64]), json!([0, 8]), "F32", "overflows"),
        (json!([2]), json!([0, 8]), "I64", "type I64"),
        (json!([-2]), json!([0, 8]), "F32", "tensor a"),
    ] {
        let header = json!({"a": {"dtype": dtype, "shape": shape, "data_offsets": range}}).to_string();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 8]);
        std::fs::write(&path, bytes).unwrap();
        says(&b.refused(&b.options()), &["model.safetensors", part]);
    }
}

#[test]
fn a_missing_shard_and_a_false_index_are_named() {
    for (stem, suffix) in [("model", "safetensors"), ("pytorch_model", "bin")] {
        let b = Bench::new();
        let write = if suffix == "bin" { sharded_torch } else { sharded };
        write(&b.base(), &b.tensors);
        let index = b.base().join(format!("{stem}.{suffix}.index.json"));
        let good: Value = serde_json::from_str(&std::fs::read_to_string(&index).unwrap()).unwrap();
        let mut false_one = good.clone();
        false_one["weight_map"]["lm_tail.weight"] = json!(format!("{stem}-00001-of-00002.{suffix}"));
        std::fs::write(&index, false_one.to_string()).unwrap();
        says(&b.refused(&b.options()), &["tensor lm_tail.weight: in no shard"]);
        false_one["weight_map"]["lm_tail.weight"] = json!(format!("../{stem}.{suffix}"));
        std::fs::write(&index, false_one.to_string()).unwrap();
        says(&b.refused(&b.options()), &["lm_tail.weight", "no file name"]);
        std::fs::write(&index, good.to_string()).unwrap();
        let second = format!("{stem}-00002-of-00002.{suffix}");
        std::fs::remove_file(b.base().join(&second)).unwrap();
        says(&b.refused(&b.options()), &[second.as_str(), "this shard is missing"]);
    }
}

#[test]
fn hostile_and_broken_archives_are_refused() {
    let b = Bench::new();
    let path = b.base().join("pytorch_model.bin");
    let tensor = |strides: &[u8], storage: &[u8], offset: u8| {
        let mut p = b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\n".to_vec();
        p.extend(storage);
        p.extend(b"\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQK");
        p.push(offset);
        p.extend(b"K\x02K\x02\x86(K");
        p.push(strides[0]);
        p.extend(b"K");
        p.push(strides[1]);
        p.extend(b"t\x89NtRs.");
        p
    };
    let storage: Vec<Tensor> = vec![("a".into(), vec![2, 2], vec![0.0; 4])];
    for (pickle, stored, part) in [
        (b"\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R.".to_vec(), &storage[..], "calls posix.system"),
        (b"\x80\x02}".to_vec(), &storage[..], "ends early"),
        (tensor(&[2, 1], b"FloatStorage", 0), &[], "no storage data/0"),
        (tensor(&[2, 1], b"FloatStorage", 1), &storage[..], "[2, 2] takes 16 bytes, its place has 12"),
        (tensor(&[2, 1], b"FloatStorage", 200), &storage[..], "begins at value 200"),
        (tensor(&[1, 2], b"FloatStorage", 0), &storage[..], "not contiguous"),
        (tensor(&[2, 1], b"CharStorage", 0), &storage[..], "CharStorage"),
        (tensor(&[2, 1], b"FloatStorage", 0), &storage[..], "tensor a: stands for no tensor of the model"),
    ] {
        archive(&path, &pickle, stored);
        says(&b.refused(&b.options()), &["pytorch_model.bin", part]);
    }
    torch(&path, &b.tensors);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    says(&b.refused(&b.options()), &["pytorch_model.bin: PyTorch archive"]);
    std::fs::write(&path, b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.").unwrap();
    says(&b.refused(&b.options()), &["neither a PyTorch archive nor safetensors"]);
}

/// Writes an adapter of one matrix and gives the options that use it.
fn with_adapter(b: &Bench, config: &Value, parts: &[(&str, Vec<usize>)]) -> ImportOptions {
    let folder = b.dir.path().join("adapter");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    let tensors: Vec<Tensor> = parts
        .iter()
        .map(|(n, d)| (format!("base_model.model.{n}"), d.clone(), values(n, d.iter().product())))
        .collect();
    safetensors(&folder.join("adapter_model.safetensors"), &tensors, "F32");
    ImportOptions { adapter: Some(folder), ..b.options() }
}

#[test]
fn adapters_that_cannot_be_merged_are_named() {
    let b = Bench::new();
    b.write();
    let q = "model.layers.0.self_attn.q_proj";
    let (a, up) = (format!("{q}.lora_A.weight"), format!("{q}.lora_B.weight"));
    let good = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8});
    let pair = [(a.as_str(), vec![4, 256]), (up.as_str(), vec![256, 4])];
    let with = |key: &str, value: Value| {
        let mut c = good.clone();
        c[key] = value;
        c
    };
    import(&with_adapter(&b, &good, &pair), &b.dir.path().join("m.gguf"), &mut |_, _, _| {}).unwrap();
    std::fs::remove_file(b.dir.path().join("m.gguf")).unwrap();
    for (config, part) in [
        (with("peft_type", json!("IA3")), "peft_type IA3"),
        (with("fan_in_fan_out", json!(true)), "fan_in_fan_out"),
        (with("bias", json!("all")), "bias = all"),
        (with("lora_bias", json!(true)), "lora_bias"),
        (with("use_dora", json!(true)), "its lora_magnitude_vector is missing"),
        (with("r", json!(8)), "[4, 256], the configuration says rank 8"),
        (with("r", json!(0)), "r = 0"),
        (with("rank_pattern", json!({"q_.*": 4})), "pattern q_.*"),
        (json!({"r": 4}), "peft_type"),
    ] {
        says(&b.refused(&with_adapter(&b, &config, &pair)), &["adapter", part]);
    }
    let layer9 = ["model.layers.9.mlp.up_proj.lora_A.weight", "model.layers.9.mlp.up_proj.lora_B.weight"];
    for (parts, part) in [
        (vec![(layer9[0], vec![4, 256]), (layer9[1], vec![512, 4])], "is for blk.9.ffn_up.weight, which is no matrix"),
        (vec![(a.as_str(), vec![4, 256])], "its lora_B is missing"),
        (vec![(a.as_str(), vec![4, 200]), (up.as_str(), vec![256, 4])], "must be [4, 256]"),
        (vec![(a.as_str(), vec![4, 256]), (up.as_str(), vec![256, 5])], "must be [256, 4]"),
        (vec![("model.layers.0.oops.lora_A.weight", vec![4, 4])], "stands for no tensor"),
        (vec![("model.layers.0.self_attn.q_proj.ia3_l", vec![4])], "stands for no tensor"),
        (vec![], "changes nothing"),
    ] {
        says(&b.refused(&with_adapter(&b, &good, &parts)), &["adapter", part]);
    }
    let norm = "model.layers.0.input_layernorm";
    let (na, nb) = (format!("{norm}.lora_A.weight"), format!("{norm}.lora_B.weight"));
    let parts = [(na.as_str(), vec![4, 1]), (nb.as_str(), vec![256, 4])];
    says(&b.refused(&with_adapter(&b, &good, &parts)), &["is for blk.0.attn_norm.weight, which is no matrix"]);
}

#[test]
fn configurations_and_tokenizers_that_mean_another_model_are_refused() {
    let b = Bench::new();
    b.write();
    let with = |file: &str, at: &str, value: Value| {
        let path = b.base().join(file);
        let before = std::fs::read_to_string(&path).unwrap();
        let mut json: Value = serde_json::from_str(&before).unwrap();
        match json.pointer_mut(at) {
            Some(slot) => *slot = value,
            None => json[at.trim_start_matches('/')] = value,
        }
        std::fs::write(&path, json.to_string()).unwrap();
        let error = b.refused(&b.options());
        std::fs::write(&path, before).unwrap();
        error
    };
    for (at, value, part) in [
        ("/hidden_size", json!("wide"), "hidden_size: \"wide\" is no size"),
        ("/hidden_size", Value::Null, "hidden_size is missing"),
        ("/hidden_act", json!("relu"), "hidden_act: \"relu\" is not supported"),
        ("/rope_scaling", json!({"type": "yarn"}), "rope_scaling"),
        ("/use_sliding_window", json!(true), "use_sliding_window"),
        ("/head_dim", json!(128), "head_dim: 128"),
        ("/num_key_value_heads", json!(3), "head_count_kv"),
        ("/num_hidden_layers", json!(1_000_000), "block_count"),
        ("/vocab_size", json!(520), "[512, 256]"),
        ("/image_token_index", json!(512), "image.token_id"),
        ("/vision_encoder_config/num_attention_heads", Value::Null, "num_attention_heads of the vision tower"),
        ("/vision_encoder_config/hidden_act", json!("gelu"), "hidden_act: \"gelu\""),
    ] {
        says(&with("config.json", at, value), &[part]);
    }
    for (at, value, part) in [
        ("/pre_tokenizer/pretokenizers/0/pattern/Regex", json!("\\s+"), "it splits by \\s+"),
        ("/pre_tokenizer", Value::Null, "does not split by a pattern"),
        ("/normalizer", Value::Null, "normaliser none"),
        ("/model/type", json!("WordPiece"), "a WordPiece model"),
        ("/model/merges/0", json!("a b c"), "merge 0 is not two parts"),
        ("/model/vocab/a", json!(-1), "token a: -1 is no id"),
        ("/model/vocab/a", json!(98), "have the same id 98"),
        ("/model/vocab/a", json!(70_000), "token a has id 70000, the embedding has 512 rows"),
    ] {
        says(&with("tokenizer.json", at, value), &["base", part]);
    }
    says(&with("tokenizer_config.json", "/eos_token", json!("<end>")), &["eos_token <end> is no token"]);
    says(&with("preprocessor_config.json", "/image_mean", json!([0.5, 0.5])), &["image_mean", "not three numbers"]);
    says(&with("preprocessor_config.json", "/image_std", Value::Null), &["only one of image_mean and image_std"]);
    std::fs::write(b.base().join("config.json"), "{").unwrap();
    says(&b.refused(&b.options()), &["config.json", "line 1"]);
    std::fs::write(b.base().join("config.json"), config(Names::Original).to_string()).unwrap();
    std::fs::remove_file(b.base().join("tokenizer.json")).unwrap();
    says(&b.refused(&b.options()), &["neither tokenizer.json nor vocab.json"]);
}

#[test]
fn questions_answers_and_windows_that_a_student_would_refuse_are_not_imported() {
    let b = Bench::new();
    b.write();
    let with_causes = |answers: Vec<String>| {
        let path = b.dir.path().join("other.json");
        let tasks = ["recognition", "description", "cause", "prevention", "localization", "pre_crash"];
        let prompts: serde_json::Map<String, Value> = tasks.iter().map(|t| ((*t).to_owned(), json!("What?"))).collect();
        std::fs::write(&path, json!({"prompts": prompts, "codebook": {"cause": answers}}).to_string()).unwrap();
        ImportOptions { prompts: path, ..b.options() }
    };
    let many = (0..1025).map(|i| format!("cause {i}")).collect();
    says(&b.refused(&with_causes(many)), &["other.json: cause: 1025 known answers, at most 1024"]);
    says(&b.refused(&with_causes(vec!["x".repeat(2049)])), &["cause: a known answer of 2049 bytes"]);
    // The bench's vocabulary merges little: as many tokens as bytes.
    let long = "zq".repeat(400);
    says(&b.refused(&with_causes(vec![long])), &["other.json", "tokens of a known answer"]);
    let mut wide = b.options();
    (wide.window.width, wide.window.height) = (1280, 720);
    says(&b.refused(&wide), &["student.window", "1280x720", "1048576"]);
    import(&with_causes(vec!["too fast".into()]), &b.dir.path().join("m.gguf"), &mut |_, _, _| {}).unwrap();
}

/// A model file with one change to its bytes.
fn broken(path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> ConvertError {
    let before = std::fs::read(path).unwrap();
    let mut bytes = before.clone();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
    let error = verify(path).unwrap_err();
    std::fs::write(path, before).unwrap();
    assert!(error.is_input(), "{error}");
    error
}

#[test]
fn broken_model_files_are_refused_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    write_random(&shape_tiny(), 1, Preset::Q4K, &path).unwrap();
    let header = Header::read(&path).unwrap();
    let place = |name: &str| header.tensors.iter().find(|t| t.name == name).unwrap().offset as usize;
    let last = header.tensors.last().unwrap();
    let end = (last.offset + last.bytes) as usize;

    let at = place("blk.0.ffn_up.weight");
    says(&broken(&path, |b| b[at + 40] ^= 1).to_string(), &["the weights hash to", "student.weights.sha256 says"]);
    let nan = broken(&path, |b| b[at + 144 + 1] = 0x7c).to_string();
    says(&nan, &["tensor blk.0.ffn_up.weight: block 1 holds what is not a number"]);
    assert!(describe(&path).is_ok());
    says(&broken(&path, |b| b.truncate(end - 1)).to_string(), &["tensor mm.2.bias", "runs past the end of the file"]);
    says(&broken(&path, |b| b.truncate(1000)).to_string(), &["m.gguf: byte ", "bytes wanted, ", "left of the header"]);
    says(&broken(&path, |b| b.extend([0; 64])).to_string(), &["bytes after the last tensor"]);
    says(&broken(&path, |b| b[0] = b'X').to_string(), &["byte 0: no GGUF"]);
    says(&broken(&path, |b| b[4] = 9).to_string(), &["byte 4: version 9"]);
    says(&broken(&path, |b| b[8..16].fill(0xff)).to_string(), &["18446744073709551615 tensors"]);
    let name = |text: &[u8]| {
        let bytes = std::fs::read(&path).unwrap();
        bytes.windows(text.len()).position(|w| w == text).unwrap()
    };
    let renamed = |from: &[u8], to: &[u8]| {
        let at = name(from);
        broken(&path, |b| b[at..at + to.len()].copy_from_slice(to)).to_string()
    };
    says(&renamed(b"blk.1.attn_q.bias", b"blk.1.attn_x.bias"), &["missing blk.1.attn_q.bias"]);
    says(&renamed(b"blk.1.attn_q.bias", b"blk.1.attn_k.bias"), &["tensor blk.1.attn_k.bias: stands twice"]);
    says(&renamed(b"student.format", b"student.farmat"), &["without student.format"]);
    says(
        &renamed(b"student.prompt.cause", b"student.prompt.clause"[..20].as_ref()),
        &["student.prompt.cause is missing"],
    );
    says(&renamed(b"student.input.objects", b"student.input.0bjects"), &["student.input.objects"]);
    says(&renamed(b"<|im_start|>", b"<|im_stark|>"), &["<|im_start|>"]);
    let offset = name(b"token_embd.weight") + 17 + 4 + 16 + 4;
    says(&broken(&path, |b| b[offset] = 1).to_string(), &["tensor token_embd.weight", "no multiple of 32"]);
    let second = name(b"blk.0.attn_norm.weight") + 22 + 4 + 8 + 4;
    says(&broken(&path, |b| b[second..second + 8].fill(0)).to_string(), &["blk.0.attn_norm.weight", "overlaps"]);
    verify(&path).unwrap();
}

#[test]
fn every_cut_of_a_header_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (path, cut) = (dir.path().join("m.gguf"), dir.path().join("cut.gguf"));
    write_random(&shape_tiny(), 1, Preset::Q8_0, &path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let data = Header::read(&path).unwrap().tensors[0].offset as usize;
    for n in (0..data).step_by(97) {
        std::fs::write(&cut, &bytes[..n]).unwrap();
        assert!(Header::read(&cut).is_err(), "{n} bytes");
        assert!(export_language(&cut, &dir.path().join("out")).is_err());
    }
    assert!(!dir.path().join("out").exists());
}

#[test]
fn a_tensor_that_the_plan_does_not_fit_is_refused_before_writing() {
    let dir = tempfile::tempdir().unwrap();
    let planned = vec![agent_student::convert::gguf::Planned { name: "a".into(), dims: vec![2, 100], kind: Type::Q4K }];
    let error = Writer::create(&dir.path().join("m"), &[], &planned).unwrap_err().to_string();
    says(&error, &["tensor a: [2, 100] cannot be stored as q4_k"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
