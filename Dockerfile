# One image for API, migrations and workers; the accelerator's build differs by the index that torch comes from:
#   docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 -t label-factory:gpu .
FROM python:3.13-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /venv
# Dependencies first: they change seldom and weigh most.
COPY constraints.txt pyproject.toml README.md LICENSE ./
RUN torch="$(grep -E '^torch==' constraints.txt)" \
    && /venv/bin/pip install --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple "$torch"
COPY api api
COPY cli cli
COPY models models
COPY service service
COPY workers workers
RUN /venv/bin/pip install -c constraints.txt '.[onnx,cluster]'

FROM python:3.13-slim
RUN useradd --uid 10001 --create-home --home-dir /home/factory factory \
    && install -d -o factory -g factory /data /generators
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=PASSIVE \
    LABEL_FACTORY_DATA_DIR=/data LABEL_FACTORY_LOG_JSON=true
WORKDIR /data
USER 10001
EXPOSE 8000
CMD ["python", "-m", "api.main", "--host", "0.0.0.0", "--port", "8000"]
