//! Broken manifests and models of the vision trigger.

use std::fs;

use super::{Case, case};

const MODELS: &str = "Trigger models";

/// The manifest of FastestDet as it ships.
fn manifest() -> String {
    fs::read_to_string(crate::tidy::root().join("models/manifests/fastestdet.toml")).unwrap()
}

/// `inspect` on the manifest with `from` replaced by `to`.
fn changed(what: &'static str, from: &str, to: &str, says: &[&'static str]) -> Case {
    let text = manifest();
    assert!(text.contains(from), "the manifest has no {from}");
    case(MODELS, what, "inspect m.toml", 4, says).file("m.toml", text.replace(from, to))
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A manifest whose hash fits an ONNX file of that content.
fn onnx(what: &'static str, content: Vec<u8>, says: &[&'static str]) -> Case {
    let old = manifest().lines().find(|l| l.starts_with("sha256")).unwrap().to_owned();
    let new = format!("sha256 = \"{}\"", sha256(&content));
    changed(what, &old, &new, says).file("FastestDet.onnx", content)
}

pub(super) fn cases() -> Vec<Case> {
    let fast = |f: &std::path::Path| {
        fs::copy(f.join("data/models/FastestDet.onnx"), f.join("FastestDet.onnx")).unwrap();
    };
    vec![
        changed("the model is not there", "width = 352", "width = 352", &["FastestDet.onnx", "No such file"]),
        changed(
            "another file than the manifest's",
            "width = 352",
            "width = 352",
            &["FastestDet.onnx: SHA-256 is ", "the manifest says 31cb14c0"],
        )
        .file("FastestDet.onnx", "hello"),
        changed("a slip of the pen", "width = 352", "widht = 352", &["m.toml", "line 9", "widht"]),
        changed("an unknown family", "\"fastestdet\"", "\"yolo99\"", &["m.toml", "line 2", "yolo99"]),
        changed(
            "a hash that is none",
            "31cb14c0",
            "zzcb14c0",
            &["m.toml: line 4, column 10: sha256 is not 64 hexadecimal digits"],
        ),
        changed("a size that no stride divides", "width = 352", "width = 353", &["m.toml: line 9, column 9: side 353"]),
        changed("a class that no road has", "person = 0", "zebra = 0", &["m.toml: line 27, column 1: class \"zebra\""]),
        changed(
            "a threshold above 1",
            "score_threshold = 0.6",
            "score_threshold = 5.0",
            &["m.toml: line ", "5 is not within 0 to 1"],
        ),
        changed(
            "a file in another folder",
            "file = \"Fast",
            "file = \"../Fast",
            &["m.toml: line 3, column 8: ", "not a bare file name"],
        ),
        onnx("an empty model whose hash fits", vec![], &["FastestDet.onnx: "]),
        onnx("text whose hash fits", b"this is no model".to_vec(), &["FastestDet.onnx: "]),
        case(MODELS, "an empty manifest", "inspect m.toml", 4, &["m.toml: ", "missing field"]).file("m.toml", ""),
        case(
            MODELS,
            "a manifest of a megabyte",
            "inspect m.toml",
            4,
            &["m.toml: 1048576 bytes, a manifest has at most"],
        )
        .file("m.toml", vec![b'#'; 1 << 20]),
        case(MODELS, "no such manifest", "replay d.mcap --out o --trigger m.toml", 4, &["m.toml: No such file"]),
        case(
            MODELS,
            "an ONNX file without a manifest",
            "replay d.mcap --out o --onnx a.onnx",
            2,
            &["--trigger <TRIGGER>"],
        ),
        changed("a real model of another input size", "352", "320", &["FastestDet.onnx: "]).data().with(fast),
        changed("a real model of another family", "\"fastestdet\"", "\"yolox\"", &["FastestDet.onnx: "])
            .data()
            .with(fast),
        changed("a real model cut in half, its hash fits", "width = 352", "width = 352", &["FastestDet.onnx: "])
            .data()
            .with(|f| {
                let whole = fs::read(f.join("data/models/FastestDet.onnx")).unwrap();
                let half = &whole[..whole.len() / 2];
                fs::write(f.join("FastestDet.onnx"), half).unwrap();
                let text = fs::read_to_string(f.join("m.toml")).unwrap().replace(&sha256(&whole), &sha256(half));
                fs::write(f.join("m.toml"), text).unwrap();
            }),
    ]
}
