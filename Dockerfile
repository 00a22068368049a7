# The listener on top of NVIDIA's Triton image: docker build -t listener . && docker run --gpus all -p 8080:8080 listener
# Any base with a tritonserver on PATH and Python 3.11 or newer will do.
ARG BASE_IMAGE=nvcr.io/nvidia/tritonserver:25.10-py3

FROM ${BASE_IMAGE} AS wheel
WORKDIR /src
RUN python3 -m pip install --no-cache-dir build
COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY listener listener
RUN python3 -m build --wheel --outdir /dist

FROM ${BASE_IMAGE}
COPY --from=wheel /dist/*.whl /tmp/dist/
# a virtual environment of its own: the listener's numpy is not the one that Triton's Python models see
RUN python3 -m venv /opt/listener \
 && /opt/listener/bin/pip install --no-cache-dir supervisor "$(ls /tmp/dist/*.whl)[images]" \
 && rm -rf /tmp/dist
ENV PATH=/opt/listener/bin:${PATH} PYTHONUNBUFFERED=1
COPY supervisord.conf /etc/supervisord.conf
WORKDIR /service
COPY listener.yaml ./
COPY handlers handlers
COPY triton_repo triton_repo
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["listener", "health"]
ENTRYPOINT ["supervisord", "-n", "-c", "/etc/supervisord.conf"]
