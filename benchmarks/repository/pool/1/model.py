"""Means of ten bands of a picture; benchmarks/pictures.py says which."""

import triton_python_backend_utils as pb

from benchmarks.pictures import bands


class TritonPythonModel:
    def execute(self, requests):
        return [pb.InferenceResponse([pb.Tensor("Y", bands(pictures(request)))]) for request in requests]


def pictures(request):
    return pb.get_input_tensor_by_name(request, "X").as_numpy()
