"""How much one upload may hold; `service.settings` fills it, tests shrink it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class UploadLimits:
    """Caps of one uploaded zip. Sizes are bytes after inflating unless said otherwise."""

    max_entries: int = 200_000
    max_total_bytes: int = 64 * 1024**3
    max_entry_bytes: int = 256 * 1024**2
    max_ratio: int = 100
    """Inflated over compressed bytes, for each entry above 1 MiB and for the whole archive above 16 MiB."""
    max_json_bytes: int = 256 * 1024**2
    max_image_pixels: int = 16 * 1024**2
    max_image_bytes: int = 64 * 1024**2
    """Encoded bytes of one image file."""
    max_images: int = 200_000
    max_classes: int = 254
    max_name_length: int = 100
    """Characters of a class name."""
    max_polygon_points: int = 10_000
    max_polygon_parts: int = 1_000
