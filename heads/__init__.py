"""One head: a resnet backbone and a classifier, trained from one YAML. May import `data`."""
