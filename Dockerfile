# The listener on top of NVIDIA's Triton image: docker build -t listener . && docker run --gpus all -p 8080:8080 listener
# Any base with a tritonserver on PATH, Python 3.11 or newer and its pip will do.
ARG BASE_IMAGE=nvcr.io/nvidia/tritonserver:25.10-py3

FROM ${BASE_IMAGE} AS build
WORKDIR /src
# a virtual environment of its own: the listener's numpy is not the one that Triton's Python models see; without a pip in
# it, which would need the package python3-venv, and NVIDIA's image does without that
RUN python3 -m venv --without-pip /opt/listener
COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY listener listener
RUN python3 -m pip --python /opt/listener/bin/python install --no-cache-dir supervisor '.[images]'

FROM ${BASE_IMAGE}
COPY --from=build /opt/listener /opt/listener
ENV PATH=/opt/listener/bin:${PATH} PYTHONUNBUFFERED=1
COPY supervisord.conf /etc/supervisord.conf
WORKDIR /service
COPY listener.yaml ./
COPY handlers handlers
COPY triton_repo triton_repo
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["listener", "health"]
# Not through NVIDIA's entrypoint: with AIP_MODE set, that one puts its own tritonserver in front of our command. Through
# bash, because where the base sets BASH_ENV, that is what turns on CUDA's forward compatibility for older drivers.
ENTRYPOINT ["bash", "-c", "exec supervisord -n -c /etc/supervisord.conf"]
