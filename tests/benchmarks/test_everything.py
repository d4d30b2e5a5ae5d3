"""Every benchmark of cost is in the table, and the table begins before all are done."""

from pathlib import Path

import pytest

from benchmarks import everything
from benchmarks.paired import print_table


def test_rows_come_from_processes_of_their_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(everything, "NAMES", ("masks",))
    print_table(everything.rows())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 3
    assert lines[2].startswith("| label map to masks")


def test_every_file_with_figures_is_named() -> None:
    folder = Path(everything.__file__).parent
    with_figures = {path.stem for path in folder.glob("*.py") if "\ndef figures(" in path.read_text()}
    assert with_figures == set(everything.NAMES)
