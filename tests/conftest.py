"""What every test gets without asking."""
