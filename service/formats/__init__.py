"""Bytes in and out: uploads, shards, soft labels, COCO. numpy and Pillow only; no torch, no database, no HTTP.

Axis legend: H height, W width, C colour channel or class. Images are uint8 HWC RGB; label maps uint8 HW, 255 = ignore.
"""
