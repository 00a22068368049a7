# What our image is when torch is added to it for its Triton, as one does who serves TorchScript without the native backend. torch
# comes first, so that its layer is made once and not whenever our code changes. tools/image_test.sh runs it as our image says, which
# it gives as the context `listener`: as a stage that does nothing, buildah 1.28 would leave it mounted.
ARG STANDIN=tritonserver
FROM ${STANDIN}
# Nobody needs this layer to be on a disk after a power cut, so that dpkg does not wait for it.
# hadolint ignore=DL3008
RUN apt-get update && apt-get -o Dpkg::Options::=--force-unsafe-io install -y --no-install-recommends python3-torch && \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
# hadolint ignore=DL3022
COPY --from=listener /opt/listener /opt/listener
# hadolint ignore=DL3022
COPY --from=listener /etc/supervisord.conf /etc/supervisord.conf
# hadolint ignore=DL3022
COPY --from=listener /service /service
