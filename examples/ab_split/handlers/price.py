"""Says what a home is worth."""

import numpy as np

from listener import Handler, InstanceError


class Price(Handler):
    model = "price"

    def preprocess(self, instance):
        try:
            home = [float(instance[name]) for name in ("rooms", "square_metres", "age")]
        except (TypeError, KeyError, ValueError):
            raise InstanceError("an instance has the numbers rooms, square_metres and age") from None
        return {"x": np.array(home, np.float32)}

    def postprocess(self, outputs):
        return {"price": float(outputs["price"][0])}
