"""The key pair of a GitHub App: the secret that the product holds, and what the simulator knows of it."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from local.simulator.tokens import App
from local.simulator.viewers import Installation

APP_ID = "12345"


@dataclass(frozen=True, slots=True)
class AppKeys:
    """Both halves in PEM."""

    private: str
    public: str

    @classmethod
    def generate(cls) -> AppKeys:
        """A pair that nobody else has."""
        key = rsa.generate_private_key(65537, 2048)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return cls(private.decode(), public.decode())

    @property
    def secret(self) -> dict[str, str]:
        """What Secrets Manager holds for an App that finds its installations itself."""
        return {"app_id": APP_ID, "private_key": self.private}

    def app(self, *installations: Installation) -> App:
        """What GitHub knows."""
        return App(APP_ID, self.public, list(installations))
