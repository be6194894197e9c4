"""The path of docs/security/README.md from nothing to a server on which Spark reads only what the role `analysts` may.

The commands, the configuration and Spark's properties are those of the page. The store is MinIO. There is no identity
provider: lines about one are left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from pyiceberg.exceptions import NoSuchTableError
from stack import minio as store
from stack.base import ROOT, free_port, stop, wait_until
from stack.certificates import certificates
from stack.esker import Server
from stack.minio import Minio

USER, SECRET = "guide", "the-secret-of-guide"
SUMMARY = "count(*), sum(id), max(s)"
RUN = ("esker ", "cp ", "keytool ", "curl -sSf ")


class Guide:
    """The page with the names and places of this run. Its steps are numbered as there."""

    def __init__(self, directory: Path, rest: int, flight: int, endpoint: str) -> None:
        page = (ROOT / "docs" / "security" / "README.md").read_text()
        changes = {
            "/etc/esker": str(directory),
            "/var/lib/esker": str(directory / "data"),
            "https://esker.example:8181": f"https://127.0.0.1:{rest}",
            'listen = "0.0.0.0"': f'listen = "127.0.0.1"\nrest_port = {rest}\nflight_port = {flight}',
            'region = "eu-west-1"': f'region = "{store.REGION}"\nendpoint = "{endpoint}"\n'
            f'access_key_id = "{USER}"\nsecret_access_key = "{SECRET}"',
        }
        for old, new in changes.items():
            assert old in page, old
            page = page.replace(old, new)
        path, check = page.split("## Spark reads only what the role")[1].split("## Check it")
        parts = re.split(r"^\*\*(\d)\. ", path, flags=re.MULTILINE)
        self.steps = dict(zip(map(int, parts[1::2]), parts[2::2], strict=True)) | {0: check.split("\n## ")[0]}
        java = Path(shutil.which("java")).resolve().parent.parent
        (directory / "bin").mkdir()
        (directory / "bin" / "esker").symlink_to(Path(os.environ["ESKER_BIN"]).absolute())
        self.directory = directory
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("ESKER_")}
        self.env |= {"PATH": f"{directory / 'bin'}{os.pathsep}{os.environ['PATH']}", "JAVA_HOME": str(java)}

    def block(self, step: int, language: str) -> str:
        """Returns the first block of a step in a language."""
        return re.search(rf"^```{language}\n(.*?)^```", self.steps[step], re.MULTILINE | re.DOTALL)[1]

    def configure(self) -> Path:
        """Writes the configuration, without the identity provider."""
        text, sections = re.subn(r"^\[auth\.oidc\.sso\]\n(.+\n)+\n", "", self.block(1, "toml"), flags=re.MULTILINE)
        assert sections == 1
        path = self.directory / "esker.toml"
        path.write_text(text)
        return path

    def run(self, step: int) -> dict[str, str]:
        """Runs the commands of a step. Returns what each printed, by its text without the comment."""
        printed = {}
        for block in re.findall(r"^```sh\n(.*?)^```", self.steps[step], re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                command = line.partition("  #")[0].strip()
                if command.startswith(RUN) and "idp.example" not in command and not command.startswith("esker serve"):
                    printed[command] = self.shell(command)
        assert printed, f"step {step} has no command"
        return printed

    def shell(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", command], cwd=self.directory, env=self.env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
        return done.stdout


@contextmanager
def serving(guide: Guide, rest: int, flight: int) -> Iterator[tuple[Server, Path]]:
    """Starts the server with the page's configuration. Yields it, with the token that its start prints, and its log."""
    log, ca = guide.directory / "esker.log", guide.directory / "ca.crt"
    command = ["bash", "-euc", f"exec esker serve --config {guide.configure()}"]
    with log.open("w") as out:
        process = subprocess.Popen(command, env=guide.env, cwd=guide.directory, stdout=out, stderr=out)
    try:
        url = f"https://127.0.0.1:{rest}"
        wait_until(lambda: "esk_" in log.read_text(), 40, process, log)
        wait_until(lambda: requests.get(f"{url}/readyz", timeout=1, verify=str(ca)).ok, 40, process, log)
        token = re.search(r"\btoken +(esk_[\w-]+)", log.read_text())[1]
        yield Server(process, url, f"grpc+tls://127.0.0.1:{flight}", token, ca), log
    finally:
        stop(process)


