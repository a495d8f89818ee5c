"""Labels and images: from files that others wrote to one table and pixels; imports none of ours."""
