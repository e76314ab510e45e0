from collections.abc import Mapping
from pathlib import Path

import pytest

from infra.engine.backend import (
    Choices,
    backend_folder,
    chosen_url,
    environment,
    pulumi_env,
    stack_cloud,
)
from runtime.errors import Refused

ROOT, HOME = Path("/clone"), Path("/clone/.atoll")
BACKEND, PASSPHRASE = "PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE"
ACQUISITION = "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"


def _env(
    environ: Mapping[str, str], cloud: str = "local", url: str | None = None
) -> dict[str, str]:
    return environment(environ, ROOT, HOME, Choices(cloud=cloud, chosen_url=url))


def test_a_local_stack_of_somebody_who_chose_nothing_keeps_its_state_in_the_clone() -> None:
    env = _env({"PATH": "/bin"})

    assert env[BACKEND] == "file:///clone/.atoll/pulumi"
    assert env[PASSPHRASE] == ""
    assert env[ACQUISITION] == "true"
    assert env["PATH"] == "/clone/.venv/bin:/bin"
    assert env["VIRTUAL_ENV"] == "/clone/.venv"


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({BACKEND: "s3://ours"}, None),
        ({"PULUMI_ACCESS_TOKEN": "pul-x"}, None),
        ({}, "https://api.pulumi.com"),
    ],
)
def test_who_has_chosen_a_backend_is_never_switched(
    environ: dict[str, str], url: str | None
) -> None:
    assert _env(environ, url=url).get(BACKEND) == environ.get(BACKEND)


@pytest.mark.parametrize("name", [PASSPHRASE, f"{PASSPHRASE}_FILE"])
def test_a_chosen_passphrase_stays(name: str) -> None:
    env = _env({name: "chosen"})

    assert {key: value for key, value in env.items() if key.startswith(PASSPHRASE)} == {
        name: "chosen"
    }


def test_a_cloud_stack_gets_neither_a_folder_nor_an_empty_passphrase() -> None:
    env = _env({"PATH": "/bin"}, cloud="aws")

    assert not {BACKEND, PASSPHRASE, ACQUISITION} & env.keys()


def test_a_python_home_of_the_user_does_not_reach_the_program() -> None:
    assert "PYTHONHOME" not in _env({"PYTHONHOME": "/usr"})


@pytest.mark.parametrize(
    ("text", "cloud"),
    [
        ("config:\n  atoll:cluster:\n    cloud: aws\n", "aws"),
        ("config:\n  atoll:training: {nodes: 1}\n", "local"),
        ("config:\n", "local"),
        ("", "local"),
        ("config:\n  atoll:cluster: 5\n", "local"),  # the program says what is wrong with it
    ],
)
def test_the_cloud_is_read_from_the_stack_file(tmp_path: Path, text: str, cloud: str) -> None:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "Pulumi.mine.yaml").write_text(text)

    assert stack_cloud(tmp_path, "mine") == cloud
    assert stack_cloud(tmp_path, "organization/atoll/mine") == cloud


def test_an_unknown_stack_is_refused_with_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "stacks").mkdir()
    for name in ("local", "aws-small"):
        (tmp_path / "stacks" / f"Pulumi.{name}.yaml").write_text("")

    with pytest.raises(Refused, match="allowed aws-small, local; correct the name"):
        stack_cloud(tmp_path, "lcoal")


def test_a_broken_stack_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "Pulumi.local.yaml").write_text("config: [\n")

    with pytest.raises(Refused, match=r"Pulumi\.local\.yaml: can't be read"):
        stack_cloud(tmp_path, "local")


def test_a_login_is_a_choice_wherever_it_is_kept(tmp_path: Path) -> None:
    (tmp_path / ".pulumi").mkdir()
    (tmp_path / ".pulumi" / "credentials.json").write_text('{"current": "s3://ours"}')

    assert chosen_url({"HOME": str(tmp_path)}, tmp_path) == "s3://ours"
    assert chosen_url({"PULUMI_HOME": f"{tmp_path}/.pulumi"}, tmp_path) == "s3://ours"
    assert chosen_url({"HOME": f"{tmp_path}/else"}, tmp_path) is None


@pytest.mark.parametrize("text", ['{"current": ""}', "{}", "no json"])
def test_who_has_logged_out_has_chosen_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "credentials.json").write_text(text)

    assert chosen_url({"PULUMI_HOME": str(tmp_path)}, tmp_path) is None


def test_the_projects_own_backend_is_a_choice(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: atoll\nbackend: {url: gs://ours}\n")

    assert chosen_url({"HOME": str(tmp_path)}, tmp_path) == "gs://ours"


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("file:///state", "/state"),
        ("file:///with%20space", "/with space"),
        ("file://./state", "/clone/state"),
        ("file:///state?no_tmp_dir=true", "/state"),
        ("s3://bucket", None),
        (None, None),
    ],
)
def test_only_file_backends_have_a_folder(url: str | None, folder: str | None) -> None:
    assert backend_folder(url, ROOT) == (Path(folder) if folder else None)


def test_the_folder_of_the_state_is_made_and_one_that_cannot_be_is_named(project: Path) -> None:
    environ = {"PULUMI_HOME": f"{project}/nobody"}
    pulumi_env(environ, project, project / ".atoll", "local")
    (project / "file").write_text("")

    assert (project / ".atoll" / "pulumi").is_dir()
    with pytest.raises(
        Refused, match=r"file/pulumi: found .*; change its rights or set ATOLL_HOME"
    ):
        pulumi_env(environ, project, project / "file", "local")
