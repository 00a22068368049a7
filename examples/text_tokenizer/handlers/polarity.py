"""Says how friendly a text is: words become ids here, and ids a probability in the model."""

import re

import numpy as np

from listener import Handler, InstanceError

TOKENS = 16  # as many as the model takes; 0 stands for none


class Polarity(Handler):
    model = "polarity"
    example = "what a lovely day"

    def load(self, artifacts):
        words = (artifacts / "vocabulary.txt").read_text().split()
        self.ids = {word: number for number, word in enumerate(words, 1)}

    def preprocess(self, instance):
        if not isinstance(instance, str):
            raise InstanceError("an instance is a text")
        words = re.findall(r"\w+", instance.lower())
        known = [self.ids[word] for word in words if word in self.ids][:TOKENS]
        return {"ids": np.pad(np.array(known, np.int64), (0, TOKENS - len(known)))}

    def postprocess(self, outputs):
        return {"friendly": float(outputs["probabilities"][0])}
