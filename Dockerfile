# The image that everything starts from. A release names it with its digest: --build-arg BASE=python:3.13-slim-trixie@sha256:…
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS base
# Python's library comes as source. On a read-only root each start, and each health check, would compile it anew.
# Nobody changes a file of an image, so what is compiled is not compared with its source: neither dates nor hashes count.
RUN PYTHONHASHSEED=0 python -m compileall -q -f --invalidation-mode unchecked-hash \
      -x '/(site-packages|dist-packages|test|tests|idlelib|lib2to3|ensurepip|tkinter|turtledemo|pydoc_data)/' \
      "$(python -c 'import os; print(os.path.dirname(os.__file__))')"

# Everything is fetched and built here; the last stage takes the finished environment and nothing else.
FROM base AS build
ARG SOURCE_DATE_EPOCH=1700000000
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# Process 1 of the container (docs/adr/0014); its static form stands alone.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends tini=0.19.* \
 && rm -rf /var/lib/apt/lists/*
COPY requirements/runtime.txt requirements/
# Wheels alone, each compared with its hash. From here on, no index is asked again.
RUN pip download --require-hashes --only-binary :all: --requirement requirements/runtime.txt --dest /wheels
# hadolint ignore=DL3013
RUN python -m venv --without-pip /tools \
 && pip --python /tools/bin/python install --no-index --find-links /wheels hatchling
COPY pyproject.toml README.md LICENSE config.example.toml ./
COPY daemon daemon
COPY man/fetchd.1 man/
# What pyproject.toml wants and the lock does not have ends the build here. Neither pip nor the tools come along.
# hadolint ignore=DL3013
RUN SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH} \
    pip --python /tools/bin/python wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheels . \
 && python -m venv --without-pip /opt/fetchd \
 && pip --python /opt/fetchd/bin/python install --no-index --find-links /wheels --no-compile fetchd \
 && PYTHONHASHSEED=0 python -m compileall -q -f --invalidation-mode unchecked-hash /opt/fetchd/lib

FROM base
# The state is the daemon's alone; without the authorities' certificates every https fetch would fail.
RUN echo 'fetchd:x:10001:' >> /etc/group \
 && echo 'fetchd:x:10001:10001:fetchd:/var/lib/fetchd:/usr/sbin/nologin' >> /etc/passwd \
 && install -d -m 0755 /etc/fetchd \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/fetchd \
 && test -s /etc/ssl/certs/ca-certificates.crt
COPY --from=build /usr/bin/tini-static /usr/bin/tini
COPY --from=build /opt/fetchd /opt/fetchd
ENV PATH=/opt/fetchd/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    FETCHD_CONFIG=/etc/fetchd/config.toml \
    STATE_DIRECTORY=/var/lib/fetchd
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="fetchd" \
      org.opencontainers.image.description="Fetches over HTTP on a schedule and hands each result on." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/fetchd
VOLUME /var/lib/fetchd
# To be reached from outside the container, the page needs daemon.listen = "0.0.0.0:9475".
EXPOSE 9475
STOPSIGNAL SIGTERM
# Longer than the ten seconds after which `fetchd status` itself says that the daemon does not answer.
HEALTHCHECK --interval=30s --timeout=15s --start-period=30s --retries=3 CMD ["fetchd", "status", "--quiet"]
ENTRYPOINT ["/usr/bin/tini", "-s", "--", "fetchd"]
CMD ["run"]
