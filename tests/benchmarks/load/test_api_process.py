"""The process that is measured runs as it is told and is gone afterwards."""

from pathlib import Path

from benchmarks.load.api_process import api_process, environment
from service.settings import Settings


def test_a_process_reads_the_settings_it_is_given(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, shard_size=7)
    told = environment(settings)
    assert told["LABEL_FACTORY_SHARD_SIZE"] == "7"
    with api_process(tmp_path / "api", shard_size=7) as api:
        assert api.settings.shard_size == 7
        assert api.process.is_running()
    assert not api.process.is_running()