@pytest.mark.usefixtures("no_keys", "no_bundles")
def test_spark_reads_only_what_the_role_may(minio: Minio, tmp_path: Path) -> None:
    # Imported here, as the fixture of the session does it.
    from stack.spark import submitted

    minio.add_user(USER, SECRET)
    certificates(tmp_path)
    rest, flight = free_port(), free_port()
    guide = Guide(tmp_path, rest, flight, minio.endpoint)
    with serving(guide, rest, flight) as (admin, log):
        guide.env |= {"ESKER_URL": admin.rest, "ESKER_FLIGHT_URL": f"https://127.0.0.1:{flight}"}
        guide.env |= {"ESKER_CA_FILE": str(admin.ca), "ESKER_TOKEN": admin.token}
        printed = guide.run(1)
        assert "s3://lake/prod" in printed["esker warehouses"]
        guide.run(2)
        guide.run(3)
        made = next(text for command, text in guide.run(4).items() if command.startswith("esker token create spark"))
        token = made.strip()
        spark = replace(admin, token=token)
        assert spark.catalog("lake").load_table("hr.salaries"), "nothing is refused in the mode report"
        assert spark.sql("SELECT count(*) FROM lake.hr.salaries") == [(3,)]
        reported = [line for line in log.read_text().splitlines() if "would be refused in the mode on" in line]
        of_flight = [line for line in reported if re.search(r'operation="?(GetFlightInfo|DoGet|DoAction)\b', line)]
        assert len(of_flight) < len(reported), "REST reports too"
        assert any("on=table lake.hr.salaries" in line for line in of_flight), of_flight
        assert "FlightService" not in "".join(reported)
        explained = guide.run(5)
        (allowed,) = (text for command, text in explained.items() if "lake.sales.orders" in command)
        (refused,) = (text for command, text in explained.items() if "lake.hr.salaries" in command)
        assert "allowed by" in allowed and "refused" in refused
        assert "on table lake.sales.orders\n" in allowed

        guide.run(6)
        with pytest.raises(NoSuchTableError):
            spark.catalog("lake").load_table("hr.salaries")
        # The jars are those of the tests, which are fetched once.
        properties = re.sub(r"^spark\.jars\.packages .*\n", "", guide.block(5, "properties")).replace("esk_…", token)
        rows, namespaces, hidden, written = submitted(
            tmp_path,
            properties,
            [
                f"SELECT {SUMMARY} FROM lake.sales.orders",
                "SHOW NAMESPACES IN lake",
                "SELECT * FROM lake.hr.salaries",
                "INSERT INTO lake.sales.orders VALUES (4, 'd')",
            ],
        )
        assert (rows, namespaces) == ([(3, 3, "c")], [("sales",)])
        assert "TABLE_OR_VIEW_NOT_FOUND" in hidden
        assert "Access Denied" in written
        assert admin.sql(f"SELECT {SUMMARY} FROM lake.sales.orders") == [(3, 3, "c")]
        assert spark.sql("SHOW NAMESPACES") == [("lake", "sales"), ("lake", "system")]

        left = guide.run(7)["esker access member list esker:legacy"]
        assert re.findall(r"^client:\w+", left, re.MULTILINE) == ["client:admin"]
        checked = guide.run(0)
        assert not re.findall(r"^client:", checked["esker access member list esker:legacy"], re.MULTILINE)
        assert "mode on" in checked["esker access mode"]
        config, verify = f"{admin.rest}/v1/config", admin.verify
        assert requests.get(config, verify=verify, timeout=30).status_code == 401
        headers = {"authorization": f"Bearer {admin.token}", "host": "elsewhere.example"}
        assert requests.get(config, verify=verify, headers=headers, timeout=30).status_code == 403
