"""One head: a resnet trunk and a classifier, trained from one YAML. May import `data`."""
