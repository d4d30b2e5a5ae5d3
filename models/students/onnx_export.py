"""A student as one ONNX file, and proof that it answers as torch does. Axes: B batch, C channel, H, W."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from models.examples import to_float_images
from models.students.tasks import parts_of

OPSET = 20


class _Deployed(nn.Module):
    """What the file computes: images in [-1, 1] -> the answers of the student's task at the images' size."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student, self.task = student, parts_of(student)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        return self.task.answers(self.student, pixel_values)


def export_onnx(student: nn.Module, path: Path, images_BHWC: np.ndarray) -> dict[str, Any]:
    """Write the file (input `pixel_values` BCHW float in [-1, 1]; any batch size) and compare it.

    Its outputs are `logits` of a label map, or `class_queries_logits` and `masks_queries_logits` of an instance network.
    `images_BHWC` are real images (uint8) at the student's size, two at least. Returns the parity on them: `max_abs_error`
    of logits, `agreement` (share of equal decisions), `num_images`, `opset`, `num_bytes`. Raises RuntimeError when under
    99.9 % of the decisions agree.
    """
    image_BCHW = to_float_images(images_BHWC)
    deployed = _Deployed(student).cpu().eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _export_traced(deployed, path, image_BCHW[:2].contiguous())
    except torch.onnx.errors.OnnxExporterError:
        _export_captured(deployed, path, image_BCHW[:2].contiguous())
    return _parity(deployed, path, image_BCHW)


def _export_traced(deployed: _Deployed, path: Path, image_BCHW: Tensor) -> None:
    """By tracing: two seconds, but it cannot express UperNet's pools that do not divide the map evenly."""
    names = list(deployed.task.decisions)
    torch.onnx.export(
        deployed,
        (image_BCHW,),
        path,
        input_names=["pixel_values"],
        output_names=names,
        opset_version=OPSET,
        dynamic_axes={name: {0: "batch"} for name in ("pixel_values", *names)},
        dynamo=False,
    )


def _export_captured(deployed: _Deployed, path: Path, image_BCHW: Tensor) -> None:
    """By graph capture: everything, in twenty seconds."""
    with _written_out_attention(deployed.student):
        program = torch.onnx.export(
            deployed,
            (image_BCHW,),
            input_names=["pixel_values"],
            output_names=list(deployed.task.decisions),
            opset_version=OPSET,
            dynamic_shapes={"pixel_values": {0: torch.export.Dim("batch", min=1, max=4096)}},
            dynamo=True,
            verbose=False,
        )
    program.save(path, external_data=False)


@contextmanager
def _written_out_attention(student: Any) -> Iterator[None]:
    """Attention as products and a softmax: captured, the fused one leaves strides that Swin's windows cannot be viewed in."""
    before = student.config._attn_implementation
    student.set_attn_implementation("eager")
    try:
        yield
    finally:
        student.set_attn_implementation(before)


def _parity(deployed: _Deployed, path: Path, image_BCHW: Tensor) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = deployed(image_BCHW)
    found = [torch.from_numpy(answer) for answer in session.run(None, {"pixel_values": image_BCHW.numpy()})]
    pairs = list(zip(deployed.task.decisions.values(), expected, found, strict=True))
    agreement = min(float((decide(ours) == decide(theirs)).float().mean()) for decide, ours, theirs in pairs)
    parity = {
        "max_abs_error": max(float((ours - theirs).abs().max()) for _, ours, theirs in pairs),
        "agreement": agreement,
        "num_images": len(image_BCHW),
        "opset": OPSET,
        "num_bytes": path.stat().st_size,
    }
    if agreement < 0.999:
        raise RuntimeError(f"The ONNX file disagrees with the student on {1 - agreement:.2%} of the decisions.")
    return parity
