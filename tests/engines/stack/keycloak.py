"""Keycloak in its development mode on 127.0.0.1, from the distribution in Maven Central. It has one realm, `lake`.

The realm has the groups `analysts` and `managers`, the user `ann` of the first one, and these clients:

- `engine` is an analyst, and `boss` a manager: services with a secret.
- `brief` is an analyst whose tokens end after five seconds.
- `stranger` is an analyst whose tokens are for nobody.
- `esker-page` is the public client of the page, with PKCE.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from .base import artifact, free_port, stop, wait_until

VERSION = "26.4.7"
SHA256 = "aca60ab72ae4d67adc6b8fe7fca5e08d16a6bb5e4a4f2ebb54050e3f5503fd2b"
REALM = "lake"
PAGE_CLIENT = "esker-page"
PASSWORD = "the-password-of-everybody"
SERVICES = {"engine": "analysts", "boss": "managers", "brief": "analysts", "stranger": "analysts"}
KEY_PROVIDER = "org.keycloak.keys.KeyProvider"


@dataclass
class Keycloak:
    url: str

    @property
    def issuer(self) -> str:
        return f"{self.url}/realms/{REALM}"

    @property
    def token_endpoint(self) -> str:
        return f"{self.issuer}/protocol/openid-connect/token"

    def token(self, client: str) -> str:
        """Returns an access token of a service."""
        form = {"grant_type": "client_credentials", "client_id": client, "client_secret": secret_of(client)}
        return ask("POST", self.token_endpoint, data=form)["access_token"]

    def add_key(self) -> None:
        """Makes a new key, which signs from now on. The earlier ones stay published."""
        key = {
            "name": "a-new-key",
            "providerId": "rsa-generated",
            "providerType": KEY_PROVIDER,
            "parentId": self._admin("GET", "")["id"],
            "config": {"priority": ["1000"], "enabled": ["true"], "active": ["true"], "keySize": ["2048"]},
        }
        self._admin("POST", "/components", json=key)

    def remove_earlier_keys(self) -> None:
        """Withdraws all keys for signatures of tokens but the new one."""
        for key in self._admin("GET", f"/components?type={KEY_PROVIDER}"):
            if key["providerId"] == "rsa-generated" and key["name"] != "a-new-key":
                self._admin("DELETE", f"/components/{key['id']}")

    def _admin(self, method: str, path: str, **arguments):
        form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": PASSWORD}
        token = ask("POST", f"{self.url}/realms/master/protocol/openid-connect/token", data=form)["access_token"]
        headers = {"authorization": f"Bearer {token}"}
        return ask(method, f"{self.url}/admin/realms/{REALM}{path}", headers=headers, **arguments)


def ask(method: str, url: str, **arguments):
    answer = requests.request(method, url, timeout=60, **arguments)
    assert answer.ok, f"{method} {url}: {answer.status_code} {answer.text}"
    return answer.json() if answer.content else None


def secret_of(client: str) -> str:
    return f"the-secret-of-{client}"


def mapper(name: str, kind: str, config: dict[str, str]) -> dict:
    return {"name": name, "protocol": "openid-connect", "protocolMapper": kind, "config": config}


def realm(page: str) -> dict:
    """Returns the realm. `page` is the address of the Esker server."""
    in_tokens = {"access.token.claim": "true", "id.token.claim": "true", "introspection.token.claim": "true"}
    in_groups = in_tokens | {"claim.name": "groups", "full.path": "false"}
    groups = mapper("groups", "oidc-group-membership-mapper", in_groups)
    for_esker = {"included.custom.audience": "esker", "access.token.claim": "true", "id.token.claim": "false"}
    audience = mapper("audience", "oidc-audience-mapper", for_esker)
    clients, users = [], []
    for name, group in SERVICES.items():
        service = {
            "clientId": name,
            "secret": secret_of(name),
            "publicClient": False,
            "serviceAccountsEnabled": True,
            "standardFlowEnabled": False,
            "protocolMappers": [groups] if name == "stranger" else [groups, audience],
            "attributes": {"access.token.lifespan": "5"} if name == "brief" else {},
        }
        account = {"username": f"service-account-{name}", "enabled": True, "serviceAccountClientId": name}
        clients.append(service)
        users.append(account | {"groups": [f"/{group}"]})
    attributes = {"pkce.code.challenge.method": "S256", "post.logout.redirect.uris": f"{page}/login"}
    clients.append(
        {
            "clientId": PAGE_CLIENT,
            "publicClient": True,
            "standardFlowEnabled": True,
            "redirectUris": [f"{page}/login/sso/callback"],
            "attributes": attributes,
            "protocolMappers": [groups],
        }
    )
    # Without a name and an address, Keycloak asks a user for them.
    ann = {"username": "ann", "firstName": "Ann", "lastName": "Other", "email": "ann@example.com"}
    password = {"type": "password", "value": PASSWORD, "temporary": False}
    users.append(ann | {"enabled": True, "emailVerified": True, "credentials": [password], "groups": ["/analysts"]})
    return {
        "realm": REALM,
        "enabled": True,
        "sslRequired": "none",
        "accessTokenLifespan": 300,
        "groups": [{"name": "analysts"}, {"name": "managers"}],
        "clients": clients,
        "users": users,
    }


@contextmanager
def running_keycloak(directory: Path, page: str) -> Iterator[Keycloak]:
    """Starts Keycloak. It changes its own files when it starts, so it is unpacked anew each time."""
    archive = artifact(f"org.keycloak:keycloak-quarkus-dist:{VERSION}:tar.gz")
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    assert found == SHA256, f"{archive} is not the release {VERSION}"
    with tarfile.open(archive) as packed:
        packed.extractall(directory, filter="data")
    home = directory / f"keycloak-{VERSION}"
    (home / "data" / "import").mkdir(parents=True)
    (home / "data" / "import" / f"{REALM}-realm.json").write_text(json.dumps(realm(page)))
    port, log = free_port(), directory / "keycloak.log"
    url = f"http://127.0.0.1:{port}"
    command = [home / "bin" / "kc.sh", "start-dev", "--import-realm", "--http-host=127.0.0.1", f"--http-port={port}"]
    admin = {"KC_BOOTSTRAP_ADMIN_USERNAME": "admin", "KC_BOOTSTRAP_ADMIN_PASSWORD": PASSWORD}
    with log.open("w") as out:
        process = subprocess.Popen(command, env=os.environ | admin, stdout=out, stderr=out, cwd=directory)
    keycloak = Keycloak(url)
    document = f"{keycloak.issuer}/.well-known/openid-configuration"
    try:
        wait_until(lambda: requests.get(document, timeout=5).ok, 240, process, log)
        yield keycloak
    finally:
        stop(process)
