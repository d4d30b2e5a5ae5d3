"""docker-compose.yml and the Dockerfile, held against the settings and the code: no Docker engine is at hand to try them."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.doorbell import QUEUES
from service.settings import Settings
from workers.presence import ALIVE_FILE

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
OURS = ("migrate", "api", "worker-gpu", "worker-cpu")
MONITORING = ("prometheus", "grafana")
PREFIX = "LABEL_FACTORY_"


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def filled(text: str) -> str:
    """The text with compose's variables filled in as .env would where nothing stands in for them."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    return re.sub(r"\$\{(\w+)(?::\?([^}]*))?\}", lambda match: f"value-of-{match[1]}", text)


def environment_of(service: dict[str, Any]) -> dict[str, str]:
    return {name: filled(str(value)) for name, value in service.get("environment", {}).items()}


def test_every_part_is_there(services: dict[str, Any]) -> None:
    assert {*OURS, "redis", "postgres", "s3", *MONITORING} == set(services)
    assert {name for name, service in services.items() if "profiles" in service} == set(MONITORING)


@pytest.mark.parametrize("name", OURS)
def test_our_environment_is_what_the_settings_know(
    services: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = environment_of(services[name])
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    assert {variable for variable in environment if variable.startswith(PREFIX)} <= known
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    settings = Settings()
    assert not settings.embedded
    assert settings.resolved_database_url.startswith("postgresql://factory:value-of-POSTGRES_PASSWORD@postgres:")
    assert settings.resolved_storage_url.startswith("s3://")
    assert settings.s3_secret_access_key is not None


def test_the_image_sets_only_known_settings() -> None:
    text = (ROOT / "Dockerfile").read_text()
    named = set(re.findall(r"\bLABEL_FACTORY_\w+", text))
    assert named <= {PREFIX + field.upper() for field in Settings.model_fields}


def test_addresses_name_services(services: dict[str, Any]) -> None:
    for name in OURS:
        environment = environment_of(services[name])
        for variable in ("DATABASE_URL", "BROKER_URL", "S3_ENDPOINT"):
            host = re.search(r"(?:@|//)([a-z0-9-]+):\d+", environment[PREFIX + variable])
            assert host is not None
            assert host[1] in services


def test_the_schema_is_ready_before_anybody_works(services: dict[str, Any]) -> None:
    assert services["migrate"]["restart"] == "no"
    assert services["migrate"]["command"] == ["python", "-m", "service.bootstrap"]
    assert callable(importlib.import_module("service.bootstrap").main)
    for name in ("api", "worker-gpu", "worker-cpu"):
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    for name in OURS:
        for other, wanted in services[name]["depends_on"].items():
            if wanted["condition"] == "service_healthy":
                assert "healthcheck" in services[other]


def test_every_lasting_service_is_watched(services: dict[str, Any]) -> None:
    assert all("healthcheck" in service for name, service in services.items() if name != "migrate")


def test_only_pages_are_published_and_only_on_this_machine(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert list(published) == ["api", *MONITORING]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_nobody_can_take_the_whole_machine(services: dict[str, Any]) -> None:
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert {"memory", "pids"} <= set(limits), name
        default = re.search(r"(\d+)([mg])\}?$", str(limits["memory"]))
        assert default is not None, name
    redis = services["redis"]["command"]
    assert redis[redis.index("--maxmemory") + 1] == "256mb", (
        "half of what the container may take: it is copied to be saved"
    )


def test_a_worker_is_watched_by_the_file_it_touches(services: dict[str, Any]) -> None:
    for name in ("worker-gpu", "worker-cpu"):
        environment = {**environment_of(services[name])}
        path = re.search(r"find (\S+) ", services[name]["healthcheck"]["test"][1])
        assert path is not None
        settings = Settings(data_dir=Path(environment[PREFIX + "DATA_DIR"]))
        assert path[1] == str(settings.resolved_scratch_dir / ALIVE_FILE)


def test_workers_listen_to_queues_that_exist_and_leave_in_time(services: dict[str, Any]) -> None:
    for name, queue in (("worker-gpu", "gpu"), ("worker-cpu", "${CPU_WORKER_QUEUES:-cpu}")):
        command = services[name]["command"]
        assert command[:4] == ["celery", "-A", "workers.celery_app", "worker"]
        assert command[command.index("-Q") + 1] == queue
        assert int(services[name]["stop_grace_period"].removesuffix("s")) > 30
    assert set(QUEUES) == {"gpu", "cpu"}
    devices = services["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"]


def test_redis_never_forgets(services: dict[str, Any]) -> None:
    command = services["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--appendonly"] == "yes"


def test_nobody_is_root(services: dict[str, Any]) -> None:
    final_stage = (ROOT / "Dockerfile").read_text().rpartition("FROM ")[2]
    assert re.search(r"^USER (?!0\b|root\b)\S+$", final_stage, re.MULTILINE)
    for name, service in services.items():
        assert service.get("user") not in ("0", "root")
        if name != "s3":  # its image prepares the volume as root and then gives its rights away
            assert service["cap_drop"] == ["ALL"]
            assert service["read_only"] is True


def test_no_secret_has_a_default() -> None:
    for name in ("POSTGRES_PASSWORD", "S3_SECRET_ACCESS_KEY"):
        assert f"${{{name}:?" in COMPOSE.read_text()
        assert re.search(rf"^{name}=$", (ROOT / ".env.example").read_text(), re.MULTILINE)


def test_the_store_knows_the_key_that_we_use(services: dict[str, Any]) -> None:
    content = filled(yaml.safe_load(COMPOSE.read_text())["configs"]["s3-identities"]["content"])
    (identity,) = json.loads(content)["identities"]
    environment = environment_of(services["api"])
    assert identity["credentials"][0] == {
        "accessKey": environment[PREFIX + "S3_ACCESS_KEY_ID"],
        "secretKey": environment[PREFIX + "S3_SECRET_ACCESS_KEY"],
    }


def test_volumes_are_declared(services: dict[str, Any]) -> None:
    declared = set(yaml.safe_load(COMPOSE.read_text())["volumes"])
    used = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    assert {name for name in used if not name.startswith((".", "$"))} == declared


def test_whoever_checks_or_loads_weights_sees_the_operators_folder(services: dict[str, Any]) -> None:
    for name in ("api", "worker-gpu", "worker-cpu"):
        folder = environment_of(services[name])[PREFIX + "WEIGHTS_DIR"]
        assert any(volume.endswith(f":{folder}:ro") for volume in services[name]["volumes"])


def test_the_image_copies_every_room_and_takes_its_pins() -> None:
    text = (ROOT / "Dockerfile").read_text()
    copied = {room for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE) for room in shlex.split(line)}
    assert {"api", "cli", "models", "service", "workers", "constraints.txt"} <= copied
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied - {"./"} <= allowed
    assert "[onnx,cluster]" in text
