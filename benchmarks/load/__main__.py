"""`python -m benchmarks.load` (`make load`): all loads at their defaults but for a short soak, one table.

Everything listens on loopback and lives in temporary folders. The soak of half an hour is asked for by
`python -m benchmarks.load.soak`.
"""

from benchmarks.load import event_streams, many_shards, million_images, requests, soak, uploading
from benchmarks.paired import print_table

COCO_IMAGES = 50_000
SOAK_MINUTES = 5.0

if __name__ == "__main__":
    print_table(
        row
        for figures in (
            requests.figures,
            uploading.figures,
            event_streams.figures,
            many_shards.figures,
            lambda: million_images.figures(coco_images=COCO_IMAGES),
            lambda: soak.figures(minutes=SOAK_MINUTES),
        )
        for row in figures()
    )
