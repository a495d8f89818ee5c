"""Labels that are probably wrong: python -m data.audit."""
