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
from models.students.build import student_logits

OPSET = 20


class _Deployed(nn.Module):
    """What the file computes: images in [-1, 1] -> logits at the images' size."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student

    def forward(self, pixel_values: Tensor) -> Tensor:
        return student_logits(self.student, pixel_values)


def export_onnx(student: nn.Module, path: Path, images_BHWC: np.ndarray) -> dict[str, Any]:
    """Write the file (input `pixel_values` BCHW float in [-1, 1], output `logits`; any batch size) and compare it.

    `images_BHWC` are real images (uint8) at the student's size, two at least. Returns the parity on them: `max_abs_error`
    of logits, `agreement` (share of equal pixels), `num_images`, `opset`, `num_bytes`. Raises RuntimeError when under
    99.9 % of the pixels agree.
    """
    image_BCHW = to_float_images(images_BHWC)
    deployed = _Deployed(student).cpu().eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _export_traced(deployed, path, image_BCHW[:2].contiguous())
    except torch.onnx.errors.OnnxExporterError:
        _export_captured(deployed, path, image_BCHW[:2].contiguous())
    return _parity(deployed, path, image_BCHW)


def _export_traced(deployed: nn.Module, path: Path, image_BCHW: Tensor) -> None:
    """By tracing: two seconds, but it cannot express UperNet's pools that do not divide the map evenly."""
    names = {"pixel_values": {0: "batch"}, "logits": {0: "batch"}}
    torch.onnx.export(
        deployed,
        (image_BCHW,),
        path,
        input_names=["pixel_values"],
        output_names=["logits"],
        opset_version=OPSET,
        dynamic_axes=names,
        dynamo=False,
    )


def _export_captured(deployed: nn.Module, path: Path, image_BCHW: Tensor) -> None:
    """By graph capture: everything, in twenty seconds."""
    with _written_out_attention(deployed.student):
        program = torch.onnx.export(
            deployed,
            (image_BCHW,),
            input_names=["pixel_values"],
            output_names=["logits"],
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


def _parity(deployed: nn.Module, path: Path, image_BCHW: Tensor) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = deployed(image_BCHW).numpy()
    (found,) = session.run(None, {"pixel_values": image_BCHW.numpy()})
    agreement = float((expected.argmax(1) == found.argmax(1)).mean())
    parity = {
        "max_abs_error": float(np.abs(expected - found).max()),
        "agreement": agreement,
        "num_images": len(image_BCHW),
        "opset": OPSET,
        "num_bytes": path.stat().st_size,
    }
    if agreement < 0.999:
        raise RuntimeError(f"The ONNX file disagrees with the student on {1 - agreement:.2%} of the pixels.")
    return parity
