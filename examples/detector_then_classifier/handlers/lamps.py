"""Finds the lamps in dark pictures, and says which colour each has."""

import asyncio
import io

import numpy as np
from PIL import Image

from listener import BadRequest, Handler, Reply

COLOURS = ("black", "white", "red", "green", "blue", "yellow")


def opened(instances):
    return [Image.open(io.BytesIO(instance)).convert("RGB") for instance in instances]


def pixels(picture, side, box=None):
    small = picture.resize((side, side), Image.Resampling.BOX, box)
    return np.asarray(small, np.float32).transpose(2, 0, 1) / 255


class Lamps(Handler):
    model = "detector"
    uses = ("classifier",)  # waited for as well, and in self.models

    async def predict(self, call):
        try:
            pictures = await asyncio.to_thread(opened, call.instances)  # the event loop is not for computing
        except (TypeError, OSError):
            raise BadRequest("instances are JPEG or PNG pictures") from None
        batch = {"pixels": np.stack([pixels(picture, 32) for picture in pictures])}
        found = await self.models["detector"].infer(batch)
        lamps = [(n, box) for n, row in enumerate(found["boxes"]) for box in row[found["scores"][n] > 0.5]]
        predictions = [[] for _ in pictures]
        if lamps:  # those of all pictures in one call
            crops = [pixels(pictures[n], 8, tuple(box * (pictures[n].size * 2))) for n, box in lamps]
            shares = await self.models["classifier"].infer({"pixels": np.stack(crops)})
            for (n, box), share in zip(lamps, shares["share"], strict=True):
                predictions[n].append({"box": box.tolist(), "colour": COLOURS[share.argmax()]})
        return Reply(predictions)
