"""The files in deploy/: mounted files exist, and configurations pass the checks of their programs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from stack.base import ROOT

DEPLOY = ROOT / "deploy"


@pytest.mark.slice
def test_the_container_file_is_clean() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slice
def test_compose_is_whole() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yml").read_text())
    services, volumes = compose["services"], set(compose["volumes"])
    assert {"esker", "minio", "postgres", "trino", "spark", "prometheus", "grafana"} <= set(services)
    for name, service in services.items():
        assert ("image" in service) != ("build" in service), name
        image = service.get("image", "x:1")
        assert ":" in image and not image.endswith(":latest"), f"{name}: {image}"
        assert set(service.get("depends_on", [])) <= set(services), name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} listens beyond this machine: {port}"
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert source in volumes or (DEPLOY / source).exists(), f"{name} mounts {source}, which is not there"
        for config in service.get("configs", []):
            assert config["source"] in compose["configs"], name
    build = services["esker"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()


@pytest.mark.slice
def test_compose_is_what_its_specification_allows() -> None:
    check = Path(sys.executable).parent / "check-jsonschema"
    command = [check, "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yml"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slice
def test_the_configuration_fits_its_schema() -> None:
    check = Path(sys.executable).parent / "check-jsonschema"
    schema = ROOT / "api" / "config.schema.json"
    for command in [
        [check, "--check-metaschema", schema],
        [check, "--schemafile", schema, DEPLOY / "esker.toml"],
    ]:
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slice
def test_the_configuration_is_valid_and_the_unit_starts_it() -> None:
    env = os.environ | {"ESKER__AUTH__TOKEN": "a-token-for-the-test"}
    command = [os.environ["ESKER_BIN"], "config", "check", "--config", DEPLOY / "esker.toml"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "autopilot" in done.stdout
    unit = (DEPLOY / "systemd" / "esker.service").read_text()
    assert "ExecStart=/usr/local/bin/esker serve --config /etc/esker/esker.toml" in unit
    if shutil.which("systemd-analyze"):
        command = ["systemd-analyze", "verify", DEPLOY / "systemd" / "esker.service"]
        shown = subprocess.run(command, capture_output=True, text=True).stderr
        # The unit's program is not installed on this machine.
        assert not [line for line in shown.splitlines() if "esker.service" in line and "not executable" not in line], (
            shown
        )


def steps(dockerfile: Path) -> list[tuple[str, str]]:
    """Returns the instructions of a container file, each with its arguments on one line."""
    text = dockerfile.read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def pinned(image: str) -> bool:
    """Checks that an image names a version or a digest."""
    name, _, tag = image.rpartition(":")
    return "@sha256:" in image or (bool(name) and "/" not in tag and tag not in ("", "latest"))


@pytest.mark.slice
def test_the_image_is_the_binary_alone_and_not_root() -> None:
    found = steps(DEPLOY / "Dockerfile")
    bases = [arguments for name, arguments in found if name == "FROM"]
    assert bases and all(pinned(base.split()[0]) for base in bases), bases
    last = max(at for at, (name, _) in enumerate(found) if name == "FROM")
    image = found[last + 1 :]
    names = [name for name, _ in image]
    assert "distroless" in bases[-1] and "RUN" not in names and "ADD" not in names, "the image has no shell"
    arguments = dict(image)
    user = arguments["USER"].split(":")
    assert all(part.isdigit() and int(part) >= 1000 for part in user), "Kubernetes can tell that a number is not root"
    assert names.index("USER") < names.index("ENTRYPOINT")
    for name in ("ENTRYPOINT", "CMD", "HEALTHCHECK"):
        assert arguments[name].endswith("]"), f"{name} needs no shell"
    assert 'CMD ["/usr/local/bin/esker", "ready"]' in arguments["HEALTHCHECK"]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {".git", "target", "**/.env", "**/*.pem", "**/*.key"} <= set(ignored)


@pytest.mark.slice
def test_compose_gives_esker_no_rights_that_it_does_not_need() -> None:
    esker = yaml.safe_load((DEPLOY / "compose.yml").read_text())["services"]["esker"]
    assert esker["read_only"] is True and esker["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in esker["security_opt"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(esker)
    image = dict(steps(DEPLOY / "Dockerfile"))
    assert esker["user"] == image["USER"]
    written = [mount for mount in esker["volumes"] if not mount.endswith(":ro")]
    assert [mount.split(":")[1] for mount in written] == [image["VOLUME"]]


@pytest.mark.slice
def test_the_documented_command_gives_a_container_as_few_rights() -> None:
    page = (ROOT / "docs" / "security" / "container.md").read_text()
    command = page.split("docker run", 1)[1].split("```", 1)[0]
    user = dict(steps(DEPLOY / "Dockerfile"))["USER"]
    wanted = ["--read-only", "--tmpfs /tmp", "--cap-drop ALL", "--security-opt no-new-privileges", f"--user {user}"]
    assert not [flag for flag in wanted if flag not in command], command
    assert "--privileged" not in command and ":latest" not in command


def manifests() -> list[dict]:
    files = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    return [document for file in files for document in yaml.safe_load_all(file.read_text())]


@pytest.mark.slice
def test_a_pod_is_restricted_and_has_its_secrets_in_files() -> None:
    found = {(made["kind"], made["metadata"]["name"]): made for made in manifests()}
    labels = found["Namespace", "esker"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    pod = found["Deployment", "esker"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False and not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    around = pod["securityContext"]
    assert around["runAsNonRoot"] is True and around["seccompProfile"] == {"type": "RuntimeDefault"}
    user, group = dict(steps(DEPLOY / "Dockerfile"))["USER"].split(":")
    assert (str(around["runAsUser"]), str(around["fsGroup"])) == (user, group)
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert not [volume for volume in pod["volumes"] if "hostPath" in volume]
    for container in pod["containers"] + pod.get("initContainers", []):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True and context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]} and context["privileged"] is False
        assert pinned(container["image"]), container["image"]
        assert "memory" in container["resources"]["limits"]
        assert not {"env", "envFrom"} & set(container), "secrets are files"
        for mount in container["volumeMounts"]:
            kept = volumes[mount["name"]]
            assert ("secret" in kept) == mount.get("readOnly", False), mount
    secret = found["Secret", volumes["config"]["secret"]["secretName"]]
    assert volumes["config"]["secret"]["defaultMode"] == 0o440
    assert all("REPLACE" in text for text in secret["stringData"].values()), "no real secret"


@pytest.mark.slice
def test_pods_reach_and_are_reached_only_where_a_policy_says_so() -> None:
    policies = [made["spec"] for made in manifests() if made["kind"] == "NetworkPolicy"]
    nothing = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert nothing in policies, "what is not allowed is forbidden"
    rules = [rule for policy in policies for kind in ("ingress", "egress") for rule in policy.get(kind, [])]
    assert rules and all(rule.get("ports") and (rule.get("from") or rule.get("to")) for rule in rules)
    blocks = [to["ipBlock"] for rule in rules for to in rule.get("to", []) if "ipBlock" in to]
    assert all("169.254.0.0/16" in block["except"] for block in blocks), "the node's credentials are there"


@pytest.mark.slice
def test_the_configuration_for_kubernetes_fits_its_schema(tmp_path: Path) -> None:
    check = Path(sys.executable).parent / "check-jsonschema"
    secret = next(made for made in manifests() if made["kind"] == "Secret")
    file = tmp_path / "esker.toml"
    file.write_text(secret["stringData"]["esker.toml"])
    command = [check, "--schemafile", ROOT / "api" / "config.schema.json", file]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    command = [os.environ["ESKER_BIN"], "config", "check", "--config", file]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["auth"]["token"] == shown["state"]["url"] == "(set)" and "REPLACE" not in done.stdout
    assert shown["data_dir"] == dict(steps(DEPLOY / "Dockerfile"))["VOLUME"]


@pytest.mark.slice
def test_the_unit_has_no_rights_that_the_program_does_not_need() -> None:
    unit = (DEPLOY / "systemd" / "esker.service").read_text().splitlines()
    wanted = ["NoNewPrivileges=true", "CapabilityBoundingSet=", "ProtectSystem=strict", "PrivateDevices=true"]
    wanted += ["MemoryDenyWriteExecute=true", "SystemCallFilter=@system-service", "RestrictNamespaces=true"]
    assert not [line for line in wanted if line not in unit]
    assert "User=esker" in unit
    assert not [line for line in unit if line.startswith(("AmbientCapabilities", "Environment="))]
