# The edge client without torch and with no code of the server or of training; its default command runs the demo against
# $UNIMIC_SERVER; compose.yaml has it serve the page instead.
FROM python:3.11 AS build
# This stage has a C compiler; the wheel takes the compiled decoder along.
WORKDIR /opt/unimic
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY shared_protocol shared_protocol
COPY edge_client edge_client
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
COPY docker/constraints.txt /opt/unimic/constraints.txt
COPY --from=build /wheels /wheels
# The project declares both commands; the server's would only fail here.
RUN pip install --no-cache-dir --no-compile -c /opt/unimic/constraints.txt "$(echo /wheels/*.whl)[gateway]" \
    && rm "$(command -v cloud-server)"
# One run of each kind writes the bytecode of what is imported, and of nothing else; commands start
# in half the time with it.
RUN sample="$(python -c 'from edge_client.demo import SAMPLES; print(SAMPLES / "scene1.webp")')" \
    && edge-client encode "$sample" -q -o /tmp/a.umic && edge-client decode /tmp/a.umic -q -o /tmp/a.png \
    && { edge-client vqa "$sample" "?" --server http://127.0.0.1:9 --timeout 1 || true; } \
    && rm /tmp/a.umic /tmp/a.png
RUN useradd --create-home --uid 1000 unimic && mkdir /demo_out && chown unimic /demo_out
USER 1000
EXPOSE 8401
ENV UNIMIC_SERVER=http://cloud:8400
HEALTHCHECK --interval=30s --timeout=5s --retries=3 \
    CMD ["edge-client", "--help"]
CMD ["python", "-m", "edge_client.demo", "--out", "/demo_out"]
