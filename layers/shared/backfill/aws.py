"""AWS clients that give up soon: in a VPC without a way to a service, boto3's own minute of waiting ends in a timeout of the
function that explains nothing."""

from __future__ import annotations

from typing import Any


def client(service: str) -> Any:
    """A client of ``sqs``, ``secretsmanager`` … boto3 takes hundreds of milliseconds to import: only when it is needed."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        service, config=Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "max_attempts": 4})
    )
