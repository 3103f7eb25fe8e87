# The gateway, with LiteRT in process or TensorFlow Serving behind it. Build at the root of the source tree:
#   docker build -f serving/deploy/gateway.Dockerfile -t coverslip-gateway .
FROM python:3.11-slim AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --wheel-dir /wheels -c requirements/constraints.txt ".[serving]"

FROM python:3.11-slim
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --no-index --find-links /wheels "coverslip[serving]" && rm -rf /wheels \
 && useradd --system --uid 10001 coverslip
USER 10001
EXPOSE 50051 9464 50052
STOPSIGNAL SIGTERM
ENTRYPOINT ["coverslip", "serve"]
CMD ["--listen", "127.0.0.1:50051"]
