"""The files by which others run the image: each is valid, and says the same as the image and the daemon."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from fetchd.config import Config, load
from tests.docs.book import all_blocks
from tests.image.dockerfile import stages_of

ROOT: Final = Path(__file__).parents[2]
KUBERNETES: Final = ("1.30", "1.37")
"""Old and new: a key that one has and the other has not is no key to be shipped."""
OBJECTS: Final = sorted((ROOT / "kubernetes").glob("*.yaml"))
STATUS: Final = ["fetchd", "status", "--quiet"]
CLOSING: Final = 10
"""Seconds that the daemon may take besides its grace."""

Document = dict[str, Any]


def read(name: str) -> Document:
    """Return one file of this repository."""
    document: Document = yaml.safe_load((ROOT / name).read_text())
    return document


def mebibytes(text: str) -> int:
    """Return what ``96m``, ``96Mi`` or ``size=16m`` says."""
    return int(text.rpartition("=")[2].lower().removesuffix("i").removesuffix("m"))


@pytest.fixture(scope="module")
def service() -> Document:
    """The service in compose.yaml."""
    found: Document = read("compose.yaml")["services"]["fetchd"]
    return found


@pytest.fixture(scope="module")
def pod() -> Document:
    """What the deployment says of its pods."""
    found: Document = read("kubernetes/deployment.yaml")["spec"]["template"]
    return found


@pytest.fixture(scope="module")
def container(pod: Document) -> Document:
    """The container of a pod."""
    (found,) = pod["spec"]["containers"]
    return dict(found)


@pytest.fixture
def configured(tmp_path: Path) -> Config:
    """The configuration of the config map, with its secrets where a test can write them."""
    secrets = read("kubernetes/secret.yaml")["stringData"]
    (tmp_path / "rates_token").write_text(secrets["rates_token"])
    text = read("kubernetes/configmap.yaml")["data"]["config.toml"].replace("/run/secrets/fetchd", str(tmp_path))
    (tmp_path / "config.toml").write_text(text)
    environment = {"RATES_WEBHOOK": secrets["rates_webhook"], "STATE_DIRECTORY": "/var/lib/fetchd"}
    return load(tmp_path / "config.toml", environment=environment)


@pytest.mark.parametrize(("program", "package"), [("podman-compose", "podman"), ("docker-compose", "docker-compose")])
def test_compose_reads_its_file(program: str, package: str) -> None:
    """What a person types first. The first is there by ``make setup``, but asks its engine who it is."""
    path = f"{Path(sys.executable).parent}:/usr/bin"
    if shutil.which(package, path=path) is None:
        pytest.skip(f"needs the Debian package {package}")
    found = shutil.which(program, path=path)
    assert found, f"{program} is not there: make setup"
    command = [found, "-f", ROOT / "compose.yaml", "config"]
    read = subprocess.run(command, capture_output=True, text=True, env={"PATH": path}, check=False)
    assert read.returncode == 0, read.stderr
    assert yaml.safe_load(read.stdout)["services"]["fetchd"]["read_only"] is True


def test_compose_gives_no_more_than_is_needed(service: Document) -> None:
    """A fetcher of other people's data is the first door that somebody tries."""
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"] == service["memswap_limit"] == "96m"
    assert 0 < service["pids_limit"] < 1000
    assert mebibytes(service["tmpfs"][0].partition(",")[0]) < mebibytes(service["mem_limit"]) / 4
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert all(volume.endswith(":ro") or volume.startswith("state:/var/lib/fetchd") for volume in service["volumes"])


def test_compose_says_the_same_as_the_image(service: Document) -> None:
    """Two places that say one thing drift apart."""
    final = stages_of(ROOT / "Dockerfile")[1][-1]
    check = final.all("HEALTHCHECK")[-1]
    assert service["user"] == final.all("USER")[-1]
    assert service["healthcheck"]["test"] == ["CMD", *STATUS]
    for key in ("interval", "timeout", "start_period", "retries"):
        assert f"--{key.replace('_', '-')}={service['healthcheck'][key]} " in check
    assert set(service["build"]["args"]) <= {argument.partition("=")[0] for argument in final.all("ARG")}


def test_compose_waits_until_the_daemon_has_drained(service: Document, configured: Config) -> None:
    """Killed before that, what was under way would be fetched again."""
    assert int(service["stop_grace_period"].removesuffix("s")) > configured.daemon.shutdown_grace + CLOSING
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.stem)
def test_kubernetes_knows_every_key(path: Path) -> None:
    """A key with a slip of the pen is dropped in silence by some clusters, and refused by others."""
    document = yaml.safe_load(path.read_text())
    if document["kind"] == "PodMonitor":  # the operator's own kind, of which Kubernetes has no schema
        assert document["apiVersion"] == "monitoring.coreos.com/v1"
        assert set(document["spec"]) == {"selector", "podMetricsEndpoints"}
        return
    for version in KUBERNETES:
        kubernetes_validate.validate(document, version, strict=True)


