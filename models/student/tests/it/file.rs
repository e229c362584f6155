//! Model files that are damaged or hostile: an error that names the place, never a fall.

use std::path::{Path, PathBuf};

use agent_student::{
    error::StudentError,
    file::ModelFile,
    llm::{Room, candle::CandleLanguage},
    vision::Vision,
};
use candle_core::{Device, quantized::GgmlDType};

use crate::tiny::{TINY, hashes};

/// A GGUF by hand.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn head(tensors: u64, meta: u64) -> Self {
        Self::default().raw(b"GGUF").u32(3).u64(tensors).u64(meta)
    }
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
    fn u32(self, n: u32) -> Self {
        self.raw(&n.to_le_bytes())
    }
    fn u64(self, n: u64) -> Self {
        self.raw(&n.to_le_bytes())
    }
    fn text(self, text: &str) -> Self {
        self.u64(text.len() as u64).raw(text.as_bytes())
    }
    fn tensor(self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Self {
        let head = self.text(name).u32(dims.len() as u32);
        dims.iter().rev().fold(head, |bytes, dim| bytes.u64(*dim)).u32(kind).u64(offset)
    }
    fn pad(mut self, len: usize) -> Self {
        self.0.resize(len, 0);
        self
    }
}

fn open(folder: &Path, bytes: &[u8]) -> Result<ModelFile, StudentError> {
    let path = folder.join("file.gguf");
    std::fs::write(&path, bytes).unwrap();
    ModelFile::open(&path)
}

#[test]
fn each_fault_names_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let huge = 1 << 60;
    let cases = [
        ("nothing", Bytes::default(), "byte 0"),
        ("another format", Bytes::default().raw(b"GGML").pad(64), "no GGUF"),
        ("version", Bytes::default().raw(b"GGUF").u32(1).pad(64), "version 1"),
        ("tensors", Bytes::head(huge, 0).pad(64), "tensors, at most"),
        ("entries", Bytes::head(0, huge).pad(64), "metadata entries, at most"),
        ("a long key", Bytes::head(0, 1).u64(huge).pad(64), "bytes of text, at most"),
        ("a key past the end", Bytes::head(0, 1).u64(200), "200 bytes wanted"),
        ("no UTF-8", Bytes::head(0, 1).u64(2).raw(&[0xC3, 0x28]).u32(0).pad(64), "no UTF-8"),
        ("a value type", Bytes::head(0, 1).text("k").u32(13).pad(64), "value type 13"),
        ("a truth value", Bytes::head(0, 1).text("k").u32(7).raw(&[2]).pad(64), "truth value 2"),
        ("an array past the end", Bytes::head(0, 1).text("k").u32(9).u32(0).u64(1 << 20), "bytes wanted"),
        ("a huge array", Bytes::head(0, 1).text("k").u32(9).u32(0).u64(huge), "array entries"),
        ("nested arrays", Bytes::head(0, 1).text("k").u32(9).u32(9).u64(1).pad(64), "array of arrays"),
        ("a key twice", Bytes::head(0, 2).text("k").u32(4).u32(1).text("k").u32(4).u32(1), "key k stands twice"),
        ("alignment 0", Bytes::head(0, 1).text("general.alignment").u32(4).u32(0), "general.alignment"),
        ("no dimension", Bytes::head(1, 0).tensor("t", &[], 0, 0).pad(99), "tensor t: 0 dimensions"),
        ("five dimensions", Bytes::head(1, 0).tensor("t", &[1; 5], 0, 0).pad(99), "tensor t: 5 dimensions"),
        ("a storage type", Bytes::head(1, 0).tensor("t", &[1], 99, 0).pad(99), "storage type 99"),
        ("an overflow", Bytes::head(1, 0).tensor("t", &[1 << 40, 1 << 40], 0, 0).pad(99), "too large"),
        ("an empty tensor", Bytes::head(1, 0).tensor("t", &[0, 32], 8, 0).pad(99), "empty"),
        ("half a block", Bytes::head(1, 0).tensor("t", &[2, 33], 8, 0).pad(99), "rows of 33"),
        ("an odd offset", Bytes::head(1, 0).tensor("t", &[1], 0, 7).pad(99), "offset 7"),
        ("past the end", Bytes::head(1, 0).tensor("t", &[64], 0, 0).pad(200), "past the end"),
        ("an offset near the end of numbers", Bytes::head(1, 0).tensor("t", &[64], 0, !31).pad(200), "past the end"),
        (
            "a tensor twice",
            Bytes::head(2, 0).tensor("t", &[1], 0, 0).tensor("t", &[1], 0, 32).pad(200),
            "tensor t: stands twice",
        ),
        (
            "an overlap",
            Bytes::head(2, 0).tensor("t", &[16], 0, 0).tensor("u", &[1], 0, 32).pad(300),
            "tensor u: overlaps t",
        ),
    ];
    for (name, bytes, words) in cases {
        let fault = open(folder.path(), &bytes.0).expect_err(name).to_string();
        assert!(fault.contains(words), "{name}: {fault}");
    }
    assert!(matches!(ModelFile::open(&PathBuf::from("/nowhere/x.gguf")), Err(StudentError::Io { .. })));
}

