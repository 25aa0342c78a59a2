"""The scripts that made the sample models. They are not part of the package that is installed."""