def test_kubernetes_knows_what_the_page_shows() -> None:
    """A reader copies the parts that matter into a deployment of theirs."""
    (block,) = (block for block in all_blocks("yaml") if block.page.name == "containers.md")
    shown = yaml.safe_load(block.text)
    whole = read("kubernetes/deployment.yaml")
    ours, theirs = whole["spec"], shown["spec"]
    theirs["selector"] = ours["selector"]
    theirs["template"]["metadata"] = ours["template"]["metadata"]
    theirs["template"]["spec"]["volumes"] = ours["template"]["spec"]["volumes"]
    for version in KUBERNETES:
        kubernetes_validate.validate({**whole, "spec": theirs}, version, strict=True)
    for key in ("replicas", "strategy"):
        assert theirs[key] == ours[key]
    grace = "terminationGracePeriodSeconds"
    assert theirs["template"]["spec"][grace] == ours["template"]["spec"][grace]


def test_a_pod_gets_no_more_than_is_needed(pod: Document, container: Document) -> None:
    """The rules of the strictest standard for pods, "restricted", and a root that cannot be written."""
    spec, whole, own = pod["spec"], pod["spec"]["securityContext"], container["securityContext"]
    assert whole["runAsNonRoot"] is True
    assert whole["runAsUser"] == whole["runAsGroup"] == whole["fsGroup"] == 10001
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert mebibytes(container["resources"]["limits"]["memory"]) == 96


def test_two_pods_never_hold_the_state_together() -> None:
    """The second one would end, or wait, while the first one still drains."""
    spec = read("kubernetes/deployment.yaml")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_a_pod_is_killed_no_sooner_than_the_daemon_has_drained(pod: Document, configured: Config) -> None:
    """The default of 30 s would do today; a longer grace needs both changed."""
    assert pod["spec"]["terminationGracePeriodSeconds"] > configured.daemon.shutdown_grace + CLOSING


def test_probes_ask_what_is_there(container: Document, configured: Config) -> None:
    """A probe that cannot succeed restarts a healthy daemon for ever."""
    for name in ("startupProbe", "livenessProbe"):
        assert container[name]["exec"]["command"] == STATUS
        assert container[name]["timeoutSeconds"] > 10
    (port,) = container["ports"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": port["name"]}
    assert configured.daemon.listen == f"0.0.0.0:{port['containerPort']}"


def test_whoever_selects_pods_finds_them(pod: Document, container: Document) -> None:
    """A label or a port with two spellings finds nothing, and nobody says so."""
    labels, (port,) = pod["metadata"]["labels"], container["ports"]
    deployment, monitor = read("kubernetes/deployment.yaml"), read("kubernetes/podmonitor.yaml")
    service = read("kubernetes/service.yaml")["spec"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert monitor["spec"]["selector"]["matchLabels"] == labels
    assert service["selector"] == labels
    assert [entry["port"] for entry in monitor["spec"]["podMetricsEndpoints"]] == [port["name"]]
    assert [entry["targetPort"] for entry in service["ports"]] == [port["name"]]


def test_what_a_pod_mounts_is_there(pod: Document, container: Document) -> None:
    """A pod with a name that nobody knows waits for ever."""
    volumes = {volume.pop("name"): volume for volume in [dict(volume) for volume in pod["spec"]["volumes"]]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    named = {
        (document["kind"], document["metadata"]["name"])
        for document in map(yaml.safe_load, map(Path.read_text, OBJECTS))
    }
    secret = read("kubernetes/secret.yaml")["stringData"]
    assert ("PersistentVolumeClaim", volumes["state"]["persistentVolumeClaim"]["claimName"]) in named
    assert ("ConfigMap", volumes["config"]["configMap"]["name"]) in named
    assert ("Secret", volumes["secrets"]["secret"]["secretName"]) in named
    assert {item["key"] for item in volumes["secrets"]["secret"]["items"]} <= set(secret)
    assert {entry["valueFrom"]["secretKeyRef"]["key"] for entry in container["env"]} <= set(secret)
    assert all("subPath" not in mount for mount in container["volumeMounts"])


def test_a_changed_config_map_is_read_again(configured: Config) -> None:
    """It reaches the pod as a folder that is set anew, and nobody sends a signal."""
    assert configured.daemon.reload_on_change
    assert list(configured.jobs) == ["rates"]
