"""The tests; they mirror the packages, with cross-cutting properties in folders of their own."""
