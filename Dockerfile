# Triton and the listener in one image. On NVIDIA's: docker build -t listener . && docker run --gpus all -p 8080:8080 listener
# On Debian, with the Triton of nvidia-pytriton's wheel, for machines without a GPU: docker build --target cpu -t listener-cpu .
# --build-arg SERVICE=examples/text_tokenizer bakes in another service: a folder of this directory with a listener.yaml.
# --secret id=pip.conf,src=FILE says where pip finds packages, for the time of the build only.

# any base with a tritonserver on PATH, Python 3.11 to 3.13 and its pip will do
ARG BASE_IMAGE=nvcr.io/nvidia/tritonserver:25.10-py3
# Python 3.11; the wheel's Triton knows no 3.13
ARG CPU_BASE_IMAGE=debian:bookworm-slim

FROM ${CPU_BASE_IMAGE} AS python
# versions are Debian's business, whose updates are security fixes
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libpython3.11 python3 && rm -rf /var/lib/apt/lists/*

FROM python AS python-pip
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip && rm -rf /var/lib/apt/lists/*

# The listener's wheel, which is the same for every Python.
FROM python-pip AS wheel
WORKDIR /src
COPY requirements/build.lock requirements/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip install --require-hashes --target /opt/build -r requirements/build.lock
COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY listener listener
RUN PYTHONPATH=/opt/build python3 -m pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /dist .

# The service: the sample, which lies among other things, or a folder of its own.
FROM python AS service
ARG SERVICE=.
COPY ${SERVICE} /given
WORKDIR /given
RUN mkdir /service && if [ "${SERVICE}" = . ]; then cp -r listener.yaml handlers triton_repo /service; else cp -r . /service; fi && \
    test -f /service/listener.yaml && chmod -R a+rX /service

# What the listener needs, from a lock, in a virtual environment of its own: its numpy is not the one that Triton's Python
# models see. The code comes in a stage after it, so that it alone is new where only it has changed.
FROM ${BASE_IMAGE} AS packages
COPY requirements /requirements
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    sh /requirements/install.sh packages ""
FROM packages AS code
COPY --from=wheel /dist /dist
RUN sh /requirements/install.sh code /dist/*.whl

FROM python-pip AS packages-cpu
COPY requirements /requirements
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    sh /requirements/install.sh packages -cpu
FROM packages-cpu AS code-cpu
COPY --from=wheel /dist /dist
RUN sh /requirements/install.sh code /dist/*.whl

# The two images say the same from ENV on, which tests/image compares.
FROM python AS cpu
COPY --from=packages-cpu /opt/listener /opt/listener
COPY --from=code-cpu /code /opt/listener
COPY supervisord.conf /etc/supervisord.conf
COPY --from=service /service /service
ENV PATH=/opt/listener/bin:${PATH} PYTHONUNBUFFERED=1 HOME=/tmp LISTENER_METRICS_PORT=8003
WORKDIR /service
USER 1000:1000
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["listener", "health"]
ENTRYPOINT ["bash", "-c", "exec listener init --config /etc/supervisord.conf"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="triton-listener" \
      org.opencontainers.image.description="Triton behind Google's custom-container contract, on the CPU" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM ${BASE_IMAGE}
COPY --from=packages /opt/listener /opt/listener
COPY --from=code /code /opt/listener
COPY supervisord.conf /etc/supervisord.conf
COPY --from=service /service /service
# HOME: whoever the container runs as can write in /tmp and nowhere else
ENV PATH=/opt/listener/bin:${PATH} PYTHONUNBUFFERED=1 HOME=/tmp LISTENER_METRICS_PORT=8003
WORKDIR /service
# a number, by which Kubernetes sees that it is not root; any other will do
USER 1000:1000
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["listener", "health"]
# Not through NVIDIA's entrypoint: with AIP_MODE set, that one puts its own tritonserver in front of our command. Through
# bash, because where the base sets BASH_ENV, that is what turns on CUDA's forward compatibility for older drivers.
ENTRYPOINT ["bash", "-c", "exec listener init --config /etc/supervisord.conf"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="triton-listener" \
      org.opencontainers.image.description="NVIDIA Triton behind Google's custom-container contract" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
