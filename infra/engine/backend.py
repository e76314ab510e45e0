"""Where Pulumi keeps a stack's state, and with which environment it runs.

Somebody who has chosen a backend or a passphrase keeps it. For a stack on this machine nobody has
to choose: its state lies in the checkout, under an empty passphrase.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import yaml

from infra.plan.spec import ClusterSpec
from runtime.errors import Refused

LOCAL = "local"
URL = "PULUMI_BACKEND_URL"
PASSPHRASE = "PULUMI_CONFIG_PASSPHRASE"  # noqa: S105 the name of a variable
# Any of these says that a backend was chosen.
CHOOSES_BACKEND = (URL, "PULUMI_ACCESS_TOKEN")


@dataclass(frozen=True, slots=True)
class Choices:
    """What was found outside the environment's variables."""

    cloud: str
    chosen_url: str | None  # by Pulumi.yaml or `pulumi login`


def pulumi_env(environ: Mapping[str, str], root: Path, home: Path, stack: str) -> dict[str, str]:
    """The environment for Pulumi on this stack; makes the folder of the file backend.

    Raises Refused if there is no such stack file, or the folder can't be made.
    """
    choices = Choices(cloud=stack_cloud(root, stack), chosen_url=chosen_url(environ, root))
    env = environment(environ, root, home, choices)
    folder = backend_folder(env.get(URL) or choices.chosen_url, root)
    if folder == state_folder(home):
        make_state_folder(home)
    return env


def environment(
    environ: Mapping[str, str], root: Path, home: Path, choices: Choices
) -> dict[str, str]:
    """Pure: the variables that Pulumi gets."""
    venv = root / ".venv"
    env = {name: value for name, value in environ.items() if name != "PYTHONHOME"}
    env["VIRTUAL_ENV"] = str(venv)
    env["PATH"] = os.pathsep.join([str(venv / "bin"), environ.get("PATH", os.defpath)])
    env.setdefault("ATOLL_PYTHON", sys.executable)  # of the host, where there is no .venv
    env.setdefault("PULUMI_SKIP_UPDATE_CHECK", "true")
    if choices.cloud != LOCAL:
        return env
    # All plugins of such a stack are the kit's own: a missing one is an error, not a download.
    env.setdefault("PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION", "true")
    if choices.chosen_url is None and not any(environ.get(name) for name in CHOOSES_BACKEND):
        env[URL] = f"file://{quote(str(state_folder(home)))}"
    if PASSPHRASE not in environ and f"{PASSPHRASE}_FILE" not in environ:
        env[PASSPHRASE] = ""
    return env


def state_folder(home: Path) -> Path:
    """Of the backend that is used where nothing was chosen."""
    return home / "pulumi"


def make_state_folder(home: Path) -> None:
    """Make it where it is missing: Pulumi does not; raises Refused if it can't be made."""
    folder = state_folder(home)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise Refused(
            f"{folder}: found {fault.strerror}; allowed a folder that can be written to; "
            "change its rights or set ATOLL_HOME"
        ) from fault


def stack_file(root: Path, stack: str) -> Path:
    """The settings of a stack; its name may be given as organization/project/stack."""
    return root / "stacks" / f"Pulumi.{stack.rpartition('/')[2]}.yaml"


def stack_cloud(root: Path, stack: str) -> str:
    """The cloud that a stack file names; raises Refused if the file can't be read."""
    path = stack_file(root, stack)
    try:
        settings = yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError:
        names = sorted(p.name[len("Pulumi.") : -len(".yaml")] for p in path.parent.glob("Pulumi.*"))
        raise Refused(
            f"stack {stack}: found no {path}; allowed {', '.join(names) or 'none yet'}; "
            "correct the name or write that file"
        ) from None
    except (OSError, yaml.YAMLError) as fault:
        raise Refused(f"{path}: can't be read: {fault}") from fault
    config = settings.get("config") if isinstance(settings, dict) else None
    cluster = (config or {}).get("atoll:cluster") or {}
    default = ClusterSpec().cloud
    return str(cluster.get("cloud", default)) if isinstance(cluster, dict) else default


def chosen_url(environ: Mapping[str, str], root: Path) -> str | None:
    """The backend that Pulumi.yaml or `pulumi login` names, in the order that Pulumi looks."""
    try:
        project = yaml.safe_load((root / "Pulumi.yaml").read_text())
        url = project["backend"]["url"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        url = None
    if url:
        return str(url)
    try:
        current = json.loads(_credentials(environ).read_text())["current"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(current) if current else None


def _credentials(environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME") or os.path.expanduser("~")
    folder = environ.get("PULUMI_CREDENTIALS_PATH") or environ.get("PULUMI_HOME")
    return Path(folder or Path(home, ".pulumi")) / "credentials.json"


def backend_folder(url: str | None, root: Path) -> Path | None:
    """The folder of a `file://` backend; None for all others."""
    if url is None or not url.startswith("file://"):
        return None
    path = unquote(urlsplit(url.replace("file://", "file:", 1)).path)
    return (root / os.path.expanduser(path)).absolute()
