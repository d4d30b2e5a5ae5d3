"""A folder in pack form: what the demo and the benchmark upload and train on."""

import json
from dataclasses import dataclass
from pathlib import Path

from cli.client import Client, CliError, Json
from cli.generators import train_once
from cli.output import console
from cli.pools import upload_pool


@dataclass(frozen=True)
class Pack:
    """A folder in pack form: `pack.json`, `few.zip`, `test.zip`, and `unlabelled.zip` or `generators/NAME/`."""

    folder: Path
    #: What `pack.json` calls it.
    name: str
    #: Class names in the order of their indices.
    classes: list[str]
    #: Classes whose instances count.
    things: list[str]
    #: A trained generator's directory, or None when one must be trained first.
    generator: Path | None

    @property
    def unlabelled(self) -> Path | None:
        """The unlabelled images, where the pack has them."""
        path = self.folder / "unlabelled.zip"
        return path if path.is_file() else None

    def upload_annotations(self, client: Client, zip_name: str, name: str, *, first: int | None = None) -> Json:
        """Upload one of the annotated zips, or only its first images."""
        things = ",".join(self.things) or None
        return client.upload("/v1/annotation-sets", self.folder / zip_name, name=name, first=first, things=things)

    def upload_pool(self, client: Client) -> Json:
        """Upload the unlabelled images into a sealed pool."""
        assert self.unlabelled is not None
        sealed = upload_pool(client, f"{self.name} unlabelled", [self.unlabelled])
        console.print(f"uploaded {sealed['num_images']} unlabelled images")
        return sealed

    def generator_name(self, client: Client, pool_id: str | None, minutes: float) -> str:
        """The name of a ready generator: the service registers given ones at its start; else one is trained, once."""
        if self.generator:
            return self.generator.resolve().name
        assert pool_id is not None
        return train_once(client, f"{self.name}-{minutes:g}min", pool_id, minutes)


def read_pack(folder: Path, generator: Path | None) -> Pack:
    """Read a pack's description; raises `CliError` when something that is needed is missing."""
    for name in ("pack.json", "few.zip", "test.zip"):
        if not (folder / name).is_file():
            raise CliError(f"{folder / name}: missing; a pack holds pack.json, few.zip and test.zip")
    try:
        about = json.loads((folder / "pack.json").read_text(encoding="utf-8"))
        name, classes = str(about["name"]), [str(name) for name in about["classes"]]
    except (ValueError, KeyError, TypeError) as error:
        raise CliError(f"{folder / 'pack.json'}: must be JSON with name and classes ({error})") from None
    generator = generator or next(iter(sorted((folder / "generators").glob("*/"))), None)
    if generator is not None and not (generator / "generator.json").is_file():
        raise CliError(
            f"{generator}: no generator.json; a generator is a diffusers directory that this project trained"
        )
    things = [name for name in classes if name != "background"] if about.get("kind") == "instance" else []
    pack = Pack(folder, name, classes, things, generator)
    if generator is None and pack.unlabelled is None:
        raise CliError(f"{folder} has neither generators/ nor an unlabelled.zip to train one on")
    return pack
