"""Check an exported COCO zip with pycocotools alone: it loads, and its masks match the dataset's label maps exactly.

    python examples/verify/coco.py COCO.zip SHARD.tar [SHARD.tar ...]

The truth is built from the shards (`*.label.png`, `*.instances.png`), independently of the exporter; the zip's annotations
are scored against it as if they were predictions. Exact masks give AP 1.0 at every IoU threshold. Needs numpy, Pillow, pycocotools.
"""

import argparse
import contextlib
import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

IGNORE = 255


def load_quietly(document: dict[str, Any]) -> COCO:
    """A COCO index over a document, without pycocotools' prints."""
    coco = COCO()
    coco.dataset = document
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def read_maps(shards: list[Path], wanted: set[str]) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Label map and instance ids (HW) of every wanted image of the shards, by its file name's stem."""
    label_maps: dict[str, np.ndarray] = {}
    instance_maps: dict[str, np.ndarray] = {}
    for path in shards:
        with tarfile.open(path) as shard:
            for member in shard:
                key, _, kind = member.name.partition(".")
                if Path(key).name not in wanted or kind not in ("label.png", "instances.png"):
                    continue
                file = shard.extractfile(member)
                pixels = np.asarray(Image.open(io.BytesIO(file.read() if file else b"")))
                (label_maps if kind == "label.png" else instance_maps)[Path(key).name] = pixels
    return {name: (label_map, instance_maps.get(name)) for name, label_map in label_maps.items()}


def regions(label_HW: np.ndarray, instances_HW: np.ndarray | None, class_index: int, thing: bool) -> list[np.ndarray]:
    """The masks that one class must have: one per instance for things, one for all its pixels otherwise."""
    of_class = label_HW == class_index
    if not thing or instances_HW is None:
        return [of_class] if of_class.any() else []
    return [of_class & (instances_HW == i) for i in np.unique(instances_HW[of_class]) if i != 0]


def truth_of(
    document: dict[str, Any], maps: dict[str, tuple[np.ndarray, np.ndarray | None]], classes: list[str]
) -> dict[str, Any]:
    """A COCO document built from the label maps alone."""
    annotations: list[dict[str, Any]] = []
    for image in document["images"]:
        label_HW, instances_HW = maps[Path(image["file_name"]).stem]
        for category in document["categories"]:
            class_index = classes.index(category["name"])
            for mask in regions(label_HW, instances_HW, class_index, bool(category.get("isthing"))):
                encoded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": image["id"], "category_id": category["id"], "iscrowd": 0}
                    | {"segmentation": encoded, "area": float(mask.sum()), "bbox": rle.toBbox(encoded).tolist()}
                )
    return {"images": document["images"], "categories": document["categories"], "annotations": annotations}


def average_precision(truth: COCO, found: COCO) -> float:
    """Mask AP over IoU .50 to .95, all sizes, without a cap on detections per image."""
    evaluation = COCOeval(truth, found, "segm")
    evaluation.params.maxDets = [100_000]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    return float(precision[precision > -1].mean())


def main() -> int:
    """Check one zip; prints a JSON line; exits 1 when a mask differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("coco_zip", type=Path)
    parser.add_argument("shards", type=Path, nargs="+")
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.coco_zip) as archive:
        document = json.loads(archive.read("annotations.json"))
        names = set(archive.namelist())
    # The field's convention: file names are relative to the folder of images.
    missing = [image["file_name"] for image in document["images"] if f"images/{image['file_name']}" not in names]
    classes = document["info"]["classes"]
    maps = read_maps(arguments.shards, {Path(image["file_name"]).stem for image in document["images"]})
    truth = load_quietly(truth_of(document, maps, classes))
    found = [annotation | {"score": 1.0} for annotation in document["annotations"]]
    ap = average_precision(truth, load_quietly({**document, "annotations": found}))
    counts = {"images": len(document["images"]), "annotations": len(found), "truth": len(truth.dataset["annotations"])}
    ok = ap == 1.0 and not missing and counts["annotations"] == counts["truth"]
    print(json.dumps({"ok": ok, "average_precision": ap, **counts, "missing_images": len(missing)}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
