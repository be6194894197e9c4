"""Helpers of the stack: directories of the cache, free ports, Python environments, and jars from Maven."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

ENGINES = Path(__file__).parent.parent
ROOT = ENGINES.parent.parent
CACHE = Path(os.environ["ESKER_CACHE"])


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(ready: Callable[[], bool], seconds: float, process: subprocess.Popen | None, log: Path) -> None:
    """Waits until a server is ready. Fails with the end of its log if it does not become ready."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process is not None and process.poll() is not None:
            break
        try:
            if ready():
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"it did not come up; its log ends so:\n{log.read_text()[-4000:]}")


def stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


def python_of(name: str) -> Path:
    """Returns the Python of the virtual environment for tests/engines/NAME/requirements.txt, which is made once."""
    command = [ROOT / "scripts" / "uv.sh", ENGINES / name / "requirements.txt"]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


def maven(goal: str, *arguments: str, cwd: Path = ENGINES) -> None:
    plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1"
    subprocess.run(["mvn", "-q", "-B", f"{plugin}:{goal}", *arguments], cwd=cwd, check=True)


def jars_of_pom(name: str) -> Path:
    """Returns the directory with the jars of tests/engines/NAME/pom.xml. They are fetched once for each content."""
    pom = ENGINES / name / "pom.xml"
    target = CACHE / "jars" / name
    done = target / ".complete"
    if not done.exists() or done.read_text() != pom.read_text():
        shutil.rmtree(target, ignore_errors=True)
        maven("copy-dependencies", "-DincludeScope=test", f"-DoutputDirectory={target}", cwd=pom.parent)
        done.write_text(pom.read_text())
    return target


def artifact(coordinates: str) -> Path:
    """Returns one Maven artifact, by group:artifact:version[:type[:classifier]]. It is fetched once into the cache."""
    _, name, version, *rest = coordinates.split(":")
    kind, classifier = (*rest, "jar")[0], f"-{rest[1]}" if len(rest) > 1 else ""
    path = CACHE / "jars" / "single" / f"{name}-{version}{classifier}.{kind}"
    if not path.exists():
        maven("copy", f"-Dartifact={coordinates}", f"-DoutputDirectory={path.parent}")
    return path


def java_class(source: Path, *jars: Path) -> Path:
    """Returns the directory with a compiled class. Compiles it again if its source changes. `jars` is the classpath."""
    classes = CACHE / "classes" / source.stem
    stamp = classes / ".source"
    if not stamp.exists() or stamp.read_text() != source.read_text():
        classes.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join(f"{jar}/*" if jar.is_dir() else str(jar) for jar in jars)
        subprocess.run(["javac", "-d", classes, "-cp", path, source], check=True)
        stamp.write_text(source.read_text())
    return classes
