"""Heads as files for other programs: python -m heads.export."""
