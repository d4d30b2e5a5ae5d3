"""`python -m benchmarks.everything` (`make bench`): every benchmark of cost at its defaults, one table.

Each runs in a process of its own with one torch thread; `python -m benchmarks.NAME --help` says what can be changed.
"""

import argparse
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module

import torch

from benchmarks.paired import Figure, print_table

NAMES = ("labelling", "shards", "students", "masks", "uploads")


def measured(name: str) -> list[Figure]:
    """The rows of one benchmark."""
    torch.set_num_threads(1)
    rows: list[Figure] = import_module(f"benchmarks.{name}").figures()
    return rows


def rows() -> Iterator[Figure]:
    """The rows of all, as they come."""
    for name in NAMES:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            yield from process.submit(measured, name).result()


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    print_table(rows())
