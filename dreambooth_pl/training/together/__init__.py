"""Several runs that train side by side on one frozen base, each with its own adapters."""
