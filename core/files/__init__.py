"""Files that survive a power cut, lock other processes out, or only ever grow."""
