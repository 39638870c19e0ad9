# One image for every part of the service: the command selects it (`up`, `api`, `worker`, `jobs`, `scheduler`, `migrate`).

FROM python:3.12-slim AS builder
WORKDIR /build
RUN python -m venv --without-pip /opt/giro
# Dependencies first: this layer is reused as long as the lock file does not change.
COPY requirements.lock ./
RUN pip --python /opt/giro/bin/python install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps \
    -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY migrations migrations
COPY core core
COPY workers workers
COPY api api
# The build tools are in the lock file too; they are removed after the build.
RUN pip --python /opt/giro/bin/python install --no-cache-dir --disable-pip-version-check --no-deps \
    --no-build-isolation . \
    && pip --python /opt/giro/bin/python uninstall --yes --quiet hatchling editables trove-classifiers pathspec pluggy

FROM python:3.12-slim AS runner
LABEL org.opencontainers.image.title="Giro" \
    org.opencontainers.image.description="A self-hosted banking service whose transfers run through a queue." \
    org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 1000 --user-group --no-create-home --home-dir /app --shell /usr/sbin/nologin giro \
    && install --directory --owner giro --group giro --mode 0700 /app/data
COPY --from=builder /opt/giro /opt/giro
# The bytecode is in the image, because the root file system should be read-only.
ENV PATH=/opt/giro/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GIRO_HOST=0.0.0.0 \
    GIRO_METRICS_HOST=0.0.0.0 \
    GIRO_DATA_DIR=/app/data
WORKDIR /app
USER 1000:1000
VOLUME /app/data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s CMD ["python", "-m", "core.processes.healthcheck"]
ENTRYPOINT ["giro"]
# Migrates, then runs the whole service in one container, including its queue server.
CMD ["up"]
