"""From sources (folders, CSV files) to one table of images and labels: identities, corrections, folds, class balance."""
