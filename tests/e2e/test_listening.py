"""The addresses that the local AWS listens on."""

from __future__ import annotations

import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psutil
import urllib3

from local.stack import Stack


def test_the_local_aws_listens_on_the_loopback_interface_alone(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    stack.logs.mkdir(parents=True)
    state: dict[str, Any] = {"ready": False, "processes": {}, "environment": {}}
    try:
        stack.start_aws(state)
        # Its other doors open after the first.
        ready = f"{state['environment']['AWS_ENDPOINT_URL']}/_ministack/ready"
        deadline = time.monotonic() + 30
        while urllib3.request("GET", ready).status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        parent = psutil.Process(next(iter(state["processes"].values())))
        processes = [parent, *parent.children(recursive=True)]
        listening = {
            each.laddr.ip
            for process in processes
            for each in process.net_connections("inet")
            if each.status == "LISTEN"
        }
        assert listening
        assert all(ip_address(ip).is_loopback for ip in listening), listening
    finally:
        stack.down()
