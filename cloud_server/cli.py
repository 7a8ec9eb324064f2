"""The `cloud-server` command: serve, fetch or export weights, or train what is served.

It does not know how either is done; what is slow to import is imported when it is needed.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloud_server.json_log import JsonLines
from cloud_server.log_limit import LimitedHandler
from cloud_server.settings import (
    API_KEY_VARIABLE,
    DTYPES,
    ENTROPY_DEVICES,
    LOG_FORMATS,
    LOG_LEVELS,
    NECK_VARIABLE,
    SAMPLINGS,
    SETTLINGS,
    Settings,
    choose_api_key,
)
from cloud_server.start_times import TIMES, StartTimes, timed
from shared_protocol.errors import ConfigError, UnimicError

if TYPE_CHECKING:
    from cloud_server.serving.loaded_model import LoadedModel

_LOG_LINE = "%(asctime)s %(levelname)s %(name)s %(message)s"
OWN_PACKAGES = ("cloud_server", "edge_client", "shared_protocol")
EXIT_CONFIG = 2
EXIT_FAILURE = 1
_DEFAULTS = Settings()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the process's exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        command = {"train": _train, "fetch": _fetch, "export-edge": _export_edge, "pipe": _pipe}
        if words and words[0] in command:
            return command[words[0]](words[1:])
        return _serve(words[1:] if words[:1] == ["serve"] else words)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in OWN_PACKAGES:
            raise
        remedy = "pip install 'unimic[cloud]'"
        print(f"cloud-server: {error.name} is not installed ({remedy})", file=sys.stderr)
        return EXIT_CONFIG
    except UnimicError as error:
        print(f"cloud-server: {error}", file=sys.stderr)
        return EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_FAILURE
    except KeyboardInterrupt:
        return 130


def parse_settings(words: Sequence[str]) -> Settings:
    """The settings that the flags of `serve` and the environment ask for.

    Raises:
        ConfigError: they cannot be used.
    """
    return _settings(_parser().parse_args(words))


def _serve(words: Sequence[str]) -> int:
    settings = parse_settings(words)
    start_logging(settings.log_level, settings.log_bytes, settings.log_format)
    times = StartTimes()
    TIMES.set(times)
    with timed("import of the server"):
        from cloud_server.http.host import serve

    def announce(line: str) -> None:
        print(line, flush=True)
        if settings.timings and line.startswith("listening on http"):
            print(times.table(), flush=True)

    serve(settings, lambda: load_served(settings), announce)
    return 0


def load_served(settings: Settings) -> LoadedModel:
    """What the settings say is to be served: a model, or a stub.

    Raises:
        UnimicError: it cannot be loaded.
    """
    if settings.stub:
        from cloud_server.stub import load_stub

        with timed("stub"):
            return load_stub(settings)
    with timed("import of the model's code"):
        from cloud_server.serving.load import load_model
    return load_model(settings)


def _train(words: Sequence[str]) -> int:
    from cloud_server.training.command import train

    return train(words)


def _pipe(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="cloud-server pipe",
        description="Carry a conversation between standard input and output and a server: the far "
        "end of 'edge-client --server exec:COMMAND'.",
    )
    parser.add_argument(
        "--server",
        default=f"http://127.0.0.1:{_DEFAULTS.port}",
        metavar="URL",
        help="http, https, tcp or tls address of the server, or unix:FILE [%(default)s]",
    )
    given = parser.parse_args(words)
    from cloud_server.links.pipe import relay

    relay(given.server)
    return 0


def _fetch(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="cloud-server fetch",
        description="Download the published weights of a bundle: transformer and tokenizers. "
        "What is there is kept, what was broken off is continued, all is verified.",
        epilog="Files go to $UNIMIC_MODELS, else ~/.cache/unimic/models; what the hub's own cache "
        "holds is used from there. HF_ENDPOINT names another hub, HF_TOKEN a key.",
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="show-o or show-o-512")
    name = parser.parse_args(words).bundle
    from shared_protocol.bundles.find import load_bundle
    from shared_protocol.bundles.hub import fetch_published

    fetch_published(name, transformer=True, say=lambda line: print(line, flush=True))
    fingerprint = load_bundle(name).fingerprint.hex()
    print(f"ready: cloud-server --bundle {name} (fingerprint {fingerprint[:16]})")
    return 0


def _export_edge(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="cloud-server export-edge",
        description="Write what an edge needs of a bundle into a folder, in files that need no "
        "torch to be read. Copy it to the device and name it with 'edge-client --bundle FOLDER'.",
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="show-o, show-o-512 or a folder")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder")
    parser.add_argument("--entropy", type=Path, metavar="FILE", help="as for 'cloud-server'")
    given = parser.parse_args(words)
    from shared_protocol.bundles.export import export_edge
    from shared_protocol.bundles.find import load_bundle
    from shared_protocol.bundles.with_entropy import with_entropy

    bundle = load_bundle(given.bundle)
    bundle = with_entropy(bundle, given.entropy) if given.entropy else bundle
    done = export_edge(bundle, given.out)
    print(f"{done.folder}: {done.size:,} bytes, fingerprint {done.fingerprint[:16]}")
    if not done.same:
        print(
            "the weights were converted, so this is another bundle: serve it with "
            f"cloud-server --bundle {done.folder} --backbone FOLDER"
        )
    return 0


def start_logging(level: str, bytes_per_s: int = 0, form: str = "text") -> None:
    """Log to stderr, at most so many bytes a second; our one line per request replaces uvicorn's.

    Args:
        level: one of `LOG_LEVELS`.
        bytes_per_s: see `LimitedHandler`; 0 = as many as come.
        form: one of `LOG_FORMATS`.
    """
    handler = LimitedHandler(sys.stderr, bytes_per_s)
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter(_LOG_LINE))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.captureWarnings(form == "json")  # whatever comes on stderr is such a line
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.root.level))


def _settings(args: argparse.Namespace) -> Settings:
    values = vars(args)
    key = choose_api_key(values.pop("api_key"), values.pop("api_key_file"), os.environ)
    if os.environ.get(NECK_VARIABLE):
        values.setdefault("neck", Path(os.environ[NECK_VARIABLE]))
    if "port" not in values:
        values["port"] = None if "unix" in values else _DEFAULTS.port
    return Settings(api_key=key, **values)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cloud-server",
        usage="cloud-server [serve] [options]\n       cloud-server fetch BUNDLE\n"
        "       cloud-server export-edge BUNDLE --out FOLDER\n"
        "       cloud-server pipe [--server URL]\n"
        "       cloud-server train RECIPE [options]",
        description="Serve the model to edge clients, fetch published weights ('fetch --help'), "
        "or train the built-in ones ('train --help').",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_place(parser)
    _add_model(parser)
    _add_key(parser)
    _add_limits(parser)
    return parser


def _add(group: argparse._ArgumentGroup, flag: str, text: str, kind: type = str) -> None:
    """Declare a flag whose default is that of `Settings`."""
    metavar = {int: "N", float: "SECONDS"}.get(kind)
    group.add_argument(flag, type=kind, default=_default(flag), metavar=metavar, help=text)


def _add_choice(
    group: argparse._ArgumentGroup, flag: str, choices: Sequence[str], text: str
) -> None:
    """Declare a flag of a few values whose default is that of `Settings`."""
    group.add_argument(flag, choices=choices, default=_default(flag), help=text)


def _add_path(group: argparse._ArgumentGroup, flag: str, text: str) -> None:
    """Declare a flag for a path that `Settings` need not have."""
    group.add_argument(flag, type=Path, default=argparse.SUPPRESS, help=text)


def _default(flag: str) -> Any:
    return getattr(_DEFAULTS, flag.removeprefix("--").replace("-", "_"))


def _add_place(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where")
    _add(group, "--host", "address to listen on")
    group.add_argument(
        "--port",
        type=int,
        default=argparse.SUPPRESS,
        metavar="N",
        help="TCP port; 0 takes a free one and prints the URL; with --unix there is none unless "
        f"it is given (default: {_DEFAULTS.port})",
    )
    _add_path(
        group, "--unix", "socket file to listen on; edges give --server unix:FILE, which may chat"
    )
    _add(group, "--root-path", "where a proxy shows this server, such as /unimic")
    group.add_argument(
        "--timings", action="store_true", help="print where the time until it is ready went"
    )
    _add_path(group, "--ready-file", "gets the URL once ready, each further address on a line")
    group.add_argument(
        "--tcp", type=int, metavar="PORT", help="also serve conversations as bare frames there"
    )
    _add_path(group, "--tls-cert", "PEM certificate for that port")
    _add_path(group, "--tls-key", "PEM key of the certificate, if it is not in the same file")
    _add_choice(group, "--log-level", LOG_LEVELS, "detail")
    _add(
        group,
        "--otlp-endpoint",
        "collector of traces over HTTP, such as http://127.0.0.1:4318, or as OpenTelemetry's "
        "variables say; needs unimic[tracing]",
    )
    _add_choice(group, "--log-format", LOG_FORMATS, "json: one object a line")
    _add(group, "--log-bytes", "most bytes of log a second; 0 = as many as come", int)


def _add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    _add(group, "--bundle", "builtin, show-o, show-o-512 or a folder; both ends hold the same")
    group.add_argument(
        "--stub",
        action="store_true",
        help="serve no model: fixed tokens in the bundle's formats, at once, for the tests of "
        "programs that talk to a server",
    )
    _add_path(
        group, "--backbone", "weights of the transformer, where they do not lie with the bundle"
    )
    _add_path(
        group,
        "--entropy",
        "entropy models of your own for the bundle ('train entropy --bundle'); edges fetch them "
        "with 'edge-client fetch'",
    )
    _add_path(
        group,
        "--neck",
        f"classifies pictures by their tokens ('train neck'), or ${NECK_VARIABLE}; else the one "
        "that comes with the bundle, if any",
    )
    _add_choice(
        group,
        "--dtype",
        DTYPES,
        "of the transformer; auto = bfloat16 for Show-o's weights, else float32",
    )
    _add_choice(
        group,
        "--sampling",
        SAMPLINGS,
        "order of decoding; auto = reference for Show-o's weights, else standard",
    )
    _add(
        group,
        "--mend",
        "how often a picture that does not show what was asked is mended at most: auto, off or a "
        "number; auto = 3 for weights that can point at things, 0 for others; off draws from the "
        "prompt as it stands, and lays nothing out",
    )
    _add_choice(
        group,
        "--settle",
        SETTLINGS,
        "passes of a second look at every token; auto = 4 with the order standard, else none",
    )
    _add(
        group,
        "--best-of",
        "draw at most so many pictures until the model says that one shows what was asked; for "
        "weights that cannot be mended, such as Show-o's",
        int,
    )
    _add(group, "--device", "auto, cpu, cuda or cuda:N")
    group.add_argument(
        "--cuda-graphs",
        action="store_true",
        help="start a decoding step's kernels all at once: less waiting for the processor where "
        "few requests share a pass; takes GPU memory, and logits may differ in their last bits",
    )
    _add_choice(
        group,
        "--entropy-device",
        ENTROPY_DEVICES,
        "where the entropy models' parallel passes are computed; the bytes are the same",
    )
    _add(group, "--threads", "CPU threads of the model; 0 = automatic", int)
    _add(group, "--max-batch", "most requests in one pass; 0 = 1 on a CPU, 8 on a GPU", int)


def _add_key(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(f"key (or ${API_KEY_VARIABLE}, which other users cannot see)")
    group.add_argument("--api-key", default=None, help="clients must present this key")
    group.add_argument("--api-key-file", type=Path, default=None, help="file that holds it")
    _add_path(
        group,
        "--api-keys",
        "file of 'NAME KEY [requests=N] [tokens=N]' lines, with limits a minute of their own; "
        "SIGHUP reads it again",
    )
    _add(group, "--requests-per-minute", "most requests of each key; 0 = as many as come", int)
    _add(
        group,
        "--tokens-per-minute",
        "most token-steps of each key, that is, tokens times the passes of the model through which "
        "they go; 0 = as many as come",
        int,
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits")
    _add(group, "--max-queue", "most requests of a key or an address that wait", int)
    _add(group, "--max-inflight", "most requests of all being served at once", int)
    _add(group, "--max-work", "most token passes of one request; 0 = as the bundle needs", int)
    _add(group, "--max-connections", "most at once; 0 = as many as open files allow", int)
    _add(group, "--max-per-address", "most of them from one address; 0 = three quarters", int)
    _add(group, "--max-body", "largest request body, in bytes", int)
    _add(group, "--max-grid", "most tokens a side of a picture", int)
    _add(group, "--max-steps", "most decoding steps", int)
    _add(group, "--max-new-tokens", "longest answer, in tokens", int)
    _add(group, "--request-timeout", "time limit of a request", float)
    _add(group, "--head-timeout", "time limit for the head of a request to arrive", float)
    _add(group, "--idle-timeout", "how long a connection may wait for a request", float)
    _add(group, "--body-timeout", "time limit for a body to arrive", float)
    _add(group, "--shutdown-timeout", "how long stopping waits for what runs", float)
    _add(group, "--codec-threads", "threads that decode and encode messages", int)
    _add(group, "--cache-entries", "results kept for retries; 0 keeps none", int)
    _add(group, "--cache-bytes", "memory for these results", int)
    _add(group, "--cache-ttl", "how long a result is kept", float)
    _add_path(group, "--results-folder", "keep results there, too, so that a restart loses none")
    _add(group, "--results-bytes", "most bytes of results in that folder", int)
    _add(group, "--keep-lost", "how long work goes on whose client is gone", float)
    _add(group, "--max-sessions", "most conversations that are open at once", int)
    _add(group, "--session-idle", "how long a conversation may be silent", float)
    _add(group, "--picture-bytes", "memory for the pictures of conversations of one key", int)
    _add(group, "--picture-total", "memory for all of them", int)
    _add(group, "--picture-ttl", "how long such a picture is kept after its last use", float)


if __name__ == "__main__":
    sys.exit(main())
