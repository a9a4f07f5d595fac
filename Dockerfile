# The Python on which all tests run.
FROM python:3.11-slim-bookworm AS build

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev libssl-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.lock ./
RUN python3 -m venv /opt/pgsplit && /opt/pgsplit/bin/pip install --no-cache-dir -r requirements.lock
COPY . ./
RUN /opt/pgsplit/bin/pip install --no-cache-dir --no-deps . && /opt/pgsplit/bin/pgsplit build --check

FROM python:3.11-slim-bookworm

RUN useradd --system --uid 10001 --no-create-home --home-dir /run/pgsplit pgsplit \
    && install -d -o pgsplit -m 0700 /run/pgsplit \
    && install -d /etc/pgsplit
COPY --from=build /opt/pgsplit /opt/pgsplit
ENV PATH=/opt/pgsplit/bin:$PATH
USER 10001
EXPOSE 6432 8432
# TERM drains: transactions may end within graceful_timeout (30 s), which has to be less than what `docker stop` waits.
STOPSIGNAL SIGTERM
# With the admin page on port 8432. It stays healthy while all reads have to go to the primary.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-c", \
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:8432/readyz?level=writes', timeout=4)"]
ENTRYPOINT ["python", "-m", "pgsplit"]
CMD ["serve", "-c", "/etc/pgsplit/pgsplit.yaml"]
