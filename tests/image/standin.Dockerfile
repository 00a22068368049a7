# Stands for nvcr.io/nvidia/tritonserver where there is no registry: the Triton of nvidia-pytriton's wheel in NVIDIA's places,
# on Debian. What it cannot show stands in docs/compatibility.md.
ARG DEBIAN=debian:bookworm-slim
FROM ${DEBIAN}
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libpython3.11 python3 python3-pip && rm -rf /var/lib/apt/lists/*
# For Triton's own Python: what its stub needs, and what our Python-based backend needs, which is there for the native one.
# tools/image_test.sh has a folder of packages, of which our lock names the versions.
# hadolint ignore=DL3013
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m pip install --no-cache-dir --break-system-packages 'numpy<2' onnxruntime
# hadolint ignore=DL3013
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m pip install --no-cache-dir --no-deps --target /tmp/wheel nvidia-pytriton && \
    mv /tmp/wheel/pytriton/tritonserver /opt/tritonserver && \
    mv /tmp/wheel/nvidia_pytriton.libs /opt/tritonserver/lib && \
    mv /opt/tritonserver/python_backend_stubs/3.11/triton_python_backend_stub /opt/tritonserver/backends/python && \
    rm -r /tmp/wheel /opt/tritonserver/python_backend_stubs
# As NVIDIA's has them: the file that every bash of a script reads first, and an entrypoint that is not for us.
RUN echo 'export READ_FROM_BASH_ENV=yes' > /etc/shinit_v2
ENV PATH=/opt/tritonserver/bin:${PATH} LD_LIBRARY_PATH=/opt/tritonserver/lib BASH_ENV=/etc/shinit_v2
ENTRYPOINT ["/bin/false"]
