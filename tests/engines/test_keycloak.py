"""Users and services of a real Keycloak: what they may do, keys that are replaced, tokens that end, and the log-in."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pytest
import requests
from playwright.sync_api import Page
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import ForbiddenError, NoSuchTableError
from stack.base import free_port
from stack.browser import running_chromium
from stack.esker import Server, running
from stack.keycloak import PAGE_CLIENT, PASSWORD, Keycloak, running_keycloak, secret_of

pytestmark = pytest.mark.timeout(600)

ROWS = pa.table({"id": pa.array(range(3), pa.int64())})


@dataclass
class Lake:
    """A server with access control, and the provider of its users."""

    keycloak: Keycloak
    server: Server

    def catalog(self, client: str) -> Catalog:
        """Returns a catalog of PyIceberg, which fetches its tokens at Keycloak."""
        return load_catalog(
            f"lake-{client}", type="rest", uri=self.server.rest, warehouse="default", scope="openid",
            credential=f"{client}:{secret_of(client)}", **{"oauth2-server-uri": self.keycloak.token_endpoint},
        )  # fmt: skip

    def ask(self, token: str) -> requests.Response:
        """Sends a request with a token."""
        headers = {"authorization": f"Bearer {token}"}
        return requests.get(f"{self.server.rest}/v1/default/namespaces", headers=headers, timeout=30)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """Starts both. Members of the group `analysts` may read the namespace `sales`, and nobody else anything."""
    port = free_port()
    page = f"http://127.0.0.1:{port}"
    with running_keycloak(tmp_path_factory.mktemp("keycloak"), page) as keycloak:
        settings = {
            "ISSUER": keycloak.issuer,
            "AUDIENCES": '["esker"]',
            "CLAIMS": '["groups"]',
            "CLOCK_SKEW_SECONDS": "0",
            "KEYS_REFRESH_SECONDS": "1",
            "KEYS_REFETCH_SECONDS": "1",
            "KEYS_OVERLAP_SECONDS": "0",
            "LOGIN__CLIENT_ID": PAGE_CLIENT,
        }
        settings = {f"ESKER__AUTH__OIDC__SSO__{key}": value for key, value in settings.items()}
        settings |= {"ESKER__SERVER__REST_PORT": str(port), "ESKER__SERVER__PUBLIC_URL": page}
        with running(tmp_path_factory.mktemp("esker"), **settings) as server:
            catalog = server.catalog()
            for name in ("sales.orders", "hr.salaries"):
                catalog.create_namespace(name.partition(".")[0])
                catalog.create_table(name, ROWS.schema).append(ROWS)
            server.control_access()
            server.add_role("readers", f"claim:analysts@{keycloak.issuer}")
            server.grant("role:readers", "USE", "warehouse default")
            server.grant("role:readers", "SELECT", "namespace default.sales")
            yield Lake(keycloak, server)


def wait_for(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.2)


def test_a_service_reads_what_its_group_may_and_no_more(lake: Lake) -> None:
    catalog = lake.catalog("engine")
    orders = catalog.load_table("sales.orders")
    assert orders.scan().to_arrow().num_rows == 3
    assert catalog.list_namespaces() == [("sales",)]
    with pytest.raises(ForbiddenError):
        orders.append(ROWS)
    with pytest.raises(NoSuchTableError):
        catalog.load_table("hr.salaries")
    of_others = lake.ask(lake.keycloak.token("boss"))
    assert of_others.status_code in (403, 404), of_others.text
    of_nobody = lake.ask(lake.keycloak.token("stranger"))
    assert of_nobody.status_code == 401 and "audience" in of_nobody.text, of_nobody.text
    assert lake.server.sql("SELECT count(*) FROM sales.orders") == [(3,)]


def test_a_token_that_has_ended_is_refused(lake: Lake) -> None:
    token = lake.keycloak.token("brief")
    assert lake.ask(token).status_code == 200
    wait_for(lambda: lake.ask(token).status_code == 401, "the token goes on")
    assert "it has ended" in lake.ask(token).text


def opened(page: Page, lake: Lake) -> None:
    """Goes from the page of Esker to the form of Keycloak."""
    page.goto(f"{lake.server.rest}/")
    page.get_by_role("link", name="Log in with sso").click()
    page.wait_for_selector("#username")
    assert page.url.startswith(lake.keycloak.issuer), page.url


def test_a_person_logs_in_to_the_page_and_out_of_both(lake: Lake) -> None:
    with running_chromium() as browser:
        page = browser.new_context().new_page()
        opened(page, lake)
        page.fill("#username", "ann")
        page.fill("#password", PASSWORD)
        page.click("#kc-login")
        page.wait_for_url(f"{lake.server.rest}/")
        text = page.inner_text("body")
        assert lake.keycloak.issuer in text and "sales.orders" in text, text
        assert "hr.salaries" not in text
        assert page.evaluate("() => document.cookie") == "", "no script sees the session"
        # Keycloak asks, because it gets no hint.
        page.get_by_role("button", name="Log out").click()
        page.click("#kc-logout")
        page.wait_for_url(f"{lake.server.rest}/login")
        opened(page, lake)
        page.fill("#username", "ann")
        page.fill("#password", "wrong")
        page.click("#kc-login")
        page.wait_for_selector("#input-error, #input-error-username, #input-error-password")
        page.goto(f"{lake.server.rest}/")
        assert re.search("/login$", page.url), page.url


def test_keys_are_replaced_while_tokens_are_in_use(lake: Lake) -> None:
    """Runs last: the tokens of the other tests have keys that this one withdraws."""
    earlier = lake.keycloak.token("engine")
    assert lake.ask(earlier).status_code == 200
    lake.keycloak.add_key()
    later = lake.keycloak.token("engine")
    wait_for(lambda: lake.ask(later).status_code == 200, "the new key is not fetched")
    assert lake.ask(earlier).status_code == 200, "the earlier key is still published"
    lake.keycloak.remove_earlier_keys()
    wait_for(lambda: lake.ask(earlier).status_code == 401, "the withdrawn key goes on")
    assert lake.ask(lake.keycloak.token("engine")).status_code == 200
    assert lake.catalog("engine").load_table("sales.orders").scan().to_arrow().num_rows == 3
