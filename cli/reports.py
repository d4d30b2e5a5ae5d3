"""`label-factory reports`: what student, head and baseline reach on held-out labels."""

import statistics
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from cli.client import Client, Json
from cli.listing import add_delete, add_list
from cli.options import DEFAULT_URL, AsJson, Url
from cli.output import console, rows_table, show

app = typer.Typer(no_args_is_help=True, help="Measurements on held-out labels.")
add_list(app, "report", "/v1/reports", ("id", "job_id", "student_id", "created_at"))
add_delete(app, "report", "/v1/reports", stays="the student's card keeps the numbers")


@app.command("show")
def show_report(
    report_id: Annotated[str, typer.Argument(metavar="id", help="The report's id.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Show one report; --json has all that is known of it."""
    report = Client(url).get(f"/v1/reports/{report_id}")
    if as_json:
        show(report, as_json=True)
        return
    if report["content"].get("rows"):
        console.print(report_table([report["content"]]))
    console.print(report["content"].get("verdict", "without a verdict; --json has its numbers"), markup=False)


def report_table(contents: Sequence[Json], *, title: str | None = None) -> Table:
    """One row per way, each number as its `spread` over the reports of one job under several seeds."""
    rows = []
    for row in contents[0]["rows"]:
        same = [next(r for r in content["rows"] if r["name"] == row["name"]) for content in contents]
        cells = {"held-out images": row["title"], "mIoU": spread([r["miou"] for r in same])}
        if row.get("ap50") is not None:
            cells |= {"AP50": spread([r["ap50"] for r in same]), "AP": spread([r["ap"] for r in same])}
        if any(r.get("miou") is None and r.get("box_ap") is not None for r in contents[0]["rows"]):
            # A detector is measured: every network's boxes are held against it.
            cells |= {"box AP50": spread([r["box_ap50"] for r in same]), "box AP": spread([r["box_ap"] for r in same])}
        for name in row["per_class_iou"]:
            cells[name] = spread([r["per_class_iou"][name] for r in same])
        rows.append(cells)
    return rows_table(rows, list(rows[0]), title=title)


def spread(values: Sequence[float | None]) -> str:
    """`0.612` for one value, `0.612 ±0.010` (sample standard deviation) for several, `-` where a class is absent."""
    present = [value for value in values if value is not None]
    if not present:
        return "-"
    mean = f"{statistics.fmean(present):.3f}"
    return mean if len(present) == 1 else f"{mean} ±{statistics.stdev(present):.3f}"
