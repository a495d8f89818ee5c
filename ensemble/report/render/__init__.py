"""A report's values as a page, Markdown, or text."""
