"""`lat-export bench`: how fast a model runs in each of its forms, in turn, each in a process of its own.

In the order of the data: given (what there is to run) -> sweep (lengths and inputs) -> floor (operations of the linear
layers) -> child and worker (a subject in its process) -> rounds (all subjects in lockstep) -> figures -> measure.
"""
