"""Transfers: accepting, settling, cancelling and listing them."""
