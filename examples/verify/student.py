"""Load a downloaded student with transformers alone and measure it on annotated images.

    python examples/verify/student.py STUDENT_DIR TEST.zip [--expect MIOU]

TEST.zip holds `images/*.png` and `masks/*.png` (value = class index, 255 = ignore). With --expect the mean IoU must agree to
1e-3. Needs torch, transformers, numpy, Pillow; nothing of Label Factory, no network.
"""

import argparse
import io
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForSemanticSegmentation

IGNORE = 255
TOLERANCE = 1e-3


def class_of_channel(id2label: dict[int, str]) -> list[int]:
    """A thing class has a second channel, "<name> contour", whose pixels count to the class."""
    names = [id2label[index] for index in range(len(id2label))]
    return [names.index(name.removesuffix(" contour")) for name in names]


def main() -> int:
    """Measure one student; prints a JSON line; exits 1 when the mean IoU is not the expected one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student", type=Path)
    parser.add_argument("test_zip", type=Path)
    parser.add_argument("--expect", type=float)
    arguments = parser.parse_args()

    student = AutoModelForSemanticSegmentation.from_pretrained(arguments.student, local_files_only=True).eval()
    processor = json.loads((arguments.student / "preprocessor_config.json").read_text(encoding="utf-8"))
    mean, std = (torch.tensor(processor[name]).view(1, 3, 1, 1) for name in ("image_mean", "image_std"))
    folding = np.array(class_of_channel(student.config.id2label))
    num_classes = int(folding.max()) + 1
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    with zipfile.ZipFile(arguments.test_zip) as archive:
        names = [name for name in archive.namelist() if name.startswith("images/") and name.endswith(".png")]
        for name in names:
            image_HWC = np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))
            label_HW = np.asarray(Image.open(io.BytesIO(archive.read(name.replace("images/", "masks/", 1)))))
            pixels = (torch.from_numpy(image_HWC.copy()).permute(2, 0, 1)[None] / 255.0 - mean) / std
            with torch.inference_mode():
                logits = student(pixel_values=pixels).logits
                logits = torch.nn.functional.interpolate(
                    logits, size=label_HW.shape, mode="bilinear", align_corners=False
                )
            predicted_HW = folding[logits[0].argmax(dim=0).numpy()]
            counted = label_HW != IGNORE
            np.add.at(confusion, (label_HW[counted], predicted_HW[counted]), 1)
    union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    with np.errstate(invalid="ignore"):
        miou = float(np.nanmean(confusion.diagonal() / union))
    ok = arguments.expect is None or abs(miou - arguments.expect) <= TOLERANCE
    print(json.dumps({"ok": ok, "miou": miou, "expected": arguments.expect, "images": len(names)}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
