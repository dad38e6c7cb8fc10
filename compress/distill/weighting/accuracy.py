"""Teacher and label each trusted by how often they are right: the label always, the teacher as measured.

    a = alpha acc / (alpha acc + 1 - alpha),  which is acc / (acc + 1) at alpha = 1/2

A reconstruction of the "interpretable" weights of Zhao et al. 2022 (Electronics 11:1066), whose formula is not
available.
"""

from __future__ import annotations


def accuracy_share(alpha: float, accuracy: float) -> float:
    """Share of a teacher that is right on `accuracy` (0 to 1) of all images."""
    taught, labelled = alpha * accuracy, 1 - alpha
    return taught / (taught + labelled) if taught + labelled else 0.0
