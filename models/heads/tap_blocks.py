"""Which taps feed a head: all, or those that a user names."""

from collections.abc import Sequence

from models.contracts import FeatureSource


class UnknownTapBlocks(ValueError):  # noqa: N818 - a wish, not a fault of the program
    """There are no taps of these names; the message lists those there are."""


def own_blocks(sources: Sequence[FeatureSource], wanted: Sequence[str] | None) -> list[tuple[str, ...] | None]:
    """What of `wanted` each source has; None, which is all, where it has nothing of it.

    So a user names taps of the one source that matters to them and leaves the other as it is. Raises UnknownTapBlocks
    for a name that no source has.
    """
    known = list(dict.fromkeys(name for source in sources for name in source.tap_channels))
    if unknown := [name for name in wanted or () if name not in known]:
        raise UnknownTapBlocks(f"There are no taps {', '.join(unknown)}; there are {', '.join(known)}.")
    return [tuple(name for name in source.tap_channels if name in (wanted or ())) or None for source in sources]


def chosen_blocks(source: FeatureSource, wanted: Sequence[str] | None) -> dict[str, int]:
    """Tap name -> channels of what a head reads, in the source's order; None = all. Raises UnknownTapBlocks."""
    (own,) = own_blocks([source], wanted)
    return {name: channels for name, channels in source.tap_channels.items() if own is None or name in own}
