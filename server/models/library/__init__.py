"""Providers by the multi-provider library. Importing a module of this folder costs seconds and tens of megabytes, so
only `server/models/remote.py` does, when a model of such a provider is used for the first time."""
