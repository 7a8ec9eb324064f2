"""The images' instructions without a Docker engine: linted, parsed, run where possible."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
INSTALL_SECONDS = 300


def _instructions(dockerfile: Path) -> list[tuple[str, str]]:
    text = dockerfile.read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def _words(dockerfile: Path, word: str) -> list[str]:
    return [rest for found, rest in _instructions(dockerfile) if found == word]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_linter_finds_no_error_or_warning(dockerfile: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, "--failure-threshold", "warning", dockerfile], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_image_runs_as_an_unprivileged_user_with_a_health_check(dockerfile: Path) -> None:
    users = _words(dockerfile, "USER")
    assert users
    assert users[-1] not in ("root", "0")
    assert _words(dockerfile, "HEALTHCHECK")


@pytest.mark.slow
@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_what_the_image_copies_builds_a_complete_wheel(dockerfile: Path, tmp_path: Path) -> None:
    context, target = tmp_path / "context", tmp_path / "site"
    _copy_sources(dockerfile, context)
    built = [rest.split() for rest in _words(dockerfile, "RUN") if rest.startswith("pip wheel")]
    assert [words[-1] for words in built] == ["."]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target]
    subprocess.run([*command, "."], cwd=context, check=True, timeout=INSTALL_SECONDS)
    packages = [path.name for path in context.iterdir() if (path / "__init__.py").is_file()]
    is_cloud = dockerfile.stem == "cloud"
    installed = " ".join(_words(dockerfile, "RUN"))
    assert ("[cloud]" in installed) == is_cloud
    assert ("cloud_server" in packages) == is_cloud
    assert (target / "cloud_server").exists() == is_cloud
    assert list((target / "shared_protocol" / "entropy").glob("_kernel*.so"))
    shipped = [p for name in packages for p in (ROOT / name).glob("weights/builtin/*")]
    assert shipped
    missing = [path for path in shipped if not (target / path.relative_to(ROOT)).is_file()]
    assert missing == []


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_the_last_stage_has_no_compiler_and_the_one_before_has(dockerfile: Path) -> None:
    build, last = _words(dockerfile, "FROM")
    assert build.split() == ["python:3.11", "AS", "build"]
    assert last == "python:3.11-slim"


def test_the_edge_needs_no_code_of_the_server(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['cloud_server'] = None\n"
        "from edge_client.cli import main\n"
        "from edge_client.demo import SAMPLES\n"
        f"out = {str(tmp_path / 'a.umic')!r}\n"
        "picture = str(SAMPLES / 'scene1.webp')\n"
        "assert main(['encode', picture, '-o', out]) == 0\n"
        "assert main(['inspect', out]) == 0\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _copy_sources(dockerfile: Path, context: Path) -> None:
    for rest in _words(dockerfile, "COPY"):
        *sources, destination = rest.split()
        if sources[0].startswith("--from") or destination.startswith("/"):
            continue
        for source in sources:
            place = context / destination / (Path(source).name if destination == "./" else "")
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                skip = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / source, context / destination, ignore=skip)
            else:
                shutil.copy(ROOT / source, place)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_pinned_torch_is_the_one_of_the_constraints(dockerfile: Path) -> None:
    pins = re.findall(r"torch==([0-9.]+)", "\n".join(_words(dockerfile, "RUN")))
    constraints = (DOCKER / "constraints.txt").read_text()
    assert bool(pins) == (dockerfile.stem == "cloud")
    assert all(f"torch=={pin}\n" in constraints for pin in pins)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_default_command_is_one_that_the_project_installs(dockerfile: Path) -> None:
    command = yaml.safe_load(_words(dockerfile, "CMD")[-1])
    program = Path(sys.executable).with_name(command[0])
    assert program.exists()
    arguments = [*command[1:3], "--help"] if command[0] == "python" else ["--help"]
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0
    flags = [word for word in command[1:] if word.startswith("--")]
    assert [flag for flag in flags if flag not in done.stdout] == []


def test_compose_edge_waits_for_a_healthy_cloud_and_talks_to_it() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    edge = services["edge"]
    assert edge["depends_on"]["cloud"]["condition"] == "service_healthy"
    port = yaml.safe_load(_words(DOCKER / "cloud.Dockerfile", "CMD")[-1])[-1]
    assert edge["environment"]["UNIMIC_SERVER"] == f"http://cloud:{port}"
    for service in services.values():
        assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).exists()


@pytest.mark.skipif(
    shutil.which("docker-compose") is None, reason="docker-compose is not installed"
)
def test_compose_file_is_accepted_by_docker_compose() -> None:
    environment = {**os.environ, "COMPOSE_PROJECT_NAME": "unimic"}
    command = ["docker-compose", "-f", str(DOCKER / "compose.yaml"), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
