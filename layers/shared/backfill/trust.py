"""Authorities that the system does not know: RDS, Supabase, the private one of an Enterprise Server. Put their files there."""

from __future__ import annotations

import ssl
from pathlib import Path

FOLDER = Path(__file__).parent / "certificates"


def trusted(folder: Path) -> ssl.SSLContext:
    """A context that verifies by the system's authorities and those of the folder. Raises OSError and ssl.SSLError."""
    context = ssl.create_default_context()
    for bundle in sorted(folder.iterdir()):
        if bundle.suffix in (".pem", ".crt"):
            context.load_verify_locations(bundle)
    return context
