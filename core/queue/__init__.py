"""The queue is a hint to look at the database; nothing in it has to be believed.

A wake-up says only that something is to be settled. Losing, repeating, delaying or forging one changes nothing: the
worker reads what is pending, and the sweep wakes it where a wake-up was lost.
"""
