# hookward's image: one static binary on nothing. Two ways to the same image, for amd64 and arm64:
#
#   docker build .                              compiles in here, for its own kind of machine
#   make image                                  compiles outside and takes target/image/<arch>
#
# Both run deploy/image/build, which says what the image holds. For both kinds of machine at once:
#
#   docker buildx build --platform linux/amd64,linux/arm64 --sbom=true --provenance=true .
ARG BINARY=compiled

FROM rust:1.95-bookworm AS compiled
# Debian keeps one version of a package at a time, so a pinned one is gone after the next update.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates cmake python3 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ARG TARGETARCH
RUN deploy/image/build "$TARGETARCH" && mv "target/image/$TARGETARCH" /image

FROM scratch AS prebuilt
ARG TARGETARCH
COPY target/image/${TARGETARCH} /image

FROM ${BINARY} AS binary

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="hookward" \
      org.opencontainers.image.description="Verification sidecar for Telnyx webhooks: verify, store durably, answer, forward" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=binary /image/hookward /usr/local/bin/hookward
COPY --from=binary /image/hookward.cdx.json /
COPY --from=binary /image/etc /etc
# Where a volume belongs: it takes over this owner. Without one hookward does not start, and says so.
COPY --from=binary --chown=65532:65532 /image/var/lib /var/lib
# By number, so that Kubernetes can tell that it is not root.
USER 65532:65532
EXPOSE 8080 9090
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s CMD ["hookward", "health"]
# So that `kubectl exec POD -- hookward events list` finds it.
ENV PATH=/usr/local/bin
ENTRYPOINT ["hookward"]
CMD ["run"]
