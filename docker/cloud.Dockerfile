# The cloud server. CPU by default; a CUDA host builds with
#   --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128
FROM python:3.11 AS build
# This stage has a C compiler; the wheel takes the compiled decoder along.
WORKDIR /opt/unimic
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY shared_protocol shared_protocol
COPY cloud_server cloud_server
COPY edge_client edge_client
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY docker/constraints.txt /opt/unimic/constraints.txt
RUN pip install --no-cache-dir --index-url ${TORCH_INDEX} torch==2.13.0
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir -c /opt/unimic/constraints.txt "$(echo /wheels/*.whl)[cloud]"
RUN useradd --create-home --uid 1000 unimic
USER 1000
EXPOSE 8400
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8400/readyz', timeout=2)"]
CMD ["cloud-server", "--host", "0.0.0.0", "--port", "8400"]
