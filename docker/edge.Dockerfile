# The edge client with a CPU-only torch and no code of the server or of training; its default command runs the demo against $UNIMIC_SERVER.
FROM python:3.11-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /opt/unimic
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY docker/constraints.txt docker/constraints.txt
RUN pip install --no-cache-dir --index-url ${TORCH_INDEX} torch==2.13.0
COPY shared_protocol shared_protocol
COPY edge_client edge_client
# The project declares both commands; the server's would only fail here.
RUN pip install --no-cache-dir -c docker/constraints.txt . && rm "$(command -v cloud-server)"
RUN useradd --create-home --uid 1000 unimic && mkdir /demo_out && chown unimic /demo_out
USER 1000
ENV UNIMIC_SERVER=http://cloud:8400
HEALTHCHECK --interval=30s --timeout=5s --retries=3 \
    CMD ["edge-client", "--help"]
CMD ["python", "-m", "edge_client.demo", "--out", "/demo_out"]
