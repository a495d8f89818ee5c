"""How fast the program is: ratios against the plain loop, measured side by side on one machine."""
