"""One recorded history of a bank, which ends in the same blocks on every engine and with every version."""
