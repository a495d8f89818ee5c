"""The report of a submission: load the data, analyse it, render the results."""
