"""What one message, one conversation and one picture cost a server: processor time and memory.

Prints a table: `python -m cloud_server.benchmarks.unit_costs [--picture FILE]`. Times are those of
the processor, so that a busy machine tells the same. It does not know what the model costs.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from websockets.sync.client import connect

from cloud_server.serving.pictures import PictureStore
from shared_protocol.bundles.bundle import Bundle
from shared_protocol.bundles.find import load_bundle
from shared_protocol.http.contract import IDEMPOTENCY_KEY, INFO_PATH, MESSAGE_TYPE, task_path
from shared_protocol.message.codec import decode_request, encode_request, encode_response
from shared_protocol.messages import Options, Request, Response
from shared_protocol.session.hello import FINGERPRINT_BYTES, Hello, encode_hello
from shared_protocol.session.paths import SESSION_PATH
from shared_protocol.session.state import SESSION_ID_BYTES, KnownPicture
from shared_protocol.tasks import Scenario, Task
from shared_protocol.tokens import ImageTokens, KnownTokens

Row = tuple[str, str]
_REPEATS = 10
_POSTS = 300
_LINKS = 200
_READY_S = 180.0
_SIDE = 256
_TICKS = os.sysconf("SC_CLK_TCK")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description="What a message and a conversation cost a server.")
    parser.add_argument("--picture", type=Path, help="also: its bytes as a JPEG of 256x256 pixels")
    given = parser.parse_args(argv)
    bundle = load_bundle()
    rows = [*codec_rows(bundle), picture_row(bundle), *server_rows(bundle)]
    if given.picture is not None:
        rows += jpeg_rows(given.picture)
    width = max(len(name) for name, _ in rows)
    sys.stdout.write("".join(f"{name:{width}}  {value}\n" for name, value in rows))
    return 0


def _a_picture(bundle: Bundle) -> ImageTokens:
    """Tokens by chance; coding takes as long for any."""
    rng = np.random.default_rng(7)
    codes = rng.integers(0, bundle.vocabulary.codebook_size, bundle.grid, dtype=np.int32)
    return ImageTokens(codes, bundle.vocabulary.codebook_size)


def _processor_ms(work: Callable[[], object]) -> str:
    work()
    began = time.process_time()
    for _ in range(_REPEATS):
        work()
    return f"{(time.process_time() - began) * 1000 / _REPEATS:.1f} ms"


def codec_rows(bundle: Bundle) -> list[Row]:
    """Decoding and encoding, by task."""
    picture, words = _a_picture(bundle), bundle.text_tokenizer.encode("what is left of the tree?")
    question = Request(Task.VQA, words, picture)
    drawing = Request(Task.T2I, words)
    message = encode_request(question, bundle, Scenario.GENERIC).data
    answer, drawn = Response(Task.VQA, text=words), Response(Task.T2I, image=picture)
    return [
        (
            "decode a question with its picture",
            _processor_ms(lambda: decode_request(message, bundle)),
        ),
        ("encode an answer", _processor_ms(lambda: encode_response(answer, question, bundle))),
        ("encode a picture", _processor_ms(lambda: encode_response(drawn, drawing, bundle))),
    ]


def picture_row(bundle: Bundle) -> Row:
    """Memory of one picture of a conversation, as the store counts it."""
    store = PictureStore(1 << 30, 1 << 30, 60.0)
    store.put("owner", KnownPicture(KnownTokens.all_of(_a_picture(bundle))))
    return "memory of a picture of a conversation", f"{store.size} bytes"


def server_rows(bundle: Bundle) -> list[Row]:
    """A server process: its memory, that of open conversations, and what HTTP costs."""
    with _server() as (process, url), ExitStack() as links:
        before = _resident(process)
        for number in range(_LINKS):
            _open(links, url, bundle, number)
        grown = (_resident(process) - before) / _LINKS
        posted = _posted(process, url, bundle)
    return [
        ("memory of a server with the built-in models", f"{before / 1024:.0f} MiB"),
        ("memory of an open conversation", f"{grown:.0f} KiB"),
        ("a request whose result is kept, uniform coding", f"{posted:.1f} ms"),
    ]


def _open(links: ExitStack, url: str, bundle: Bundle, number: int) -> None:
    link = connect("ws" + url.removeprefix("http") + SESSION_PATH, compression=None, proxy=None)
    links.enter_context(link)
    session = number.to_bytes(SESSION_ID_BYTES, "big")
    hello = Hello(bundle.fingerprint[:FINGERPRINT_BYTES], session, 0, 0, False, "", ())
    link.send(encode_hello(hello))
    link.recv(30.0)


def _posted(process: subprocess.Popen[bytes], url: str, bundle: Bundle) -> float:
    """Milliseconds of the server's processor for a request that needs no model."""
    words = bundle.text_tokenizer.encode("a fox")
    options = Options(steps=1, mend=0, reply=Scenario.UNIFORM)
    body = encode_request(Request(Task.T2I, words, options=options), bundle).data
    headers = {"Content-Type": MESSAGE_TYPE, IDEMPOTENCY_KEY: "unit-costs"}
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60) as client:
        client.post(task_path(Task.T2I), content=body).raise_for_status()
        began = _processor(process)
        for _ in range(_POSTS):
            client.post(task_path(Task.T2I), content=body).raise_for_status()
        return (_processor(process) - began) * 1000 / _POSTS


@contextmanager
def _server() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready"
        command = [sys.executable, "-m", "cloud_server.cli", "--port", "0"]
        process = subprocess.Popen(
            [*command, "--ready-file", str(ready), "--log-level", "error"],
            stdout=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            give_up = time.monotonic() + _READY_S
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > give_up:
                    raise SystemExit("the server did not become ready")
                time.sleep(0.05)
            url = ready.read_text(encoding="utf-8").strip()
            httpx.get(url + INFO_PATH, trust_env=False, timeout=30).raise_for_status()
            yield process, url
        finally:
            process.terminate()
            process.wait(30)


def _resident(process: subprocess.Popen[bytes]) -> int:
    """KiB of memory that a process has."""
    text = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return int(text.partition("VmRSS:")[2].split()[0])


def _processor(process: subprocess.Popen[bytes]) -> float:
    """Seconds of processor that a process has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(") ")[2]
    used = fields.split()
    return (int(used[11]) + int(used[12])) / _TICKS


def jpeg_rows(file: Path) -> list[Row]:
    """Bytes of the middle of a picture as a JPEG, by quality."""
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side)).resize((_SIDE, _SIDE))
    rows = []
    for quality in (10, 75):
        data = io.BytesIO()
        square.save(data, "JPEG", quality=quality, optimize=True)
        rows.append(
            (f"JPEG of {_SIDE}x{_SIDE}, quality {quality}", f"{len(data.getvalue())} bytes")
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
