"""The image, the compose file and the manifests for Kubernetes name what there is: files, commands, ports and paths."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask import Flask

from admin.machine import blueprint
from pgsplit import __version__
from pgsplit.cli import COMMANDS, serve
from pgsplit.config import units
from pgsplit.config.loader import Loaded
from pgsplit.config.settings import BY_NAME
from pgsplit.process import files
from tests.needs import missing

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
KUBERNETES = ROOT / "contrib/kubernetes"
MANIFESTS = {(document["kind"], document["metadata"]["name"]): document
             for file in sorted(KUBERNETES.glob("*.yaml")) for document in yaml.safe_load_all(file.read_text())}
PORTS = {"postgres": 6432, "admin": 8432}


def instructions(name: str) -> list[str]:
    """The arguments of the Dockerfile's *name*, each on one line."""
    return re.findall(rf"^{name} (.*)$", DOCKERFILE.replace("\\\n", " "), re.MULTILINE)


def pod(name: str) -> dict[str, Any]:
    found: dict[str, Any] = MANIFESTS["Deployment", name]["spec"]["template"]["spec"]
    return found


def container(name: str, role: str = "containers") -> dict[str, Any]:
    [found] = pod(name)[role]
    return dict(found)


PGSPLIT = {"pgsplit": container("pgsplit"), "sidecar": container("application", "initContainers")}


def loaded(text: str, directory: Path) -> Loaded:
    """A configuration of the manifests, with the users of theirs."""
    users = directory / "users.yaml"
    users.write_text(MANIFESTS["Secret", "pgsplit-users"]["stringData"]["users.yaml"])
    file = directory / "pgsplit.yaml"
    file.write_text(text.replace("/etc/pgsplit/users/users.yaml", str(users)))
    for path in (users, file):
        path.chmod(0o600)
    return files.load_config(str(file), 1, {})


def paths() -> set[str]:
    """Of the pages for machines."""
    app = Flask("paths")
    app.register_blueprint(blueprint)
    return {str(rule) for rule in app.url_map.iter_rules()}


# --- the image --------------------------------------------------------------------------------------------------------

def test_the_image_runs_a_command_that_there_is() -> None:
    entry, command = (json.loads(instructions(name)[0]) for name in ("ENTRYPOINT", "CMD"))
    assert entry == ["python", "-m", "pgsplit"] and find_spec("pgsplit.__main__") is not None
    assert command[0] in {known.name for known in COMMANDS}
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    assert parser.parse_args(command[1:]).config == "/etc/pgsplit/pgsplit.yaml"


def test_the_image_drains_at_term_and_asks_the_page_whether_it_is_ready() -> None:
    assert instructions("STOPSIGNAL") == ["SIGTERM"] and instructions("USER") == ["10001"]
    assert [int(port) for port in instructions("EXPOSE")[0].split()] == list(PORTS.values())
    [check] = instructions("HEALTHCHECK")
    assert "http://127.0.0.1:8432/readyz?level=writes" in check
    compile(json.loads(check.partition("CMD ")[2])[2], "HEALTHCHECK", "exec")
    assert "/readyz" in paths()


def test_the_image_is_made_of_files_that_there_are() -> None:
    context = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert all((ROOT / name).exists() for name in context)
    assert {"setup.py", "pyproject.toml", "requirements.txt", "requirements.lock", "README.md"} <= set(context)


def test_hadolint_has_nothing_to_say_of_the_dockerfile() -> None:
    program = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if program is None:
        missing("hadolint")
    done = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
