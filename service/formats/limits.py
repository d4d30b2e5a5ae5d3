"""How much one upload may hold. The service fills this from its settings, tests shrink it."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024**2


@dataclass(frozen=True)
class UploadLimits:
    """Caps of one uploaded zip. Bytes are counted after inflating."""

    max_entries: int = 200_000
    max_total_bytes: int = 16 * 1024 * MIB
    max_ratio: float = 100.0
    """Inflated over compressed bytes, of each entry above 1 MiB and of an archive above 16 MiB."""
    max_json_bytes: int = 64 * MIB
    max_image_bytes: int = 128 * MIB
    """Of one encoded image or mask file."""
    max_image_pixels: int = 40_000_000
    max_images: int = 200_000
    max_classes: int = 250
    max_name_length: int = 100
    """Characters of a class name."""
    max_polygon_points: int = 10_000
    max_polygon_parts: int = 1_000
    max_painted_pixels: int = 50_000_000_000
    """Sum of the areas of all annotations of a set: about a minute of work."""
