"""Directories that must not be loaded."""

import json
from pathlib import Path

import pytest

from models.generators.directory import UnsafeDirectory
from models.generators.network import NetworkConfig
from models.generators.unet_diffusion import UNetDiffusionGenerator


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    directory = tmp_path / "generator"
    UNetDiffusionGenerator.build((3, 8, 8), NetworkConfig((8,), 1, attention=False)).save(directory)
    return directory


@pytest.mark.parametrize("name", ["unet/diffusion_pytorch_model.bin", "pipeline.py", "a.ckpt", "deep/er/x.PT", "y.pkl"])
def test_code_and_pickles_are_refused(saved: Path, name: str) -> None:
    (saved / name).parent.mkdir(parents=True, exist_ok=True)
    (saved / name).write_bytes(b"")
    with pytest.raises(UnsafeDirectory, match=Path(name).name):
        UNetDiffusionGenerator.load(saved)


def test_a_link_that_leaves_the_directory_is_refused(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    (saved / "card.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(UnsafeDirectory, match=r"card.json is a link"):
        UNetDiffusionGenerator.load(saved)


def test_a_class_that_is_not_ours_is_refused(saved: Path) -> None:
    index = json.loads((saved / "model_index.json").read_text())
    index["unet"] = ["somewhere", "Anything"]
    (saved / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UnsafeDirectory, match="unet is"):
        UNetDiffusionGenerator.load(saved)


def test_a_folder_that_is_no_generator_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        UNetDiffusionGenerator.load(tmp_path)
