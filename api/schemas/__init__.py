"""What goes in and comes out, one file for each noun."""
