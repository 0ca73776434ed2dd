# Builds the wheel in one stage and serves the chat of the examples from another that has no compiler.
# docs/docker.md says how to serve your own app from it.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml setup.py README.md LICENSE ./
COPY streamserve ./streamserve
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .
# Bytecode is compiled here, since the runtime's files are read-only.
RUN python -m venv --without-pip /opt/streamserve \
    && pip --python /opt/streamserve/bin/python install --no-cache-dir /wheels/*.whl

FROM python:${PYTHON}-slim
COPY --from=build /opt/streamserve /opt/streamserve
ENV PATH=/opt/streamserve/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    STREAMSERVE_BIND=0.0.0.0:8000
WORKDIR /app
COPY examples ./examples
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# Healthy is a server that answers, whatever the app says of "/", unless it says 5xx.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 \
    CMD ["python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/'); sys.exit(c.getresponse().status >= 500)"]
ENTRYPOINT ["streamserve"]
CMD ["examples.chat.app:sio"]
