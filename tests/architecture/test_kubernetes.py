"""deploy/kubernetes, held against Kubernetes' own schemas, the settings and the code: no cluster is at hand to try it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from sqlalchemy import text

from service.bootstrap import Factory
from service.doorbell import QUEUES
from service.settings import Settings
from tests import factories
from workers.presence import ALIVE_FILE

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
PREFIX = "LABEL_FACTORY_"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
FILES = [*KUSTOMIZATION["resources"], "secret.example.yaml"]
DOCUMENTS: list[dict[str, Any]] = [
    document for name in FILES for document in yaml.safe_load_all((FOLDER / name).read_text())
]
NAMES = [f"{document['kind']}/{document['metadata']['name']}" for document in DOCUMENTS]
OF = dict(zip(NAMES, DOCUMENTS, strict=True))
VERSION = kubernetes_validate.latest_version()


def pod(document: dict[str, Any]) -> dict[str, Any] | None:
    """The pod that a document makes, with its labels."""
    spec = document.get("spec", {})
    template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
    return None if template is None else template


PODS = {name: found for name, document in OF.items() if (found := pod(document)) is not None}
CONTAINERS = {name: found["spec"]["containers"][0] for name, found in PODS.items()}


@pytest.mark.parametrize("name", [name for name in NAMES if "keda" not in OF[name]["apiVersion"]])
def test_kubernetes_knows_every_word(name: str) -> None:
    kubernetes_validate.validate(OF[name], VERSION, strict=True)


def test_every_file_is_applied() -> None:
    assert {path.name for path in FOLDER.glob("*.yaml")} == {*FILES, "kustomization.yaml"}
    assert len(set(NAMES)) == len(NAMES)
    images = {image["name"] for image in KUSTOMIZATION["images"]}
    assert {container["image"] for container in CONTAINERS.values()} == images


@pytest.mark.parametrize("name", PODS)
def test_nobody_is_root_and_no_root_is_written(name: str) -> None:
    spec, container = PODS[name]["spec"], CONTAINERS[name]
    assert len(spec["containers"]) == 1
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    dockerfile = (FOLDER.parents[1] / "Dockerfile").read_text()
    assert f"USER {spec['securityContext']['runAsUser']}\n" in dockerfile
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in container["resources"]["limits"]
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])


@pytest.mark.parametrize("name", PODS)
def test_what_is_written_lies_on_a_volume(name: str) -> None:
    mounted = {mount["mountPath"]: mount["name"] for mount in CONTAINERS[name]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in PODS[name]["spec"]["volumes"]}
    assert set(mounted.values()) == set(volumes)
    assert {"/data", "/tmp"} <= set(mounted)
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in volumes.values()
        if len(volume) > 1 and "emptyDir" not in volume
    }
    assert {f"PersistentVolumeClaim/{claim}" for claim in claims} <= set(NAMES)
    limits = CONTAINERS[name]["resources"]["limits"]
    if "ephemeral-storage" in limits:
        sizes = [
            int(volume["emptyDir"]["sizeLimit"].removesuffix("Gi"))
            for volume in volumes.values()
            if "emptyDir" in volume
        ]
        assert sum(sizes) < int(limits["ephemeral-storage"].removesuffix("Gi")), "the pod would be evicted first"


def test_what_lasts_is_probed() -> None:
    api = CONTAINERS["Deployment/api"]
    assert api["livenessProbe"]["httpGet"]["path"] == "/healthz", "an outage of the database must not restart it"
    assert api["readinessProbe"]["httpGet"]["path"] == "/readyz"
    settings = Settings(data_dir=Path(OF["ConfigMap/settings"]["data"][PREFIX + "DATA_DIR"]))
    alive = str(settings.resolved_scratch_dir / ALIVE_FILE)
    for queue in QUEUES:
        container = CONTAINERS[f"Deployment/worker-{queue}"]
        assert alive in container["startupProbe"]["exec"]["command"]
        assert alive in container["livenessProbe"]["exec"]["command"][-1]
        grace = PODS[f"Deployment/worker-{queue}"]["spec"]["terminationGracePeriodSeconds"]
        assert grace > 30, "a worker hands over within 30 seconds"


def test_settings_and_secrets_are_what_the_settings_know(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, secret = OF["ConfigMap/settings"]["data"], OF["Secret/secrets"]["stringData"]
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    extra = {item["name"] for container in CONTAINERS.values() for item in container.get("env", [])}
    assert {*plain, *secret, *extra} <= known
    assert set(secret.values()) == {""}, "no secret has a default"
    for name, value in {**plain, **secret}.items():
        monkeypatch.setenv(name, value)
    Settings()
    for container in CONTAINERS.values():
        assert container["envFrom"] == [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "secrets"}}]


def test_labels_find_their_pods() -> None:
    pods = [found["metadata"]["labels"] for found in PODS.values()]
    wanted = [OF["Service/api"]["spec"]["selector"], OF["PodDisruptionBudget/api"]["spec"]["selector"]["matchLabels"]]
    wanted += [
        document["spec"]["podSelector"]["matchLabels"] for name, document in OF.items() if "NetworkPolicy" in name
    ]
    wanted += [
        document["spec"]["selector"]["matchLabels"] for document in DOCUMENTS if document["kind"] == "Deployment"
    ]
    for selector in wanted:
        assert any(selector.items() <= labels.items() for labels in pods), selector


def test_each_queue_is_listened_to_and_scaled() -> None:
    for queue in QUEUES:
        name = f"worker-{queue}"
        command = CONTAINERS[f"Deployment/{name}"]["command"]
        assert command[command.index("-Q") + 1] == queue
        assert "replicas" not in OF[f"Deployment/{name}"]["spec"], "it would fight with the autoscaler"
        scaled = OF[f"ScaledObject/{name}"]["spec"]
        assert scaled["scaleTargetRef"]["name"] == name
        assert scaled["minReplicaCount"] < scaled["maxReplicaCount"]
        (trigger,) = scaled["triggers"]
        assert trigger["type"] == "postgresql"
        assert f"queue = '{queue}'" in trigger["metadata"]["query"]
        source = OF[f"TriggerAuthentication/{trigger['authenticationRef']['name']}"]["spec"]["secretTargetRef"][0]
        assert source["key"] in OF["Secret/secrets"]["stringData"]
    gpu = CONTAINERS["Deployment/worker-gpu"]["resources"]["limits"]
    assert gpu["nvidia.com/gpu"] == 1, "one process per GPU"


def test_the_autoscaler_counts_what_waits_and_runs(postgresql_factory: Factory) -> None:
    query = OF["ScaledObject/worker-gpu"]["spec"]["triggers"][0]["metadata"]["query"]

    def wanted() -> int:
        with postgresql_factory.read() as work:
            return int(work.session.execute(text(query)).scalar_one())

    assert wanted() == 0
    jobs = [factories.make_job(postgresql_factory) for _ in range(2)]
    assert wanted() == 2
    factories.must_claim(postgresql_factory)
    assert wanted() == 2
    with postgresql_factory.work() as work:
        work.session.execute(text("UPDATE steps SET not_before = now() + interval '1 hour' WHERE state = 'ready'"))
    assert wanted() == 1, "who waits for a later time needs no worker yet"
    assert len(jobs) == 2


def test_the_nightly_backup_lands_on_its_volume() -> None:
    container = CONTAINERS["CronJob/backup"]
    assert re.search(r"python -m service\.backup \"(/backups)/", container["command"][-1])
    assert any(mount["mountPath"] == "/backups" for mount in container["volumeMounts"])
    assert OF["CronJob/backup"]["spec"]["concurrencyPolicy"] == "Forbid"
