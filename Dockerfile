# A static binary in an empty image.
#
#   docker build -t dsvault .
#   docker run --rm -v vault:/data dsvault init
#   docker run -v vault:/data -v ./tls:/tls:ro -p 8200:8200 -e DSVAULT_LISTEN=0.0.0.0:8200 \
#     -e DSVAULT_TLS_CERT=/tls/cert.pem -e DSVAULT_TLS_KEY=/tls/key.pem dsvault
#
# Settings are variables, not flags, so that the health check sees them too.

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=
RUN CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /out/dsvault ./cmd/dsvault
# The folders of the final stage; data and tmp belong to the user there.
RUN mkdir -p /out/root/data /out/root/tmp /out/root/etc/ssl/certs \
 && chmod 700 /out/root/data /out/root/tmp \
 && cp /etc/ssl/certs/ca-certificates.crt /out/root/etc/ssl/certs/

FROM scratch
COPY --from=build --chown=10001:10001 /out/root/data /data
COPY --from=build --chown=10001:10001 /out/root/tmp /tmp
COPY --from=build /out/root/etc /etc
COPY --from=build /out/dsvault /dsvault
USER 10001:10001
ENV DSVAULT_DATA=/data/vault DSVAULT_CONFIG=/data/login HOME=/data TMPDIR=/tmp
VOLUME /data
EXPOSE 8200
HEALTHCHECK --interval=30s --timeout=6s --start-period=10s CMD ["/dsvault", "healthcheck"]
ENTRYPOINT ["/dsvault"]
CMD ["serve"]
