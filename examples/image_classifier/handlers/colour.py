"""Says which colour most of a picture has."""

import io

import numpy as np
from PIL import Image

from listener import Handler, InstanceError

COLOURS = ("black", "white", "red", "green", "blue", "yellow")


class Colour(Handler):
    model = "colour"

    def preprocess(self, instance):
        try:
            picture = Image.open(io.BytesIO(instance)).convert("RGB").resize((8, 8), Image.Resampling.BOX)
        except (TypeError, OSError):  # no bytes, or bytes that are no picture
            raise InstanceError("an instance is a JPEG or PNG picture") from None
        return {"pixels": np.asarray(picture, np.float32).transpose(2, 0, 1) / 255}

    def postprocess(self, outputs):
        best = int(outputs["share"].argmax())
        return {"colour": COLOURS[best], "share": float(outputs["share"][best])}
