"""The engine: variables that are planned before they hold values, layers, symbolic tensors and the graph they make."""
