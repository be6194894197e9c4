"""The REST compatibility kit of Apache Iceberg, unmodified, against `esker serve`.

It runs with the options that are off by default: nested namespaces, slashes and dots in names.
"""

import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from stack.base import jars_of_pom, java_class
from stack.esker import running

KIT = Path(__file__).parent / "rck"
# Number of tests that the kit itself skips or aborts for every server.
NOT_FOR_US = 6


@pytest.mark.slice
@pytest.mark.engine("Compatibility kit", versions=lambda: {"Iceberg": "1.11.0", "Java": "17"})
def test_every_test_of_the_kit_that_can_run_passes(tmp_path: Path, record_property) -> None:
    jars = jars_of_pom("rck")
    classes = java_class(KIT / "FullCatalogTests.java", jars)
    allowed = '["file:///tmp"]'  # some of the kit's tests create tables there
    with running(tmp_path, ESKER__WAREHOUSES__DEFAULT__ALLOWED_LOCATIONS=allowed) as server:
        reports = tmp_path / "reports"
        command = [
            "java", "-Xmx1g", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
            "-Drck.local=false", f"-Duri={server.rest}/", "-Dwarehouse=default", f"-Dtoken={server.token}",
            "-Drck.requires-namespace-create=true", "-Drck.supports-names-with-dot=true", "-Drck.supports-variant=true",
            "-cp", f"{classes}:{jars}/*", "org.junit.platform.console.ConsoleLauncher", "execute",
            "--select-class=org.apache.iceberg.rest.FullCatalogTests",
            "--select-class=org.apache.iceberg.rest.RESTCompatibilityKitViewCatalogTests", f"--reports-dir={reports}",
        ]  # fmt: skip
        subprocess.run(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=600)

    passed, aborted, failed = 0, {}, {}
    for report in reports.glob("*.xml"):
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            skipped, failure = case.find("skipped"), case.find("failure")
            failure = failure if failure is not None else case.find("error")
            if skipped is not None:
                aborted[case.get("name")] = (skipped.text or "").strip().split("\n")[0]
            elif failure is not None:
                failed[case.get("name")] = (failure.get("message") or "").split("\n")[0]
            else:
                passed += 1
    print(f"\ncompatibility kit: {passed} passed, {len(failed)} failed, {len(aborted)} not for any server")
    for name, why in sorted(aborted.items()):
        print(f"  not run: {name}: {why}")
    record_property("tests", passed)
    assert failed == {}
    assert len(aborted) <= NOT_FOR_US and passed >= 151
