"""The package as pip installs it: built, installed into an empty environment, and used from another folder."""
