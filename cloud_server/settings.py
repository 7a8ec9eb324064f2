"""Every setting of the server, checked, with its default in one place.

It does not know where a value came from: a flag, the environment or a test.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shared_protocol.errors import ConfigError
from shared_protocol.messages import MAX_MENDS, MAX_NEW_TOKENS, MAX_STEPS
from shared_protocol.tokens import MAX_GRID

API_KEY_VARIABLE = "UNIMIC_API_KEY"
NECK_VARIABLE = "UNIMIC_NECK"
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")
DTYPES = ("auto", "float32", "bfloat16", "float16")
SAMPLINGS = ("auto", "reference", "standard")
SETTLINGS = ("auto", "off", "4", "8", "16")
ENTROPY_DEVICES = ("cpu", "cuda")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
_ROOT = re.compile(r"(/[\w.~-]+)*", re.ASCII)
_OWN_PATHS = ("v1", "healthz", "readyz", "metrics", "docs", "openapi.json")
_VISIBLE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Settings:
    """How the server runs; durations in seconds, sizes in bytes.

    Args:
        host: address to listen on.
        port: TCP port; 0 lets the system choose one, None opens none, which needs `unix`.
        unix: file of a socket that serves what the port does; None = there is none.
        root_path: where a proxy shows this server, such as "/unimic"; whether the proxy takes it
            away from paths or not, they are understood. "" = at the root.
        bundle: "builtin", a published bundle such as "show-o", the name of an installed one, or a
            folder.
        stub: whether fixed tokens are served in place of a model's.
        backbone: file or folder with the transformer's weights; None = those of the bundle.
        entropy: file with entropy models for the bundle; None = those that it has, if any.
        neck: file with a neck, which classifies pictures; None = the one that is shipped with the
            bundle, if any.
        dtype: of the transformer's weights, one of `DTYPES`; "auto" takes float32 for compact
            weights and bfloat16 for Show-o's.
        sampling: the order in which picture tokens are fixed, one of `SAMPLINGS`; "auto" takes
            "standard" for compact weights and "reference", exactly Show-o's, for Show-o's.
        mend: how often a picture is mended at most where a request does not say it: "auto", "off"
            or a number; "auto" is 3 for weights that were taught to point at things, 0 for others.
        settle: in how many passes a picture is settled: "auto", "off", "4", "8" or "16"; "auto" is
            4 with the order "standard", 0 with "reference".
        best_of: how many pictures are drawn at most, until the model says that one shows what was
            asked; for weights that cannot be mended.
        device: "auto", "cpu", "cuda" or "cuda:N".
        cuda_graphs: whether the model's repeated passes are captured as CUDA graphs; for a GPU.
        entropy_device: "cpu", or "cuda" for the parallel passes of the entropy models on a GPU.
        threads: CPU threads of the model; 0 leaves the choice to torch.
        api_key: key that clients must present; None serves everybody.
        api_keys: file of further keys with names, and limits of their own; None = none.
        requests_per_minute: most requests of a key in a minute, unless its line says otherwise;
            0 = as many as come.
        tokens_per_minute: the same of token-steps, see `serving.admission.price`.
        max_batch: most requests in one pass of the model; 0 means 1 on a CPU and 8 on a GPU.
        max_queue: most requests of one key, or of one address where there are no keys, that wait
            for the model.
        max_inflight: most requests of all being received, decoded, waiting, run and encoded.
        max_work: most token passes of one request; 0 = what users of the bundle may well ask for,
            see `serving.admission.price`.
        max_connections: most connections at once; 0 = what the limit of open files leaves room
            for, at most 4096.
        max_per_address: most of them from one address; 0 = three quarters of all.
        max_body: largest request body.
        max_grid: most tokens a side of a picture, after an extension.
        max_steps: most masked decoding steps.
        max_new_tokens: longest answer in tokens.
        request_timeout: time limit of a request, from its first byte to the end of its encoding.
        head_timeout: time limit for the head of each request, from its first byte or, on a new
            connection, from the start.
        idle_timeout: how long a connection may stay open between requests.
        body_timeout: time limit for a request body to arrive.
        shutdown_timeout: how long a stopping server waits for what runs.
        batch_window: how long the first request of a batch waits for others.
        codec_threads: threads that decode requests and encode responses.
        cache_entries: most results kept for retries with an Idempotency-Key; 0 keeps none.
        cache_bytes: most memory for these results.
        cache_ttl: how long a result is kept.
        results_folder: folder in which results are kept, too, so that a restart loses none;
            None = they are kept in memory only.
        results_bytes: most bytes of results there.
        max_sessions: most conversations that are open at once.
        hello_timeout: time limit for the first frame of a conversation.
        session_idle: how long a conversation may be silent.
        picture_bytes: most memory for pictures of conversations of one key, or of one conversation
            where there are no keys.
        picture_total: most memory for all of them.
        picture_ttl: how long such a picture is kept after its last use.
        tcp: port of bare frames; 0 takes a free one, None = there is no such port.
        tls_cert: PEM certificate for that port; None = no TLS.
        tls_key: PEM key of the certificate; None = it is in the same file.
        keep_lost: how long work goes on whose client is gone, where somebody may ask for it again.
        log_level: one of `LOG_LEVELS`.
        otlp_endpoint: collector of traces, such as "http://127.0.0.1:4318"; "" = the one that
            OpenTelemetry's variables name, if any.
        log_format: one of `LOG_FORMATS`; "json" is one object a line.
        log_bytes: most bytes of log a second, on average; 0 = as many as come.
        timings: whether it says where the time until it was ready went.
        ready_file: file that is to hold the URL once the server is ready.

    Raises:
        ConfigError: a value outside its range, or values that contradict each other.
    """

    host: str = "127.0.0.1"
    port: int | None = 8400
    unix: Path | None = None
    root_path: str = ""
    bundle: str = "builtin"
    stub: bool = False
    backbone: Path | None = None
    entropy: Path | None = None
    neck: Path | None = None
    dtype: str = "auto"
    sampling: str = "auto"
    mend: str = "auto"
    settle: str = "auto"
    best_of: int = 1
    device: str = "auto"
    cuda_graphs: bool = False
    entropy_device: str = "cpu"
    threads: int = 0
    api_key: str | None = field(default=None, repr=False)
    api_keys: Path | None = None
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    max_batch: int = 0
    max_queue: int = 64
    max_inflight: int = 256
    max_work: int = 0
    max_connections: int = 0
    max_per_address: int = 0
    max_body: int = 64 * 1024
    max_grid: int = MAX_GRID
    max_steps: int = MAX_STEPS
    max_new_tokens: int = MAX_NEW_TOKENS
    request_timeout: float = 120.0
    head_timeout: float = 10.0
    idle_timeout: float = 30.0
    body_timeout: float = 10.0
    shutdown_timeout: float = 30.0
    batch_window: float = 0.004
    codec_threads: int = 2
    cache_entries: int = 256
    cache_bytes: int = 16 * 1024 * 1024
    cache_ttl: float = 600.0
    keep_lost: float = 20.0
    results_folder: Path | None = None
    results_bytes: int = 64 * 1024 * 1024
    max_sessions: int = 1024
    hello_timeout: float = 10.0
    session_idle: float = 900.0
    picture_bytes: int = 64 * 1024 * 1024
    picture_total: int = 256 * 1024 * 1024
    picture_ttl: float = 600.0
    tcp: int | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    log_level: str = "info"
    otlp_endpoint: str = ""
    log_format: str = "text"
    log_bytes: int = 10_000
    timings: bool = False
    ready_file: Path | None = None

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            _check_range(name, getattr(self, name), low, high)
        object.__setattr__(self, "host", self.host.removeprefix("[").removesuffix("]"))
        object.__setattr__(self, "root_path", _checked_root(self.root_path))
        if not _DEVICE.fullmatch(self.device):
            raise ConfigError(f"device is {self.device!r}", "use auto, cpu, cuda or cuda:N")
        _check_choices(self)
        if self.mend not in ("auto", "off", *map(str, range(MAX_MENDS + 1))):
            raise ConfigError(f"mend is {self.mend!r}", f"use auto, off or 0..{MAX_MENDS}")
        _check_keys(self)
        if self.otlp_endpoint and not self.otlp_endpoint.startswith(("http://", "https://")):
            raise ConfigError(
                f"the collector of traces is {self.otlp_endpoint!r}",
                "write it like http://127.0.0.1:4318, where it takes OTLP over HTTP",
            )
        if self.stub and self.backbone is not None:
            raise ConfigError("a stub has no weights", "leave out --stub or --backbone")
        _check_links(self)
        if self.max_inflight < self.max_queue:
            raise ConfigError(
                f"max_inflight {self.max_inflight} is below max_queue {self.max_queue}",
                "raise --max-inflight or lower --max-queue",
            )

    @property
    def asks_for_key(self) -> bool:
        """Whether clients must present one."""
        return self.api_key is not None or self.api_keys is not None


_CHOICES = (
    ("log_level", LOG_LEVELS),
    ("log_format", LOG_FORMATS),
    ("dtype", DTYPES),
    ("sampling", SAMPLINGS),
    ("settle", SETTLINGS),
    ("entropy_device", ENTROPY_DEVICES),
)
_RANGES: tuple[tuple[str, float, float], ...] = (
    ("threads", 0, 1024),
    ("best_of", 1, 64),
    ("max_batch", 0, 1024),
    ("requests_per_minute", 0, 10**9),
    ("tokens_per_minute", 0, 10**15),
    ("max_queue", 1, 100_000),
    ("max_inflight", 1, 100_000),
    ("max_work", 0, 10**15),
    ("max_connections", 0, 1_000_000),
    ("max_per_address", 0, 1_000_000),
    ("results_bytes", 0, 2**40),
    ("log_bytes", 0, 10**9),
    ("head_timeout", 0.001, 86_400),
    ("idle_timeout", 0.001, 86_400),
    ("max_body", 64, 2**30),
    ("max_grid", 1, MAX_GRID),
    ("max_steps", 1, MAX_STEPS),
    ("max_new_tokens", 1, MAX_NEW_TOKENS),
    ("request_timeout", 0.001, 86_400),
    ("body_timeout", 0.001, 86_400),
    ("shutdown_timeout", 0, 86_400),
    ("batch_window", 0, 1),
    ("codec_threads", 1, 256),
    ("keep_lost", 0, 86_400),
    ("max_sessions", 1, 100_000),
    ("hello_timeout", 0.001, 86_400),
    ("session_idle", 0.001, 86_400),
    ("picture_bytes", 0, 2**40),
    ("picture_total", 0, 2**40),
    ("picture_ttl", 0, 86_400),
    ("cache_entries", 0, 1_000_000),
    ("cache_bytes", 0, 2**40),
    ("cache_ttl", 0, 10**9),
)


def _check_choices(settings: Settings) -> None:
    for name, choices in _CHOICES:
        if getattr(settings, name) not in choices:
            said = f"{name.replace('_', ' ')} is {getattr(settings, name)!r}"
            raise ConfigError(said, f"use one of {choices}")
    if settings.cuda_graphs and settings.device == "cpu":
        raise ConfigError("CUDA graphs are for a GPU", "leave out --cuda-graphs or --device")


def _check_keys(settings: Settings) -> None:
    if settings.api_key is not None and not _VISIBLE.fullmatch(settings.api_key):
        raise ConfigError(
            "the API key is empty or holds characters that no HTTP header can carry",
            "use visible ASCII characters without spaces; to serve everybody, give no key",
        )
    limits = settings.requests_per_minute or settings.tokens_per_minute
    if limits and not settings.asks_for_key:
        raise ConfigError("limits a minute are those of keys", "add --api-keys FILE")


def _check_links(settings: Settings) -> None:
    if settings.port is not None:
        _check_range("port", settings.port, 0, 65535)
    elif settings.unix is None:
        raise ConfigError("the server has no port and no socket", "give --port or --unix")
    if settings.tcp is not None:
        _check_range("tcp", settings.tcp, 0, 65535)
    if settings.tls_cert is not None and settings.tcp is None:
        raise ConfigError("a certificate is of use with --tcp only", "add --tcp PORT")
    if settings.tls_key is not None and settings.tls_cert is None:
        raise ConfigError("a key needs its certificate", "add --tls-cert FILE")


def _checked_root(path: str) -> str:
    """A path that proxies may put in front, without a slash at its end."""
    bare = path.rstrip("/")
    if not _ROOT.fullmatch(bare):
        raise ConfigError(f"root path is {path!r}", "write it like /unimic")
    if bare.split("/")[1:2] and bare.split("/")[1] in _OWN_PATHS:
        raise ConfigError(
            f"root path is {path!r}, which is a path of the server's own",
            "choose another, such as /unimic",
        )
    return bare


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not math.isfinite(value) or not low <= value <= high:
        raise ConfigError(f"{name} is {value}", f"use {low:g}..{high:g}")


def choose_api_key(
    given: str | None, file: Path | None, environment: Mapping[str, str]
) -> str | None:
    """The API key to ask of clients: the given one, else the file's, else the environment's.

    Raises:
        ConfigError: the file cannot be read, or the variable is set and empty: whoever sets it
            means a key.
    """
    if given is not None:
        return given
    if file is None:
        key = environment.get(API_KEY_VARIABLE)
        if key is not None and not key.strip():
            raise ConfigError(
                f"{API_KEY_VARIABLE} is set and empty, and would serve everybody",
                f"put a key into it, or 'unset {API_KEY_VARIABLE}' to serve everybody",
            )
        return key
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the API key from {file}: {error}") from error
