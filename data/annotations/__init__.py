"""Sources (folders, CSV files) as one table of images and labels; corrections, folds, class balance."""
