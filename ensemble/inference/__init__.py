"""Images to probabilities: predictor, views, early exit, resumable runs over many images."""
