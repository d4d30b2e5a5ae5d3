"""Image files from strangers -> RGB pixels. Kind by content, sizes checked before decoding, one way for each oddity:

- grey, bilevel and palette images become RGB; alpha is composited over white;
- CMYK and YCCK JPEGs are converted to RGB without a colour profile;
- 16-bit grey is divided by 257 (65535 becomes 255), never stretched to the image's own range;
- EXIF orientation is applied, so annotations refer to the picture as it is seen;
- the first picture of a multi-picture JPEG (MPO) is taken; animated PNG and WebP are refused;
- truncated files, and all but PNG, JPEG and WebP, are refused. Metadata is dropped.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from service.formats.annotated_images import Image_HWC
from service.formats.limits import UploadLimits
from service.formats.problems import FileProblem

FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".webp"})
OTHER_IMAGE_SUFFIXES = frozenset(
    {".gif", ".bmp", ".tif", ".tiff", ".svg", ".heic", ".heif", ".avif", ".jp2", ".psd", ".ico", ".dcm", ".nii"}
)
"""Files a sender meant as images, which are named as unsupported instead of overlooked."""

DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    OverflowError,
    ArithmeticError,
    AssertionError,
    NotImplementedError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
"""What Pillow raises for hostile bytes; `OSError` holds `UnidentifiedImageError` and truncation."""


def decode_image(data: bytes, limits: UploadLimits) -> Image_HWC:
    """Bytes -> RGB uint8 HWC as described above. Raises `FileProblem`."""
    image = _load(data, FORMATS, limits)
    try:
        return _to_rgb(ImageOps.exif_transpose(image))
    except DECODER_ERRORS as error:
        raise FileProblem(f"cannot be converted to RGB: {error}") from error


def decode_values(data: bytes, limits: UploadLimits) -> NDArray[np.uint16]:
    """The values of an indexed, grey or 16-bit grey PNG, HW uint16. Raises `FileProblem`."""
    image = _load(data, ("PNG",), limits)
    if image.mode not in ("P", "L", "1", "I;16", "I"):
        raise FileProblem(f"has mode {image.mode}; a mask is an indexed or grey PNG whose values are class indices")
    values = np.array(image)
    if values.min(initial=0) < 0 or values.max(initial=0) > 0xFFFF:
        raise FileProblem("has values outside 0 to 65535")
    return values.astype(np.uint16)


def _load(data: bytes, formats: tuple[str, ...], limits: UploadLimits) -> Image.Image:
    """A fully decoded image whose size was checked first."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own cap follows
            image = Image.open(io.BytesIO(data), formats=formats)
        width, height = image.size
        if width * height > limits.max_image_pixels:
            raise FileProblem(f"is {width}x{height}; at most {limits.max_image_pixels:,} pixels are allowed")
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":
            raise FileProblem(f"is animated ({frames} frames)")
        image.load()
    except FileProblem:
        raise
    except DECODER_ERRORS as error:
        raise FileProblem(f"is not a readable {_names(formats)} image: {_reason(error)}") from error
    return image


def _reason(error: BaseException) -> str:
    text = str(error)
    return "its content is something else" if "cannot identify" in text else text


def _names(formats: tuple[str, ...]) -> str:
    return " or ".join([", ".join(formats[:-1]), formats[-1]]) if len(formats) > 1 else formats[0]


def _to_rgb(image: Image.Image) -> Image_HWC:
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):
        grey = np.clip(np.array(image), 0, 0xFFFF).astype(np.uint32)
        return np.repeat(((grey + 128) // 257).astype(np.uint8)[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))
