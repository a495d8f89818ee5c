"""Drawn faces, not real people: who they are (`person`), how they are drawn (`photograph` and its parts)."""
