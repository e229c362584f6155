//! ONNX files of the detector and the risk head, each under a manifest that names its hash: any bytes give a model that runs, or an
//! error. The first byte chooses the manifest.
//!
//! tract may panic on a hostile file; the product catches that, and so it is no finding here.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::Path;

use agent_models::{Detector, Engine, Manifest, RiskHead};
use sha2::{Digest as _, Sha256};

use super::manifest::text;
use super::memory_file::MemoryFile;

pub fn judge(data: &[u8]) {
    thread_local! {
        static FILES: RefCell<[MemoryFile; 2]> = RefCell::new([MemoryFile::new(), MemoryFile::new()]);
        static DETECTORS: [Manifest; 2] = ["yolox", "fastestdet"].map(|family| {
            Manifest::parse(Path::new("hostile.toml"), &text(family)).expect("a sound manifest")
        });
    }
    let Some((choice, onnx)) = data.split_first() else { return };
    FILES.with_borrow_mut(|[model, manifest]| {
        model.put(onnx);
        match choice % 3 {
            family @ 0..2 => {
                let mut manifest = DETECTORS.with(|manifests| manifests[usize::from(family)].clone());
                manifest.sha256 = Sha256::digest(onnx).into();
                // As a program without tract would, with a probe file that lies: nothing is asked before.
                let lowers = Detector::lowers(&manifest, onnx);
                assert!(lowers.is_err(), "nobody says what is no number");
                detector(manifest, &model.path());
            }
            _ => {
                let hash = Sha256::digest(onnx).iter().fold(String::new(), |mut text, byte| {
                    let _ = write!(text, "{byte:02x}");
                    text
                });
                let path = model.path();
                let file = path.file_name().and_then(|name| name.to_str()).expect("a number");
                let head = format!(
                    "file = \"{file}\"\nsha256 = \"{hash}\"\nfeatures = 1\nstate = 4\nlicence = \"x\"\nsource = \"y\"\n"
                );
                manifest.put(head.as_bytes());
                if let Err(error) = RiskHead::load(&manifest.path()) {
                    assert!(error.to_string().contains("/proc/self/fd/"), "{error}");
                }
            }
        }
    });
}

fn detector(manifest: Manifest, path: &Path) {
    match Detector::from_manifest(manifest, path, Engine::Auto) {
        Ok(mut detector) => {
            let picture: Vec<u8> = (0..40 * 30 * 3).map(|i| (i * 7) as u8).collect();
            if let Ok(found) = detector.detect(40, 30, &picture) {
                assert!(found.iter().all(|d| (0.0..=1.0).contains(&d.score)), "{found:?}");
            }
        }
        Err(error) => assert!(error.to_string().contains("/proc/self/fd/"), "{error}"),
    }
}

/// A field of protobuf: a number, or bytes of a length.
fn number(field: u8, value: u64) -> Vec<u8> {
    let mut out = vec![field << 3];
    varint(&mut out, value);
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7F {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(field: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let mut out = vec![field << 3 | 2];
    varint(&mut out, contents.len() as u64);
    out.extend(contents);
    out
}

/// `onnx.ValueInfoProto` of 32-bit floats.
fn value(field: u8, name: &str, dims: &[u64]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|d| bytes(1, &[&number(1, *d)])).collect();
    let tensor = bytes(1, &[&number(1, 1), &bytes(2, &[&dims])]);
    bytes(field, &[&bytes(1, &[name.as_bytes()]), &bytes(2, &[&tensor])])
}

/// `onnx.TensorProto` among the initialisers: `kind` 1 is f32, 7 is i64.
fn tensor(name: &str, dims: &[u64], kind: u64, raw: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|d| number(1, *d)).collect();
    bytes(5, &[&dims, &number(2, kind), &bytes(8, &[name.as_bytes()]), &bytes(9, &[raw])])
}

/// `onnx.AttributeProto` of integers.
fn ints(name: &str, values: &[u64]) -> Vec<u8> {
    let values: Vec<u8> = values.iter().flat_map(|v| number(8, *v)).collect();
    bytes(5, &[&bytes(1, &[name.as_bytes()]), &values, &number(20, 7)])
}

/// `onnx.NodeProto`.
fn node(op: &str, inputs: &[&str], output: &str, attributes: &[&[u8]]) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|i| bytes(1, &[i.as_bytes()])).collect();
    let attributes = attributes.concat();
    bytes(1, &[&inputs, &bytes(2, &[output.as_bytes()]), &bytes(4, &[op.as_bytes()]), &attributes])
}

fn model(choice: u8, graph: &[Vec<u8>]) -> Vec<u8> {
    let graph = bytes(7, &[&graph.concat(), &bytes(2, &[b"g"])]);
    let opset = bytes(8, &[&bytes(1, &[b""]), &number(2, 13)]);
    [&[choice][..], &number(1, 8), &opset, &graph].concat()
}

fn floats(n: usize) -> Vec<u8> {
    (0..n).flat_map(|i| (0.01 * i as f32 - 0.1).to_le_bytes()).collect()
}

/// A detector of either family and a risk head, as small as they can be.
pub fn seeds() -> Vec<Vec<u8>> {
    let looks = [
        value(11, "x", &[1, 3, 32, 32]),
        tensor("w", &[7, 3, 1, 1], 1, &floats(21)),
        tensor("b", &[7], 1, &floats(7)),
        node("Conv", &["x", "w", "b"], "c", &[&ints("strides", &[32, 32]), &ints("kernel_shape", &[1, 1])]),
        node("Sigmoid", &["c"], "s", &[]),
    ];
    let shape: Vec<u8> = [1u64, 7, 1].iter().flat_map(|d| d.to_le_bytes()).collect();
    let yolox = [
        tensor("d", &[3], 7, &shape),
        node("Reshape", &["s", "d"], "r", &[]),
        node("Transpose", &["r"], "y", &[&ints("perm", &[0, 2, 1])]),
        value(12, "y", &[1, 1, 7]),
    ];
    let fastest = [node("Relu", &["s"], "y", &[]), value(12, "y", &[1, 7, 1, 1])];
    let slots = [agent_core::vision::RISK_SLOTS, agent_core::vision::SLOT_FEATURES].map(|n| n as u64);
    let state_2 = tensor("w", &[4, 2], 1, &floats(8));
    let risk = [
        value(11, "slots", &[1, slots[0], slots[1]]),
        value(11, "mask", &[1, slots[0]]),
        value(11, "global", &[1, agent_core::vision::GLOBAL_FEATURES as u64]),
        value(11, "state", &[1, 4]),
        state_2,
        node("MatMul", &["state", "w"], "m", &[]),
        node("Sigmoid", &["m"], "risk", &[]),
        node("Tanh", &["state"], "next", &[]),
        value(12, "risk", &[1, 2]),
        value(12, "next", &[1, 4]),
    ];
    vec![model(0, &[&looks[..], &yolox].concat()), model(1, &[&looks[..], &fastest].concat()), model(2, &risk)]
}
