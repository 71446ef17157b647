"""A worker process: records executions until told to stop, then says which were acknowledged.

    python -m tests.client.recording_worker SOCKET JOB NAME

It ends when its standard input does, and prints the prompts that were acknowledged, with their
ids, as one JSON object.
"""

from __future__ import annotations

import json
import select
import sys

from jobkeep import Client


def main(socket: str, job_id: str, name: str) -> None:
    acknowledged: dict[str, int | None] = {}
    with Client(socket, timeout=60.0) as client:
        print("ready", flush=True)
        while not select.select([sys.stdin], [], [], 0)[0]:
            prompt = f"{name}.{len(acknowledged)}"
            acknowledged[prompt] = client.record_execution(job_id, 1, 1, prompt)
    print(json.dumps(acknowledged), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
