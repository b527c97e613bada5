# One image for each service: `docker build --target gateway .`, `storage-worker`, `broadcaster`.

ARG RUST_IMAGE=rust:1.95-slim-bookworm
# glibc, libgcc and CA certificates, no shell and no package manager; its user is 65532.
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS chef
RUN cargo install cargo-chef --version 0.1.78 --locked
WORKDIR /src

# The recipe depends on the manifests and the lock file alone, so the layer of dependencies below is
# rebuilt only when one of those changes.
FROM chef AS planner
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS builder
COPY --from=planner /src/recipe.json recipe.json
RUN cargo chef cook --release --locked --recipe-path recipe.json \
    --package gateway --package storage-worker --package broadcaster
COPY . .
RUN cargo build --release --locked \
    --package gateway --package storage-worker --package broadcaster

FROM ${RUNTIME_IMAGE} AS runtime
# A number, by which Kubernetes sees that it is not root.
USER 65532:65532
ENV LOG_FORMAT=json

FROM runtime AS gateway
COPY --from=builder /src/target/release/gateway /usr/local/bin/gateway
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/local/bin/gateway", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/gateway"]

FROM runtime AS storage-worker
COPY --from=builder /src/target/release/storage-worker /usr/local/bin/storage-worker
EXPOSE 8002
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/local/bin/storage-worker", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/storage-worker"]

FROM runtime AS broadcaster
COPY --from=builder /src/target/release/broadcaster /usr/local/bin/broadcaster
EXPOSE 8001
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/local/bin/broadcaster", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/broadcaster"]
