# The image of every part: `interlock up` by default, or `resolver`, `admin`, … as its command.
#
#     make image                                  docker, podman or buildah, whichever works
#     make image BASE=localhost/debian-python     another base: anything with Python >= 3.11, its venv and useradd
#
# Settings of pip for the build (an index of your own, a certificate) come in as a secret, which stays out of the layers:
#
#     make image IMAGE_FLAGS="--secret id=pip.conf,src=$HOME/.config/pip/pip.conf"
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/interlock
# First what seldom changes. The locks pin every version and hash; wheels only, so no compiler is needed.
COPY requirements.lock requirements-build.lock ./
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    && /build/bin/pip install --quiet --require-hashes --only-binary :all: -r requirements-build.lock \
    && /build/bin/pip --python /opt/interlock/bin/python install --quiet --require-hashes --only-binary :all: \
        -r requirements.lock
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY admin admin
COPY agent agent
COPY interlock interlock
COPY resolver resolver
COPY store store
COPY support support
COPY watcher watcher
COPY zones zones
RUN /build/bin/pip wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir /wheels . \
    && /build/bin/pip --python /opt/interlock/bin/python install --quiet --no-deps --no-index /wheels/*.whl

FROM ${BASE}
LABEL org.opencontainers.image.title="Interlock" \
      org.opencontainers.image.description="Private networking for the environments of a platform" \
      org.opencontainers.image.licenses="Apache-2.0"
# The uid is fixed so that a volume keeps its owner from one image to the next.
RUN useradd --uid 10053 --user-group --no-log-init --home-dir /var/lib/interlock --no-create-home \
        --shell /usr/sbin/nologin interlock \
    && install -d -o interlock -g interlock -m 0700 /var/lib/interlock
COPY --from=build /opt/interlock /opt/interlock

# A container's own loopback is no use to its neighbours, so all three listen on every address of it; who may reach
# them is the container network's to say. The admin API asks for its token in any case.
ENV PATH=/opt/interlock/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    INTERLOCK_STATE_DIR=/var/lib/interlock \
    INTERLOCK_DNS_LISTEN=0.0.0.0:53,[::]:53 \
    INTERLOCK_API_LISTEN=0.0.0.0:8081 \
    INTERLOCK_OPS_LISTEN=0.0.0.0:8082 \
    INTERLOCK_LOG_FORMAT=json \
    HEALTH_URL=http://127.0.0.1:8081/livez

USER interlock
WORKDIR /var/lib/interlock
VOLUME /var/lib/interlock
# Port 53 needs net.ipv4.ip_unprivileged_port_start <= 53 in the container (Docker's default) or CAP_NET_BIND_SERVICE.
EXPOSE 53/udp 53/tcp 8081 8082
STOPSIGNAL SIGTERM
# For `interlock resolver` set HEALTH_URL=http://127.0.0.1:8082/livez.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request; urllib.request.urlopen(os.environ['HEALTH_URL'], timeout=2)"]
ENTRYPOINT ["interlock"]
CMD ["up"]
