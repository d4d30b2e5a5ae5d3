"""`python -m api.openapi`: writes docs/openapi.json, which a test holds against the application."""

import json
import tempfile
from pathlib import Path

from api.app import create_app
from service.bootstrap import build_factory
from service.settings import Settings

DOCUMENT = Path(__file__).parent.parent / "docs" / "openapi.json"


def render() -> str:
    """The document as it is committed."""
    with tempfile.TemporaryDirectory() as folder:
        factory = build_factory(Settings(data_dir=Path(folder)))
        document = create_app(factory).openapi()
        factory.close()
    return json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(render(), encoding="utf-8")
