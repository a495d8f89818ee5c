"""One head's network: backbones, classifier, freezing, loading weights from any dialect."""
