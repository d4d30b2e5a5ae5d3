"""Submitting a job so that doing it again after a crash makes no second one."""

from cli.client import Client, Json


def submit_or_resume(client: Client, body: Json, key: str) -> Json:
    """The job of this key: made now, found from before, or taken up again where it had failed or was cancelled."""
    job = client.post("/v1/jobs", body, headers={"idempotency-key": key})
    if job["state"] in {"failed", "cancelled"}:
        job = client.post(f"/v1/jobs/{job['id']}:retry")
    return job
