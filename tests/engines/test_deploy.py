"""The files in deploy/: mounted files exist, and configurations pass the checks of their programs."""

from __future__ import annotations

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
