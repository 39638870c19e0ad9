"""The settings by capability: one file each, and one class in it that `Settings` inherits from.

A function that needs the settings of one capability can say so in its signature: `Settings` is each of these classes.
"""
