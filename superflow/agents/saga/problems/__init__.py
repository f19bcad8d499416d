"""Problems by subject. A function here is a statement (its docstring) and the reference solution (the rest).

References are plain on purpose, and call nothing of this package: what they say is the truth that tests are made from.
Distances are metres over ground between centres, the vehicle stands at the origin, x forward, y left.
"""
