"""Steps rules: how many adversarial iterations each epoch uses, and how long they are. Each is a file here.

A file's name is the rule's, with _ for -; it defines one StepsRule (steps/rule.py). Pure Python, no tensors.
"""

from steps.rule import Statistics, StepsRule

__all__ = ["Statistics", "StepsRule"]
