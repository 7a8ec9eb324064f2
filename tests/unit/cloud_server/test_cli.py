"""The command line: settings, exit codes, and what it does not import."""

import shutil
import subprocess
import sys
import types

import pytest
from official_files import small_files

from cloud_server import cli
from cloud_server.serving.load import backbone_path, load_model
from cloud_server.settings import Settings
from cloud_server.training import command as training_cli
from shared_protocol.bundles.find import load_bundle
from shared_protocol.errors import CheckpointError, ConfigError


def test_no_flags_give_the_defaults(monkeypatch):
    monkeypatch.delenv("UNIMIC_API_KEY", raising=False)
    assert cli.parse_settings([]) == Settings()


def test_flags_become_settings(tmp_path):
    words = (
        "--host ::1 --port 0 --bundle show-o --device cpu --threads 2 --max-batch 4 --max-queue 9"
    )
    words += " --max-body 4096 --request-timeout 7.5 --log-level debug --api-key k"
    words += f" --ready-file {tmp_path}/url --backbone {tmp_path}"
    settings = cli.parse_settings(words.split())
    assert (settings.host, settings.port, settings.bundle) == ("::1", 0, "show-o")
    assert (settings.device, settings.threads, settings.max_batch) == ("cpu", 2, 4)
    assert (settings.max_queue, settings.max_body, settings.request_timeout) == (9, 4096, 7.5)
    assert settings.ready_file == tmp_path / "url"
    assert settings.backbone == tmp_path
    assert settings.api_key == "k"


def test_the_key_comes_from_the_environment_if_no_flag_gives_it(monkeypatch):
    monkeypatch.setenv("UNIMIC_API_KEY", "from-environment")
    assert cli.parse_settings([]).api_key == "from-environment"


@pytest.mark.parametrize(
    "words",
    [
        ["--max-grid", "65"],
        ["serve", "--max-queue", "0"],
        ["--api-key", "two words"],
        ["--api-key-file", "/nonexistent/key"],
        ["--device", "tpu"],
    ],
    ids=" ".join,
)
def test_a_bad_setting_is_one_line_and_exit_status_2(words, capsys):
    assert cli.main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("cloud-server: ")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["--port", "many"], ["--no-such-flag"], ["train"], ["train", "x"]]
)
def test_words_that_are_no_flags_exit_with_status_2(words, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2


def test_serving_is_the_default_and_the_url_is_printed(monkeypatch, capsys):
    seen = []

    def serve(settings, load, announce):
        seen.append(settings.port)
        announce("listening on http://127.0.0.1:1")

    monkeypatch.setitem(sys.modules, "cloud_server.http.host", types.SimpleNamespace(serve=serve))
    loading = types.SimpleNamespace(load_model=lambda settings: None)
    monkeypatch.setitem(sys.modules, "cloud_server.serving.load", loading)
    assert cli.main(["--port", "1"]) == 0
    assert cli.main(["serve", "--port", "2"]) == 0
    assert seen == [1, 2]
    assert capsys.readouterr().out == "listening on http://127.0.0.1:1\n" * 2


def test_help_imports_neither_torch_nor_fastapi():
    code = (
        "import sys, cloud_server.cli as c\n"
        "try: c.main(['--help'])\n"
        "except SystemExit: pass\n"
        "try: c.main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'fastapi', 'uvicorn', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for flag in ("--api-key-file", "--ready-file", "--max-batch", "train"):
        assert flag in done.stdout


def test_train_runs_the_recipe_with_its_own_flags(monkeypatch):
    seen = []
    recipe = types.ModuleType("a_recipe", "What it makes.")
    recipe.add_arguments = lambda parser: parser.add_argument("--out", required=True)
    recipe.run = lambda args: seen.append(args.out)
    monkeypatch.setitem(sys.modules, "a_recipe", recipe)
    monkeypatch.setitem(training_cli.RECIPES, "entropy", ("a_recipe", "models"))
    assert cli.main(["train", "entropy", "--out", "folder"]) == 0
    assert seen == ["folder"]


def test_a_recipe_passes_its_exit_status_on(monkeypatch):
    recipe = types.ModuleType("a_recipe")
    recipe.add_arguments, recipe.run = lambda parser: None, lambda args: 3
    monkeypatch.setitem(sys.modules, "a_recipe", recipe)
    monkeypatch.setitem(training_cli.RECIPES, "entropy", ("a_recipe", "models"))
    assert cli.main(["train", "entropy"]) == 3


def test_a_recipe_that_is_not_installed_is_named(monkeypatch, capsys):
    missing = ("cloud_server.training.no_such_recipe", "nothing")
    monkeypatch.setitem(training_cli.RECIPES, "entropy", missing)
    assert cli.main(["train", "entropy"]) == 2
    assert "no module cloud_server.training.no_such_recipe" in capsys.readouterr().err


def test_a_module_that_is_no_recipe_is_refused(monkeypatch, capsys):
    monkeypatch.setitem(training_cli.RECIPES, "entropy", ("json", "nothing"))
    assert cli.main(["train", "entropy"]) == 2
    assert "not a recipe" in capsys.readouterr().err


def test_train_lists_every_recipe(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["train", "--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in training_cli.RECIPES)


def test_weights_and_sampling_can_be_chosen():
    settings = cli.parse_settings(["--dtype", "float16", "--sampling", "reference"])
    assert (settings.dtype, settings.sampling) == ("float16", "reference")
    with pytest.raises(ConfigError, match="dtype is 'int4'"):
        Settings(dtype="int4")


def test_fetching_gets_transformer_and_tokenizers_and_names_the_next_command(
    monkeypatch, tmp_path, capsys
):
    asked = []
    files = small_files(tmp_path / "files")
    monkeypatch.setenv("UNIMIC_MODELS", str(files))
    monkeypatch.setenv("UNIMIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "shared_protocol.bundles.hub.fetch_published",
        lambda name, *, transformer, say: asked.append((name, transformer)),
    )
    assert cli.main(["fetch", "show-o"]) == 0
    assert asked == [("show-o", True)]
    assert "ready: cloud-server --bundle show-o (fingerprint " in capsys.readouterr().out


def test_fetching_what_nobody_published_is_a_usage_error(capsys):
    assert cli.main(["fetch", "show-x"]) == 2
    assert "known are show-o, show-o-512" in capsys.readouterr().err


def test_serving_without_fetched_weights_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("UNIMIC_CACHE", str(tmp_path))
    monkeypatch.delenv("UNIMIC_MODELS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(CheckpointError, match="'cloud-server fetch show-o'"):
        load_model(Settings(bundle="show-o"))
    files = small_files(tmp_path / "files")
    shutil.rmtree(files / "show-o")
    monkeypatch.setenv("UNIMIC_MODELS", str(files))
    with pytest.raises(CheckpointError, match=r"showlab/show-o are not.*cloud-server fetch show-o"):
        backbone_path(load_bundle("show-o"), Settings())


@pytest.mark.parametrize("package", ["uvicorn", "torch"])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, capsys, package):
    def lacking(words):
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr(cli, "_serve", lacking)
    assert cli.main([]) == cli.EXIT_CONFIG
    said = capsys.readouterr().err
    assert f"{package} is not installed" in said
    assert "unimic[cloud]" in said


def test_a_missing_module_of_our_own_is_a_fault(monkeypatch):
    def lacking(words):
        raise ModuleNotFoundError(name="cloud_server.nothing")

    monkeypatch.setattr(cli, "_serve", lacking)
    with pytest.raises(ModuleNotFoundError):
        cli.main([])
