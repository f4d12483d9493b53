"""Postgres: one module per aggregate, SQL where it is used."""
