"""What each family of generators can do, as far as jobs must know it; `models/generators/families.py` has their code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.errors import fault


@dataclass(frozen=True)
class GeneratorFamily:
    """The facts that a job is checked against."""

    title: str
    """What people call it."""
    can_sample: bool = True
    """Draws images: the pool "synthesized"."""
    can_encode: bool = True
    """Gives the features of real images: needed to fit a head, and for the pool "encoded"."""
    has_noise: bool = True
    """Reads features at a diffusion time, which a job may choose as `head.tap_timestep`."""
    can_train: bool = False
    """A `train_generator` job can begin with one."""
    has_adapters: bool = False
    """Low-rank adapters are enough to teach it: there is attention on every level."""


TRAINED_HERE = "unet_diffusion"
"""The family that `train_generator` makes, and that a directory without a family is taken for."""

GENERATOR_FAMILIES = {
    TRAINED_HERE: GeneratorFamily("UNet diffusion", can_train=True),
    "latent_diffusion": GeneratorFamily("Latent diffusion with prompts", can_train=True, has_adapters=True),
    "dit": GeneratorFamily("Diffusion transformer with classes", can_train=True, has_adapters=True),
    "stylegan2": GeneratorFamily("StyleGAN2", can_encode=False, has_noise=False),
    "encoder": GeneratorFamily("Frozen encoder", can_sample=False, has_noise=False),
}


def label_faults(
    name: str, family: str, pools: Sequence[str], tap_timestep: int | None = None, *, encoder: bool = False
) -> list[dict[str, str]]:
    """What keeps a generator of this family, with an encoder beside it or not, from a `label` job that asks for this."""
    facts = GENERATOR_FAMILIES[family]
    found = []
    if "synthesized" in pools and not facts.can_sample:
        found.append(
            fault("pools", f"The generator {name} ({facts.title}) draws no images; use the pool encoded alone.")
        )
    if not facts.can_encode and not encoder:
        if "encoded" in pools:
            found.append(fault("pools", f"The generator {name} ({facts.title}) cannot encode real images."))
        why = (
            f"A head is fitted on the features of your annotated images, and {name} ({facts.title}) cannot encode "
            "real images; name a frozen encoder beside it (encoder), which then labels what it draws, or use a generator "
            "of another family."
        )
        found.append(fault("generator", why))
    if tap_timestep is not None and not facts.has_noise:
        message = f"The generator {name} ({facts.title}) reads images without noise; leave tap_timestep out."
        found.append(fault("head.tap_timestep", message))
    return found
