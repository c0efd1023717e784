"""How well `diagnose` tells mistakes from correct models: planted mistakes, correct models, and the score."""
