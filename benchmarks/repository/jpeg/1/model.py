"""What one writes when Triton has to do it all: pre-processing inside a Python model, then what `pool` does."""

import base64

import numpy as np
import triton_python_backend_utils as pb

from benchmarks.pictures import bands, pixels


class TritonPythonModel:
    def execute(self, requests):
        return [pb.InferenceResponse([pb.Tensor("Y", bands(pictures(request)))]) for request in requests]


def pictures(request):
    texts = pb.get_input_tensor_by_name(request, "X").as_numpy()
    return np.stack([pixels(base64.b64decode(text)) for text in texts.ravel()])
