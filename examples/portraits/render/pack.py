"""Packs what `render.mjs` drew: python pack.py DRAWN OUT writes pack.json, few.zip, test.zip and unlabelled.zip.

Needs numpy, pillow and pycocotools. The zips are the same bytes for the same drawings and library versions.
Axes of arrays: H, W pixels; K classes; C colour channels.
"""

import argparse
import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor
from pycocotools import mask as coco_mask

BLOCK = 4  # the drawings of parts are this many times the size of the pictures
CLASSES = json.loads((Path(__file__).parent / "classes.json").read_text())
NAMES = [entry["name"] for entry in CLASSES]
THIN = {"eyes", "brows", "mouth", "accessories"}
PALETTE_KC = np.array([ImageColor.getrgb(entry["colour"]) for entry in CLASSES], dtype=np.uint8)
# Lines about a pixel wide would fall into dots under a plain majority; whoever paints masks by hand keeps them whole.
WEIGHT_K = np.array([2 if name in THIN else 1 for name in NAMES])
LICENCE = {"id": 1, "name": "CC BY 4.0", "url": "https://creativecommons.org/licenses/by/4.0/"}
SOURCE = (
    "Drawn from Adventurer by Lisa Wischofsky (https://www.figma.com/community/file/1184595184137881796), "
    "as packaged in the npm package @dicebear/adventurer 9.4.3; recoloured, moved, lit and set on drawn backdrops"
)


def mask_from_parts(path: Path) -> np.ndarray:
    """The class of most of the 4x4 samples behind each pixel; a line of a thin part needs 6 of the 16."""
    parts_HWC = np.asarray(Image.open(path).convert("RGB"))
    hits_HWK = (parts_HWC[:, :, None, :] == PALETTE_KC).all(-1)
    if not hits_HWK.any(-1).all():
        raise ValueError(f"{path} has a colour that belongs to no class")
    height, width = (side // BLOCK for side in parts_HWC.shape[:2])
    votes_HWK = hits_HWK.reshape(height, BLOCK, width, BLOCK, -1).sum((1, 3)) * WEIGHT_K
    return votes_HWK.argmax(-1).astype(np.uint8)


def png_bytes(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def indexed_png(mask_HW: np.ndarray) -> bytes:
    image = Image.fromarray(mask_HW, mode="P")
    image.putpalette(PALETTE_KC.tobytes())
    return png_bytes(image)


def annotations_of(mask_HW: np.ndarray, image_id: int, first_id: int) -> list[dict]:
    """One annotation per class region present; the background is left out and the others keep their index."""
    found = []
    for category in sorted(set(np.unique(mask_HW).tolist()) - {0}):
        rle = coco_mask.encode(np.asfortranarray(mask_HW == category, dtype=np.uint8))
        found.append(
            {
                "id": first_id + len(found),
                "image_id": image_id,
                "category_id": category,
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
                "area": float(coco_mask.area(rle)),
                "bbox": coco_mask.toBbox(rle).tolist(),
                "iscrowd": 0,
            }
        )
    return found


def write_zip(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, date_time=(2000, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)


def read_pictures(folder: Path) -> dict[str, Image.Image]:
    return {path.name: Image.open(path).convert("RGB") for path in sorted((folder / "images").glob("*.png"))}


def pixels_digest(picture: Image.Image) -> str:
    return hashlib.sha256(picture.tobytes()).hexdigest()


def pack_annotated(drawn: Path, split: str, out: Path) -> dict[str, Image.Image]:
    pictures = read_pictures(drawn / split)
    images, annotations, masks = [], [], {}
    for image_id, (name, picture) in enumerate(pictures.items(), start=1):
        mask_HW = mask_from_parts(drawn / split / "parts" / name)
        images.append(
            {"id": image_id, "file_name": name, "height": picture.height, "width": picture.width, "license": 1}
        )
        annotations += annotations_of(mask_HW, image_id, len(annotations) + 1)
        masks[f"masks/{name}"] = indexed_png(mask_HW)
    document = {
        "info": {"description": f"portraits, {split} split", "contributor": SOURCE},
        "licenses": [LICENCE],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name, "supercategory": "head"} for i, name in enumerate(NAMES) if i],
    }
    files = {f"images/{name}": png_bytes(picture) for name, picture in pictures.items()}
    files |= masks | {"annotations.json": json.dumps(document, separators=(",", ":")).encode()}
    write_zip(out / f"{split}.zip", files)
    return pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("drawn", type=Path, help="the folder render.mjs wrote")
    parser.add_argument("out", type=Path, help="where pack.json and the zips go")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    few = pack_annotated(arguments.drawn, "few", arguments.out)
    test = pack_annotated(arguments.drawn, "test", arguments.out)
    test_digests = {pixels_digest(picture) for picture in test.values()}
    if len(test_digests) < len(test) or test_digests & {pixels_digest(picture) for picture in few.values()}:
        raise ValueError("a test image stands twice, or is among the few; choose another seed")

    seen = set(test_digests)
    unlabelled = {}
    for name, picture in read_pictures(arguments.drawn / "unlabelled").items():
        digest = pixels_digest(picture)
        if digest not in seen:
            seen.add(digest)
            unlabelled[f"images/{name}"] = png_bytes(picture)
    if unlabelled:
        write_zip(arguments.out / "unlabelled.zip", unlabelled)

    width, height = next(iter(few.values())).size
    card = {
        "name": "portraits",
        "classes": NAMES,
        "kind": "semantic",
        "licence": LICENCE["name"],
        "source": SOURCE,
        "size": [width, height],
        "unlabelled": len(unlabelled),
        "few": len(few),
        "test": len(test),
        "ignore_index": 255,
    }
    (arguments.out / "pack.json").write_text(json.dumps(card, indent=1) + "\n")
    print({key: card[key] for key in ("few", "test", "unlabelled")})


if __name__ == "__main__":
    main()
