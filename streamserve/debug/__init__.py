"""What a program that does not move is doing."""
