"""Named operations on pixels and pipelines of them; the one importer of albumentations."""
