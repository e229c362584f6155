//! Manifests of detectors: any text gives a manifest whose sizes are bounded, or an error with its place.

use std::path::Path;

use agent_models::Manifest;
use agent_models::limits::{MAX_CLASSES, MAX_INPUT_SIDE, MAX_STRIDES};

/// Values of a head's output: a level has no more cells than the input has pixels.
const MOST_VALUES: usize = MAX_STRIDES * MAX_INPUT_SIDE * MAX_INPUT_SIDE * (MAX_CLASSES + 5);

pub fn judge(data: &[u8]) {
    // As the reader of files does before it looks at the text.
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Manifest::parse(Path::new("hostile.toml"), text) {
        Ok(manifest) => {
            assert!(manifest.output_shape().iter().product::<usize>() <= MOST_VALUES);
            assert!(
                manifest.classes.len() == manifest.class_count && Path::new(&manifest.file).components().count() == 1
            );
        }
        Err(error) => assert!(error.to_string().starts_with("hostile.toml")),
    }
}

/// A manifest of a head with one cell in an input of 32 x 32.
pub(super) fn text(family: &str) -> String {
    format!(
        "family = \"{family}\"\nfile = \"m.onnx\"\nsha256 = \"{}\"\nlicence = \"x\"\nsource = \"y\"\n[input]\nwidth = 32\n\
        height = 32\nlayout = \"nchw\"\nchannels = \"bgr\"\nresize = \"letterbox\"\npad_value = 114\nscale = 1.0\n\
        mean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\n[head]\nscore_threshold = 0.3\nnms_iou = 0.45\nstrides = [32]\n\
        class_count = 2\n[classes]\nperson = 0\ncar = 1\n",
        "0".repeat(64)
    )
}

pub fn seeds() -> Vec<Vec<u8>> {
    ["yolox", "fastestdet"].map(|family| text(family).into_bytes()).into()
}
