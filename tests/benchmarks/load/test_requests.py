"""The load on requests at a tiny size."""

from benchmarks.load import requests
from benchmarks.load.stored_jobs import job_pages


def test_rates_and_pages() -> None:
    ping, listed, *pages = requests.figures(seconds=0.2, jobs=120)
    assert ping.question.startswith("ping")
    assert listed.question == "list of 50 jobs"
    for rate in (ping, listed):
        assert rate.value > 0
        assert "; 0 failed" in rate.detail
    assert [page.question.split(",")[0] for page in pages[:2]] == ["list pages of 50", "list pages of 200"]
    # 120 jobs: 3 pages of all, and at least one of every state and kind.
    assert int(pages[0].detail.split("of ")[1].split(";")[0]) >= 3 + len(list(job_pages(50))) - 1