#[test]
fn a_file_cut_or_flipped_anywhere_never_falls() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.gguf");
    TINY.write(&whole, |_| GgmlDType::F16);
    let bytes = std::fs::read(&whole).unwrap();
    let header = ModelFile::open(&whole).unwrap().data_start() as usize;
    for len in (0..header).step_by(61).chain([header, bytes.len() - 1]) {
        assert!(open(folder.path(), &bytes[..len]).is_err(), "cut to {len}");
    }
    let (mut refused, mut flips) = (0, 0);
    let small = &bytes[..header];
    for (i, random) in hashes("flips", 1500).enumerate() {
        let mut flipped = small.to_vec();
        flipped[random as usize % header] ^= 1 << (random >> 61);
        if i % 3 == 0 {
            flipped[(random >> 20) as usize % header] = (random >> 40) as u8;
        }
        // The data is a hole of the right size: only the header is read until a tensor is asked for.
        let path = folder.path().join("flipped.gguf");
        std::fs::write(&path, &flipped).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(bytes.len() as u64).unwrap();
        flips += 1;
        refused += usize::from(ModelFile::open(&path).and_then(|file| file.shape()).is_err());
    }
    println!("{refused} of {flips} flipped headers refused");
    assert!(refused > flips / 4);
}

/// The tiny model with its metadata and tensors changed by hand.
fn changed(folder: &Path, change: impl Fn(&mut Vec<u8>)) -> Result<(), StudentError> {
    let path = folder.join("whole.gguf");
    TINY.write(&path, |_| GgmlDType::F32);
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    let file = open(folder, &bytes)?;
    CandleLanguage::load(&file, Room { prefix: 8, branches: 1, branch: 8 }, &Device::Cpu)?;
    Vision::load(&file, &Device::Cpu).map(|_| ())
}

/// Replaces one name by another of the same length.
fn rename(bytes: &mut [u8], from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
}

#[test]
fn missing_or_misshapen_parts_are_named() {
    let folder = tempfile::tempdir().unwrap();
    changed(folder.path(), |_| ()).unwrap();
    for name in ["blk.2.attn_k.bias", "blk.0.ffn_gate.weight", "output_norm.weight", "token_embd.weight"] {
        let other = name.replace('.', "_");
        let fault = changed(folder.path(), |bytes| rename(bytes, &format!("\0{name}"), &format!("\0{other}")));
        assert!(fault.unwrap_err().to_string().contains(name), "{name}");
    }
    for (name, other) in [("v.blk.1.ffn_down.weight", "v.blk.9.ffn_down.weight"), ("mm.2.bias", "mm.3.bias")] {
        let fault = changed(folder.path(), |bytes| rename(bytes, &format!("\0{name}"), &format!("\0{other}")));
        assert!(fault.unwrap_err().to_string().contains(name), "{name}");
    }
    for (key, value, words) in [
        ("student.vision.heads", 5, "student.vision.heads: 96 is no multiple"),
        ("student.vision.layers", 4, "v.blk.3"),
        ("student.format", 2, "student.format: not 1"),
        ("qwen2.block_count", 0, "qwen2.block_count: 0"),
        ("qwen2.block_count", u32::MAX, "qwen2.block_count"),
        ("qwen2.attention.head_count", 3, "qwen2.attention.head_count"),
        ("qwen2.context_length", 12, "positions: 16 asked for, at most 12"),
        ("qwen2.feed_forward_length", 360, "blk.0.ffn_gate.weight: shaped [352, 128], expected [360, 128]"),
        ("student.image.token_id", 512, "student.image.token_id"),
    ] {
        let set = |bytes: &mut Vec<u8>| {
            let mark = [&(key.len() as u64).to_le_bytes()[..], key.as_bytes()].concat();
            let at = bytes.windows(mark.len()).position(|part| part == mark).unwrap() + mark.len() + 4;
            bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
        };
        let fault = changed(folder.path(), set).unwrap_err().to_string();
        assert!(fault.contains(words), "{key} {value}: {fault}");
    }
}

#[test]
fn candles_own_reader_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("whole.gguf");
    TINY.write(&path, |name| if name.starts_with("v.") { GgmlDType::F16 } else { GgmlDType::Q8_0 });
    let ours = ModelFile::open(&path).unwrap();
    let mut from = std::fs::File::open(&path).unwrap();
    let theirs = candle_core::quantized::gguf_file::Content::read(&mut from).unwrap();
    assert_eq!(ours.meta().len(), theirs.metadata.len());
    assert_eq!(ours.names().count(), theirs.tensor_infos.len());
    for name in ours.names() {
        let tensor = theirs.tensor(&mut from, name, &Device::Cpu).unwrap();
        assert_eq!(ours.info(name).unwrap().dims, tensor.shape().dims(), "{name}");
        assert_eq!(ours.bytes(name).unwrap(), &*tensor.data().unwrap(), "{name}");
    }
    let values: usize = TINY.tensors().iter().map(|(_, dims)| dims.iter().product::<usize>()).sum();
    assert_eq!(ours.parameters(), values as u64);
}
