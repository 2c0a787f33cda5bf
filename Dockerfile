# Everything is built here; the second stage takes the finished environment and nothing else.
FROM python:3.13-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/fetchd
COPY requirements/runtime.txt /src/requirements/
RUN /opt/fetchd/bin/pip install --require-hashes -r /src/requirements/runtime.txt
COPY pyproject.toml README.md LICENSE /src/
COPY daemon /src/daemon
# The wheel is built with the locked tools of this environment; they and pip are not needed to run it.
RUN /opt/fetchd/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /src/dist /src \
 && /opt/fetchd/bin/pip install --no-deps /src/dist/*.whl \
 && /opt/fetchd/bin/pip uninstall --yes editables hatchling packaging pathspec pluggy tomlkit trove-classifiers \
 && /opt/fetchd/bin/pip uninstall --yes pip

FROM python:3.13-slim
LABEL org.opencontainers.image.title="fetchd" \
      org.opencontainers.image.description="Fetches over HTTP on a schedule and hands each result on." \
      org.opencontainers.image.licenses="MIT"
# The state is the daemon's alone; without the authorities' certificates every https fetch would fail.
RUN groupadd --system --gid 10001 fetchd \
 && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/fetchd --shell /usr/sbin/nologin fetchd \
 && install -d -m 0755 /etc/fetchd \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/fetchd \
 && test -s /etc/ssl/certs/ca-certificates.crt
COPY --from=build /opt/fetchd /opt/fetchd
ENV PATH=/opt/fetchd/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    FETCHD_CONFIG=/etc/fetchd/config.toml \
    STATE_DIRECTORY=/var/lib/fetchd
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/fetchd
VOLUME /var/lib/fetchd
STOPSIGNAL SIGTERM
ENTRYPOINT ["fetchd"]
CMD ["run"]
