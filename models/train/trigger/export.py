"""Writes a checkpoint's averaged weights as an ONNX file whose outputs onnxruntime gives too, within 1e-3."""

import argparse

import numpy as np
import onnx
import onnxruntime as ort
import torch

from model import HEIGHT, WIDTH, Detector

TOLERANCE = 1e-3


def constants_to_initializers(path):
    """The agent lowers graphs whose constants (the factors of enlargements) are initializers; torch writes nodes."""
    graph = onnx.load(path)
    for node in [n for n in graph.graph.node if n.op_type == "Constant"]:
        tensor = node.attribute[0].t
        tensor.name = node.output[0]
        graph.graph.initializer.append(tensor)
        graph.graph.node.remove(node)
    onnx.checker.check_model(graph)
    onnx.save(graph, path)


def export(model, path):
    """`model` is in evaluation mode on the CPU. Returns the largest difference of onnxruntime's output from torch's."""
    model.exporting = True
    x = torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))
    torch.onnx.export(model, (x,), path, input_names=["image"], output_names=["points"], opset_version=13, dynamo=False)
    constants_to_initializers(path)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = model(x).numpy()
    worst = float(np.abs(session.run(None, {"image": x.numpy()})[0] - expected).max())
    model.exporting = False
    if worst > TOLERANCE:
        raise SystemExit(f"onnxruntime differs from torch by {worst:e}")
    return worst


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--checkpoint", required=True)
    p.add_argument("--out", required=True)
    a = p.parse_args()
    state = torch.load(a.checkpoint, weights_only=False, map_location="cpu")
    model = Detector(**state["recipe"]["model"]).eval()
    model.load_state_dict(state["averaged"])
    print(f"{a.out}: onnxruntime within {export(model, a.out):.1e} of torch")


if __name__ == "__main__":
    main()
