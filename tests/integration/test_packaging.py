"""The distributions as a user gets them: built, installed elsewhere, run outside the tree."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DATA = [
    *(".c", ".onnx", ".md", ".json", ".safetensors", ".msgpack", ".toml", ".webp", ".jsonl"),
    *(".html", ".css", ".js", ".svg"),
]
RESULTS = (
    "cloud_server/benchmarks/results",
    "cloud_server/training/results",
    "edge_client/evaluation/results",
)
"""What was measured on this code; it stays in the repository."""


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Suffix to file, of the sdist and the wheel that is built from it."""
    source = tmp_path_factory.mktemp("source")
    copy_tracked(source)
    out = tmp_path_factory.mktemp("dist")
    # This environment has setuptools' requirements; an isolated one would be fetched again.
    run(sys.executable, "-m", "build", "--outdir", out, source, cwd=out)
    return {path.suffix: path for path in out.iterdir()}


def copy_tracked(folder: Path) -> None:
    """Every file that is in the repository, as it is now."""
    for name in filter(None, run("git", "ls-files", "-z", cwd=ROOT).split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())


def data_files() -> list[str]:
    tracked = run("git", "ls-files", "cloud_server", "edge_client", "shared_protocol", cwd=ROOT)
    names = [name for name in tracked.splitlines() if Path(name).suffix in DATA]
    return [name for name in names if not name.startswith(RESULTS)]


def test_the_wheel_holds_every_data_file_and_no_test(distributions: dict[str, Path]) -> None:
    held = set(zipfile.ZipFile(distributions[".whl"]).namelist())
    assert len(data_files()) > 20
    assert [name for name in data_files() if name not in held] == []
    assert not [name for name in held if name.startswith("tests/")]


def test_the_sdist_holds_what_the_wheel_is_built_from(distributions: dict[str, Path]) -> None:
    with tarfile.open(distributions[".gz"]) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "NOTICE"} <= held
    assert [name for name in data_files() if name not in held] == []


def test_the_wheel_runs_in_a_fresh_environment_outside_the_tree(
    distributions: dict[str, Path], tmp_path: Path
) -> None:
    place = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", place, cwd=tmp_path)
    python = place / "bin" / "python"
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path)
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"),
        distributions[".whl"],
        cwd=tmp_path,
    )
    # The dependencies are those of this environment, behind the new one's own packages; its
    # path entry of the tree itself is left out.
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    Path(site.strip(), "libraries.pth").write_text("\n".join(libraries) + "\n")
    said = run(
        *(
            python,
            "-c",
            "import edge_client, cloud_server; print(edge_client.__file__)",
        ),
        cwd=tmp_path,
    )
    assert said.startswith(str(place))
    bin_folder = place / "bin"
    assert "t2i" in run(bin_folder / "edge-client", "--help", cwd=tmp_path)
    assert "--port" in run(bin_folder / "cloud-server", "--help", cwd=tmp_path)
    demo = tmp_path / "demo"
    run(python, "-m", "edge_client.demo", "--spawn", "--out", demo, cwd=tmp_path)
    assert (demo / "summary.json").is_file() or any(demo.glob("*.png"))


def test_without_a_compiler_the_install_succeeds_and_numpy_decodes(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    copy_tracked(source)
    words = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", site, source]
    environment = {**os.environ, "CC": "/bin/false", "LDSHARED": "/bin/false"}
    done = subprocess.run(
        [sys.executable, *map(str, words)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list((site / "shared_protocol" / "entropy").glob("_kernel*.so"))
    script = (
        "import sys, numpy; sys.path.insert(0, sys.argv[1])\n"
        "from shared_protocol.bundles.find import load_bundle\n"
        "from shared_protocol.selfcheck.roundtrip import round_trip_digest\n"
        "import shared_protocol; print(shared_protocol.__file__)\n"
        "bundle = load_bundle(); print(bundle.entropy.decoded_by); round_trip_digest(bundle)\n"
    )
    said = run(sys.executable, "-c", script, site, cwd=tmp_path)
    assert said.startswith(str(site))
    assert "no C compiler" in said
