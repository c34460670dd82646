"""The superstep of a population on a GPU: one launch takes all runs here through many steps.

A block of threads takes tiles of particles, one after another: it moves a tile, evaluates it, and
adds it to the sums of the next consensus, while it is in shared memory, so that a step reads and
writes every position once. Then all blocks wait for each other (a cooperative launch), the sums of
each run are added up, and its superstep is closed by the same code as on a CPU. Tiles belong to
groups, whose sums are added in their order: the bits do not depend on how many blocks there are.

Random words are those of the CPU; what is computed of them may differ from it in the last bits.
"""
