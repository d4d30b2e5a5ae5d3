"""A yardstick: the same two answers from bare FastAPI on uvicorn, without keys, log, metrics, limits or database."""

import sys

import uvicorn
from fastapi import FastAPI

from api.health import Health
from api.pagination import Page
from api.v1.jobs import JobAnswer
from benchmarks.load.stored_jobs import running_job

app = FastAPI(openapi_url=None)
JOBS = [JobAnswer.model_validate({**vars(running_job()), "id": f"job_{number:026}"}) for number in range(50)]


@app.get("/healthz")
async def ping() -> Health:
    """Nothing to look up."""
    return Health()


@app.get("/v1/jobs")
async def list_jobs() -> Page[JobAnswer]:
    """Fifty jobs from memory, serialised for each request."""
    return Page[JobAnswer](items=JOBS, next_cursor=None)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="warning")
