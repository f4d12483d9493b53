"""GitHub: authentication, transport, documents, packing, the governor, records."""
