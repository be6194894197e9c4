"""Runs Esker's external jobs on Spark, until there are none left.

    spark-submit esker_spark.py --url http://esker:8181 --catalog lake
    SPARK_REMOTE=sc://spark:15002 python esker_spark.py --url http://esker:8181 --catalog lake     # Spark Connect

`--catalog` is Spark's name of the catalog of Esker's warehouse; for several warehouses, repeat WAREHOUSE=CATALOG. The
token is taken from ESKER_TOKEN. The worker keeps a job as long as it renews its lease; if it dies, another worker gets
the job. A job calls Iceberg's procedure `rewrite_data_files` with Esker's arguments. It fails if Spark rewrote fewer
files than Esker planned.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import threading
import urllib.error
import urllib.request
import uuid
from typing import Any

ENGINE = "spark"


class Esker:
    """A client of the part of Esker's management API that a worker needs."""

    def __init__(self, url: str, token: str | None, worker: str, lease_seconds: int) -> None:
        self.url, self.token, self.worker, self.lease_seconds = url.rstrip("/"), token, worker, lease_seconds

    def post(self, path: str, body: dict) -> Any:
        headers = {"content-type": "application/json"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path}: {error.code} {error.read().decode(errors='replace')[:500]}") from None
        return json.loads(text) if text else None

    def claim(self) -> dict | None:
        body = {"engine": ENGINE, "worker": self.worker, "lease-seconds": self.lease_seconds}
        return self.post("/api/v1/jobs/claim", body)

    def renew(self, job: str) -> bool:
        """Renews the lease of a job. Returns True if the job is to be cancelled."""
        body = {"worker": self.worker, "lease-seconds": self.lease_seconds}
        return self.post(f"/api/v1/jobs/{job}/renew", body)["cancelled"]

    def finish(self, job: str, state: str, **fields: Any) -> None:
        self.post(f"/api/v1/jobs/{job}/finish", {"state": state, "worker": self.worker, **fields})


def literal(value: str | dict[str, str]) -> str:
    """Returns a text, or a map of texts, as an SQL literal."""
    if isinstance(value, dict):
        return f"map({', '.join(f'{literal(k)}, {literal(v)}' for k, v in value.items())})"
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def statement(job: dict, catalog: str) -> str:
    arguments = ", ".join(f"{name} => {literal(value)}" for name, value in job["arguments"].items())
    return f"CALL `{catalog}`.system.{job['procedure']}({arguments})"


def shortfall(job: dict, outcome: dict) -> str | None:
    """Returns the error of a job whose planned files Spark did not all rewrite, by the output of the procedure.

    With partial progress, the procedure returns although commits were refused, and counts their files nowhere.
    """
    rewritten, failed = (outcome.get(f"{what}_data_files_count") or 0 for what in ("rewritten", "failed"))
    # An earlier Esker gives the number of bytes only.
    planned = job.get("files", rewritten + failed)
    left = max(planned - rewritten, failed)
    if left == 0 and (rewritten or not job["bytes"]):
        return None
    what = f"{left} of {planned} data files were not rewritten" if left else "no data file was rewritten"
    why = "a commit was refused, or the files were replaced meanwhile; Spark's log has the reason"
    return f"{job['table']}: {what} ({rewritten} were rewritten, {failed} failed): {why}"


class Lease:
    """Renews a job's lease while the job runs, and stops the job if it is cancelled or its lease is lost."""

    def __init__(self, esker: Esker, job: str, stop) -> None:
        self.esker, self.job, self.stop, self.why = esker, job, stop, None
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        while not self.over.wait(self.esker.lease_seconds / 4):
            try:
                if not self.esker.renew(self.job):
                    continue
                self.why = "cancelled"
            except RuntimeError as error:
                self.why = f"lost: {error}"
            except OSError as error:
                # Esker may be restarting. The lease lasts for three more attempts.
                print(f"job {self.job}: the lease could not be renewed: {error}", file=sys.stderr)
                continue
            self.stop()
            return

    def __enter__(self) -> Lease:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def work(spark, esker: Esker, job: dict, catalog: str) -> None:
    """Runs one job, and reports its outcome to Esker."""
    sql = statement(job, catalog)
    print(f"job {job['id']}: {sql}")
    connect = type(spark).__module__.startswith("pyspark.sql.connect")
    tag = f"esker-{job['id']}"

    def stop() -> None:
        spark.interruptTag(tag) if connect else spark.sparkContext.cancelAllJobs()

    with Lease(esker, job["id"], stop) as lease:
        try:
            if connect:
                spark.addTag(tag)
            outcome = spark.sql(sql).collect()[0].asDict()
        except Exception as error:  # Py4J's, Connect's and Spark's exceptions have no common class
            failure = f"{type(error).__name__}: {str(error)[:1500]}"
        else:
            failure = shortfall(job, outcome)
        finally:
            if connect:
                spark.removeTag(tag)
    if lease.why and lease.why != "cancelled":
        print(f"job {job['id']}: {lease.why}", file=sys.stderr)
    elif lease.why and failure:
        esker.finish(job["id"], "cancelled")
    elif failure:
        esker.finish(job["id"], "failed", error=failure)
    else:
        print(f"job {job['id']}: {outcome}")
        esker.finish(job["id"], "succeeded", outcome=outcome)


def main(arguments: list[str] | None = None, spark=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default=os.environ.get("ESKER_URL", "http://127.0.0.1:8181"))
    parser.add_argument("--catalog", action="append", required=True, metavar="[WAREHOUSE=]CATALOG")
    parser.add_argument("--lease-seconds", type=int, default=120)
    parser.add_argument("--most", type=int, default=1000, help="maximum number of jobs")
    options = parser.parse_args(arguments)
    pairs = [name.split("=", 1) for name in options.catalog]
    catalogs = {pair[0] if len(pair) == 2 else "": pair[-1] for pair in pairs}
    worker = f"spark/{socket.gethostname()}/{uuid.uuid4().hex[:8]}"
    esker = Esker(options.url, os.environ.get("ESKER_TOKEN"), worker, options.lease_seconds)
    done = 0
    while done < options.most and (job := esker.claim()):
        catalog = catalogs.get(job["warehouse"]) or catalogs.get("")
        if catalog is None:
            why = f"{worker} has no catalog for warehouse {job['warehouse']}: give --catalog"
            esker.finish(job["id"], "failed", error=why)
            return 1
        if spark is None:
            from pyspark.sql import SparkSession

            spark = SparkSession.builder.appName("esker").getOrCreate()
        work(spark, esker, job, catalog)
        done += 1
    print(f"{done} jobs done, none left" if done < options.most else f"{done} jobs done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
