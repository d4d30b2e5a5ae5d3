"""The card of a generator that was trained here, in a few telling rows; the whole of it stands below them as JSON."""

from typing import Any

from markupsafe import Markup

from api.dashboard.card_rows import Row
from api.dashboard.formatting import count, duration, number, percent


def trained_rows(card: dict[str, Any]) -> list[Row]:
    """What it learned from and how, how near it comes to held-out images, and what to do next; empty for other cards."""
    training = card.get("training") or {}
    if not isinstance(card.get("pool"), dict) or not training:
        return []
    return [*_learned(card["pool"], training), *_measured(training), *_advice(training)]


def _learned(pool: dict[str, Any], training: dict[str, Any]) -> list[Row]:
    base = training.get("base") or {}
    mirrors = [name for name, holds in (training.get("symmetry") or {}).items() if holds]
    network = training.get("network") or {}
    widths = ", ".join(str(width) for width in network.get("block_out_channels") or [])
    rank = training.get("lora_rank")
    return [
        ("Learned from", f"{pool.get('name')}: {count(training.get('train_images'))} images"),
        ("Held out", f"{count(training.get('holdout_images'))} images"),
        ("Began with", _link(base) if base else None),
        ("Learned", f"adapters of rank {rank}, merged" if rank else None),
        ("Network", f"{widths} channels, pixels folded by {network.get('patch_size')}" if network else None),
        ("Mirrors used", ", ".join(mirrors) or "none"),
        ("Trained", f"{count(training.get('steps'))} steps of {training.get('batch_size')} images"),
        ("Time", duration(training.get("seconds"))),
        ("Seed", str(training.get("seed"))),
    ]


def _link(base: dict[str, Any]) -> Markup:
    words = Markup('<a href="/generators/{}">{}</a>').format(base.get("id"), base.get("name"))
    return words + f" ({str(base.get('digest'))[:12]})"


def _measured(training: dict[str, Any]) -> list[Row]:
    quality = training.get("quality") or {}
    pairs = (("Distance to held-out images", "kernel_distance"), ("Nearest training image", "nearest_median"))
    rows: list[Row] = [
        (words, f"{number(quality[name])} (real images: {number(quality[f'{name}_of_real'])})")
        for words, name in pairs
        if name in quality
    ]
    if "copied_share" in quality:
        real = percent(quality.get("copied_share_of_real"))
        rows.append(("Copies among samples", f"{percent(quality['copied_share'])} (real images: {real})"))
    if "holdout_loss" in training:
        losses = f"{number(training['holdout_loss'])} (training images: {number(training.get('train_loss'))})"
        rows.append(("Loss on held-out images", losses))
    return rows


def _advice(training: dict[str, Any]) -> list[Row]:
    warnings = [("Warning", words) for words in training.get("warnings") or []]
    return [*warnings, ("Longer training", training.get("outlook") or None)]
