"""How bytes lie in a file: which tensors it names, with their shapes and types, and where the data is.

Nothing here reads a tensor's data, executes what it reads, follows a path out of the file's folder, or imports JAX or
a framework. Every module has `read(path, limits=LIMITS) -> Contents` and raises `BadFileError` for whatever is wrong.
"""
