"""How a statement about a model is marked: what it says, what is true, and what a wrong number is instead."""