def test_the_steps_of_the_image_give_a_pgsplit_that_runs(tmp_path: Path) -> None:
    """Those that install it, on this machine: with the files that the image is given, and none besides."""
    context, target = tmp_path / "src", tmp_path / "pgsplit"
    context.mkdir()
    for name in re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, context / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(source, context)
    steps = [step for step in instructions("RUN") if "/opt/pgsplit" in step]
    assert len(steps) == 2
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for step in steps:
        done = subprocess.run(["sh", "-ec", step.replace("/opt/pgsplit", str(target))], cwd=context, text=True,
                              capture_output=True, env=environment, timeout=600, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    said = subprocess.run([target / "bin/python", "-m", "pgsplit", "--version"], capture_output=True, text=True,
                          cwd=tmp_path, timeout=60, check=True).stdout
    assert said == f"pgsplit {__version__}\n"


# --- compose ----------------------------------------------------------------------------------------------------------

def test_what_compose_mounts_is_there() -> None:
    for service in COMPOSE["services"].values():
        for volume in service["volumes"]:
            assert (ROOT / volume.partition(":")[0]).is_file(), volume
    for script in ("primary.sh", "standby.sh"):
        assert os.access(ROOT / "contrib/compose" / script, os.X_OK)
        subprocess.run(["bash", "-n", ROOT / "contrib/compose" / script], check=True)


def test_compose_s_configuration_is_a_good_one_of_its_services(tmp_path: Path) -> None:
    config = loaded((ROOT / "contrib/compose/pgsplit.yaml").read_text(), tmp_path).config
    hosts = {(host.host, host.port) for cluster in config.clusters for host in cluster.endpoints}
    assert hosts == {(name, 5432) for name in ("primary", "standby1", "standby2")} and {
        name for name, _ in hosts} <= set(COMPOSE["services"])
    published = {int(port.rpartition(":")[2]) for port in COMPOSE["services"]["pgsplit"]["ports"]}
    assert published == set(PORTS.values())
    assert addresses(config) == {"postgres": "0.0.0.0:6432", "admin": "0.0.0.0:8432"}
    assert units.duration(COMPOSE["services"]["pgsplit"]["stop_grace_period"]) > graceful_timeout()
    scripts = (ROOT / "contrib/compose/primary.sh").read_text()
    assert set(re.findall(r"create role (\w+) login password '(\S+)'", scripts)) == {
        ("app", "app-secret"), ("monitor", "monitor-secret")}


def test_compose_s_prometheus_is_let_in() -> None:
    [job] = yaml.safe_load((ROOT / "contrib/compose/prometheus.yml").read_text())["scrape_configs"]
    admin = yaml.safe_load((ROOT / "contrib/compose/pgsplit.yaml").read_text())["admin"]
    assert sha256(job["authorization"]["credentials"].encode()).hexdigest() == admin["tokens"]["prometheus"]["sha256"]
    [target] = job["static_configs"][0]["targets"]
    name, _, port = target.partition(":")
    assert name in admin["hosts"] and name in COMPOSE["services"] and int(port) == PORTS["admin"]


# --- Kubernetes -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", [f"{kind} {name}" for kind, name in MANIFESTS])
def test_kubernetes_takes_them(name: str) -> None:
    try:
        import kubernetes_validate
    except ImportError:
        missing("kubernetes-validate")
    kind, _, called = name.partition(" ")
    kubernetes_validate.validate(MANIFESTS[kind, called], kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("name, address", [("pgsplit", "0.0.0.0"), ("pgsplit-sidecar", "127.0.0.1")])
def test_the_configurations_of_the_manifests_are_good_ones(name: str, address: str, tmp_path: Path) -> None:
    config = loaded(MANIFESTS["ConfigMap", name]["data"]["pgsplit.yaml"], tmp_path).config
    assert addresses(config) == {"postgres": f"{address}:6432", "admin": f"{address}:8432"}
    assert config.process.run_dir.startswith("/run/pgsplit/")       # not the mount itself, which is root's


@pytest.mark.parametrize("found", PGSPLIT.values(), ids=PGSPLIT)
def test_the_container_runs_what_there_is_with_what_is_mounted(found: dict[str, Any]) -> None:
    assert found["image"] == f"pgsplit:{__version__}"
    command, *rest = found["args"]
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    assert command == "serve"
    mounts = {mount["name"]: mount["mountPath"] for mount in found["volumeMounts"]}
    assert str(Path(parser.parse_args(rest).config).parent) == mounts["configuration"]
    assert mounts["users"] == "/etc/pgsplit/users" and mounts["run"] == "/run/pgsplit"


@pytest.mark.parametrize("name", ["pgsplit", "application"])
def test_what_is_mounted_is_among_the_manifests(name: str) -> None:
    volumes = {volume["name"]: volume for volume in pod(name)["volumes"]}
    assert ("ConfigMap", volumes["configuration"]["configMap"]["name"]) in MANIFESTS
    assert ("Secret", volumes["users"]["secret"]["secretName"]) in MANIFESTS
    assert pod(name)["terminationGracePeriodSeconds"] > graceful_timeout()


def test_probes_and_services_lead_to_ports_and_paths_that_there_are() -> None:
    assert {port["name"]: port["containerPort"] for port in PGSPLIT["pgsplit"]["ports"]} == PORTS
    for probe in ("readinessProbe", "livenessProbe"):
        asked = PGSPLIT["pgsplit"][probe]["httpGet"]
        assert asked["port"] in PORTS and asked["path"].partition("?")[0] in paths()
    for probe in ("startupProbe", "readinessProbe"):
        python, option, code = PGSPLIT["sidecar"][probe]["exec"]["command"]
        assert (python, option) == ("python", "-c") and f":{PORTS['admin']}/readyz" in code
        compile(code, probe, "exec")
    for name in ("pgsplit", "pgsplit-admin"):
        service = MANIFESTS["Service", name]["spec"]
        assert service["selector"] == MANIFESTS["Deployment", "pgsplit"]["spec"]["template"]["metadata"]["labels"]
        assert {port["targetPort"] for port in service["ports"]} <= set(PORTS)


def graceful_timeout() -> float:
    default = BY_NAME["graceful_timeout"].default
    assert default is not None
    return units.duration(default)


def addresses(config: Any) -> dict[str, str]:
    listeners = {listener.name: str(*listener.addresses) for listener in config.listeners}
    return {**listeners, "admin": str(config.admin.address)}
