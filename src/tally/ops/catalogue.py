def describe(f): raise NotImplementedError
def find_op(m, c): raise NotImplementedError
